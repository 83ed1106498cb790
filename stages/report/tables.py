"""What the page's tables show beside the numbers of each backbone."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from stages.core.dataset.prepared import SPLITS
from stages.pages.language import Language
from stages.report.runs import Run, counts, shares

_LONGEST_LIST = 15
# The recall of a class with fewer test images is a count: 100 % of one image is no recall.
FEW_TESTED = 10
# Columns of the table of accuracies with fewer images.
_MOST_SHARES = 5
_MACHINE = ("processor", "threads", "engine", "precision")


def metrics(language: Language) -> list[tuple[str, str]]:
    """Return the metrics that have an interval, with their names for people."""
    return [
        ("accuracy", language.gettext("accuracy")),
        ("balanced_accuracy", language.gettext("balanced accuracy")),
        ("macro_f1", language.gettext("macro F1")),
        ("log_loss", language.gettext("log loss")),
    ]


def machines(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Return the machines on which costs were measured, and of which backbones."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for run in runs:
        found.setdefault(tuple(run.benchmark[key] for key in _MACHINE), []).append(run.backbone)
    return [dict(zip(_MACHINE, values, strict=True)) | {"backbones": names} for values, names in found.items()]


def training_shares(runs: Iterable[Run]) -> list[float]:
    """Return some fractions of the training images on which all backbones were trained that have any, ascending."""
    trained = [{share["share"] for share in run.metrics["shares"]} for run in runs if run.metrics["shares"]]
    shares = sorted(set.intersection(*trained)) if trained else []
    shown = np.linspace(0, len(shares) - 1, min(len(shares), _MOST_SHARES)).round().astype(int)
    return [shares[place] for place in shown]


def grid(run: Run) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """Return the confusion row by row: the actual class, then predicted class, images and fraction of the row."""
    found = counts(run)
    cells = zip(found.tolist(), shares(found).tolist(), strict=True)
    return [
        (name, list(zip(run.classes, images, portion, strict=True)))
        for name, (images, portion) in zip(run.classes, cells, strict=True)
    ]


def most_confused(run: Run) -> list[tuple[str, str, int, float]]:
    """Return the most frequent confusions: actual class, predicted class, images, fraction of the actual class.

    Where not all fit, those of a single image are left out: which of them would be shown says nothing.
    """
    found = counts(run)
    portion = shares(found)
    wrong = found * (1 - np.eye(len(found), dtype=np.int64))
    if np.count_nonzero(wrong) > _LONGEST_LIST:
        wrong[wrong == 1] = 0
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LONGEST_LIST]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        (run.classes[row], run.classes[column], int(wrong[row, column]), float(portion[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[row, column]
    ]


def few_tested(run: Run) -> bool:
    """Return whether half of the classes have fewer than `FEW_TESTED` test images."""
    return bool(np.median([row["support"] for row in run.metrics["per_class"].values()]) < FEW_TESTED)


def images(splits: pd.DataFrame, classes: list[str]) -> dict[str, list[int]]:
    """Return the number of images of each class in each split."""
    table = pd.crosstab(splits["label"], splits["split"]).reindex(index=classes, columns=SPLITS, fill_value=0)
    return {name: [int(number) for number in row] for name, row in zip(classes, table.to_numpy(), strict=True)}
