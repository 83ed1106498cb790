"""What backbones get wrong: the test images, their labels, and what was said of them instead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pandas as pd

from stages.report.runs import Run


@dataclass(frozen=True)
class Mistake:
    """A test image and its label, where it lies in the source, what was predicted, and how surely."""

    file: str
    path: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Sheet:
    """The first of `count` mistakes, side by side."""

    shown: list[Mistake]
    count: int

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.count - len(self.shown)


def of_backbone(run: Run, paths: Mapping[str, str], most: int) -> Sheet:
    """Return what one backbone gets wrong, what it is surest of first.

    `paths` says where each file of data/raw lies in the source.
    """
    tested = run.tested
    return _sheet(tested[tested["label"] != tested["predicted"]], paths, most)


def of_all(runs: Sequence[Run], paths: Mapping[str, str], most: int) -> Sheet:
    """Return what no backbone gets right, each image with the answer that was given most surely."""
    wrong = [run.tested[run.tested["label"] != run.tested["predicted"]] for run in runs]
    files = reduce(pd.Index.intersection, (pd.Index(table["file"]) for table in wrong))
    answers = pd.concat(wrong, ignore_index=True)
    surest = answers[answers["file"].isin(files)].sort_values("confidence", ascending=False, kind="stable")
    return _sheet(surest.drop_duplicates("file"), paths, most)


def _sheet(wrong: pd.DataFrame, paths: Mapping[str, str], most: int) -> Sheet:
    first = wrong.sort_values(["confidence", "file"], ascending=[False, True], kind="stable").head(most)
    rows: list[dict[Any, Any]] = first[["file", "label", "predicted", "confidence"]].to_dict("records")
    return Sheet([Mistake(path=paths[row["file"]], **row) for row in rows], len(wrong))
