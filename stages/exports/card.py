"""The model card of an exported classifier: what it was trained on, how good it is, where it fails, whose weights.

Sections after Mitchell et al. 2019, "Model cards for model reporting". The block at its head is what model registries
read (https://huggingface.co/docs/hub/model-cards). In English, as such cards are, whatever `report.language` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.intervals import proportion
from stages.exports.licences import Licence
from stages.pages.templates import render

_TEMPLATE = Path(__file__).with_name("card.md.j2")
# Confused pairs that are shown.
_PAIRS = 8


@dataclass(frozen=True)
class Subject:
    """What a card speaks of.

    `name` is the export's, `backbone` that of params.yaml; `metrics` is what evaluate wrote, `confusion` its table of
    actual and predicted class for each test image, `provenance` what finetune wrote, `layers` the units and the
    activation of each dense layer of the head below that of the classes. `counts` has a row for each
    class and a column for each split, `forms` those of agreement.COLUMNS. `manifest` is what others read of the export.
    `best` and `recommended` are data/metrics.json's.
    """

    name: str
    backbone: str
    best: str
    recommended: str | None
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
        forms=subject.forms.to_dict("records"),
    )


def _classes(subject: Subject) -> list[dict[str, Any]]:
    """Return a row for each class, that with the lowest recall first; without test images it has none and is last."""
    rows = []
    for name, found in subject.metrics["per_class"].items():
        support, recall = int(found["support"]), found["recall"]
        interval = None
        if support:
            interval = proportion(round(recall * support), support, subject.metrics["confidence"])
        training = int(subject.counts["train"].get(name, 0))
        rows.append({"name": name, **found, "interval": interval, "training": training})
    return sorted(rows, key=lambda row: (row["recall"] is None, row["recall"], row["name"]))


def _confused(confusion: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the pairs of classes that are taken for each other most often: actual, predicted, images."""
    wrong = confusion[confusion["actual"] != confusion["predicted"]]
    pairs = wrong.groupby(["actual", "predicted"]).size().rename("images").reset_index()
    ordered = pairs.sort_values(["images", "actual", "predicted"], ascending=[False, True, True])
    rows = ordered.head(_PAIRS)[["actual", "predicted", "images"]].to_numpy().tolist()
    return [{"actual": actual, "predicted": predicted, "images": images} for actual, predicted, images in rows]
