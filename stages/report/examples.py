"""Test images that the page shows: what backbones get wrong, and where they look."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core import files
from stages.report.runs import Run

# Of more of the test images that all get wrong most labels are right, and the backbones too weak.
_DOUBTFUL = 0.1


@dataclass(frozen=True)
class Example:
    """An image as the network gets it and, where it has a feature map, the heatmap of its prediction over it.

    Both are data URLs; `overlay` may be empty.
    """

    label: str
    predicted: str
    confidence: float
    right: bool
    image: str
    overlay: str


@dataclass(frozen=True)
class Explanation:
    """What stage explain wrote about one backbone: `places` has file, label, x, y of test images on its map."""

    examples: list[Example]
    places: pd.DataFrame


@dataclass(frozen=True)
class Mistake:
    """A test image, where it lies in the source, its label, what was predicted, and with which confidence."""

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


def read_explanation(folder: Path) -> Explanation:
    """Return what stage explain wrote about one backbone into `folder`."""
    table = files.read_csv(folder / "examples.csv", text=("file", "label", "predicted", "right", "image", "overlay"))
    examples = [
        Example(
            row["label"],
            row["predicted"],
            float(row["confidence"]),
            row["right"] == "true",
            _data_url(folder / row["image"]),
            _data_url(folder / row["overlay"]) if row["overlay"] else "",
        )
        for row in table.to_dict("records")
    ]
    return Explanation(examples, files.read_csv(folder / "embedding.csv", text=("file", "label")))


def _data_url(image: Path) -> str:
    return "data:image/webp;base64," + base64.b64encode(image.read_bytes()).decode("ascii")


def mistakes_of(run: Run, paths: Mapping[str, str], most: int) -> Sheet:
    """Return what one backbone gets wrong, the most confident mistakes first, `most` at most.

    `paths` says where each file of data/raw lies in the source.
    """
    return _sheet(_wrong(run), paths, most)


def mistakes_of_all(runs: Sequence[Run], paths: Mapping[str, str], most: int) -> Sheet:
    """Return what every backbone gets wrong, each image with the most confident of the predictions."""
    wrong = [_wrong(run) for run in runs]
    everywhere = reduce(pd.Index.intersection, (pd.Index(table["file"]) for table in wrong))
    answers = pd.concat(wrong, ignore_index=True)
    confident = answers[answers["file"].isin(everywhere)].sort_values("confidence", ascending=False, kind="stable")
    return _sheet(confident.drop_duplicates("file"), paths, most)


def labels_doubtful(runs: Sequence[Run], wrong_by_all: int) -> bool:
    """Return whether the labels of images that all backbones get wrong are worth a look.

    They are not where many images are too hard for all, or where every backbone has random weights.
    """
    return wrong_by_all <= _DOUBTFUL * len(runs[0].tested) and not all(run.random for run in runs)


def _wrong(run: Run) -> pd.DataFrame:
    return run.tested[run.tested["label"] != run.tested["predicted"]]


def _sheet(wrong: pd.DataFrame, paths: Mapping[str, str], most: int) -> Sheet:
    first = wrong.sort_values(["confidence", "file"], ascending=[False, True], kind="stable").head(most)
    rows: list[dict[Any, Any]] = first[["file", "label", "predicted", "confidence"]].to_dict("records")
    return Sheet([Mistake(path=paths[row["file"]], **row) for row in rows], len(wrong))
