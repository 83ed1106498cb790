"""The model card of an exported classifier: its training data, quality, failures, and the origin of its weights.

Its sections follow Mitchell et al. 2019, "Model cards for model reporting". Model registries read the block at its top
(https://huggingface.co/docs/hub/model-cards). Always in English, as such cards are, for any `report.language`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.intervals import wilson
from stages.core.measure import Measure
from stages.core.settings.report import ACCURACY
from stages.exports.licences import Licence
from stages.pages.language import ENGLISH
from stages.pages.templates import render

_TEMPLATE = Path(__file__).with_name("card.md.j2")
# Confused pairs that are shown.
_PAIRS = 8


@dataclass(frozen=True)
class Subject:
    """The subject of a card.

    `name` is that of the export, `backbone` that of params.yaml; `metrics` are those of evaluate, `confusion` its table
    of actual and predicted class of each test image, `provenance` is that of finetune, `layers` are the units and
    activation of each hidden layer of the head. `counts` has a row for each class and a column for each split, `forms`
    the columns agreement.COLUMNS. `manifest` is that of the export. `best` and `recommended` are from
    data/metrics.json, `compared` is what that has of this backbone, and `rivals` the number of the others; `quick` says
    whether that was a first run (preset: quick), and `measure` decided between them.
    """

    name: str
    backbone: str
    best: str
    recommended: str | None
    compared: Mapping[str, Any]
    rivals: int
    quick: bool
    measure: Measure
    metrics: Mapping[str, Any]
    confusion: pd.DataFrame
    provenance: Mapping[str, Any]
    layers: Sequence[tuple[int, str]]
    counts: pd.DataFrame
    forms: pd.DataFrame
    manifest: Mapping[str, Any]
    licence: Licence | None


def card(subject: Subject) -> str:
    """Return the card in Markdown."""
    return render(
        _TEMPLATE,
        subject=subject,
        classes=_classes(subject),
        confused=_confused(subject.confusion),
        decided=_decided(subject),
        of_selection=_of_selection(subject),
        forms=subject.forms.to_dict("records"),
    )


def _value(measure: Measure, value: float) -> str:
    return ENGLISH.percent(value) if measure.share else ENGLISH.number(value, 3)


def _interval(measure: Measure, low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({_value(measure, low)} to {_value(measure, high)})"


def _decided(subject: Subject) -> dict[str, Any] | None:
    """Return the measure that decided, its value with its interval, and the costs; None for the accuracy."""
    if subject.measure.name == ACCURACY:
        return None
    found = subject.metrics["measure"]
    value = _value(subject.measure, found["value"]) + _interval(subject.measure, found["low"], found["high"])
    return {"name": subject.measure.words, "value": value, "matrix": found.get("matrix")}


def _of_selection(subject: Subject) -> str | None:
    """Return the value of selecting in this way on new images, with its interval; None where that is unknown."""
    key, measure = f"{subject.measure.key}_of_selection", subject.measure
    if key not in subject.compared:
        return None
    low, high = (subject.compared[f"{key}_{end}"] for end in ("low", "high"))
    return f"{_value(measure, subject.compared[key])} on new images{_interval(measure, low, high)}"


def _classes(subject: Subject) -> list[dict[str, Any]]:
    """Return a row for each class, the lowest recall first; classes without test images have none and come last."""
    rows = []
    for name, found in subject.metrics["per_class"].items():
        support, recall = int(found["support"]), found["recall"]
        # How alike images are may differ from class to class.
        known = support and subject.metrics["design_effect"] == 1
        interval = wilson(recall, support, subject.metrics["confidence"]) if known else None
        training = int(subject.counts["train"].get(name, 0))
        rows.append({"name": name, **found, "interval": interval, "training": training})
    return sorted(rows, key=lambda row: (row["recall"] is None, row["recall"], row["name"]))


def _confused(confusion: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the most frequently confused pairs of classes: actual, predicted, images."""
    wrong = confusion[confusion["actual"] != confusion["predicted"]]
    pairs = wrong.groupby(["actual", "predicted"]).size().rename("images").reset_index()
    ordered = pairs.sort_values(["images", "actual", "predicted"], ascending=[False, True, True])
    rows = ordered.head(_PAIRS)[["actual", "predicted", "images"]].to_numpy().tolist()
    return [{"actual": actual, "predicted": predicted, "images": images} for actual, predicted, images in rows]
