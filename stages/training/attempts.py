"""What is tried for a backbone: the linear head, a dense one, the top of the network trained; and which is kept.

Beside its main training each is made anew with other seeds, over folds and on fewer images: the tables of these are
alike for all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stages.core import head
from stages.core.dataset.prepared import count_folds
from stages.core.files import read_csv, read_json, write_csv, write_json
from stages.training.inputs import Inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = ("validation", "test")
HISTORY = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
_TEXT = ("split", "file", "label", "predicted")
# What is taken for a probability of 0.
_LEAST = float(np.finfo(np.float64).tiny)

Kind = Literal["linear", "dense", "unfrozen", "whole"]


@dataclass(frozen=True)
class Tried:
    """A head with predictions of images that neither it nor what was trained below it had seen.

    `predictions` has columns split, file, label, predicted, p:CLASS... . `facts` go to provenance.json.
    """

    kind: Kind
    head: head.Head
    predictions: pd.DataFrame
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


def linear(probe: Path) -> Tried:
    """Return the linear head that stage probe fitted."""
    facts = read_json(probe / "probe.json")
    table = read_csv(probe / "predictions.csv", text=_TEXT)
    known = {key: facts[key] for key in ("strength", "losses")}
    return Tried("linear", head.load(probe / "head.npz"), table, facts=known)


def save(folder: Path, tried: Tried) -> None:
    """Write what was tried into `folder`: head.npz, predictions.csv, history.csv, attempt.json."""
    head.save(tried.head, folder / "head.npz")
    write_csv(folder / "predictions.csv", tried.predictions)
    write_csv(folder / "history.csv", pd.DataFrame(tried.history, columns=list(HISTORY)))
    told = {"kind": tried.kind, "best_epoch": tried.best_epoch, "facts": dict(tried.facts)}
    write_json(folder / "attempt.json", told)


def load(folder: Path) -> Tried | None:
    """Return what `save` wrote into `folder`, or None where nothing was tried."""
    told = read_json(folder / "attempt.json")
    if told["kind"] is None:
        return None
    table = read_csv(folder / "predictions.csv", text=_TEXT)
    rows = read_csv(folder / "history.csv", text=("phase",)).to_dict("records")
    history = [{str(key): value for key, value in row.items()} for row in rows]
    return Tried(told["kind"], head.load(folder / "head.npz"), table, history, told["best_epoch"], told["facts"])


def kept(found: list[Tried], choose: str) -> Tried:
    """Return what validation prefers, or what is declared. Of equals the first."""
    losses = validation_losses(found)
    return found[-1] if choose == "declared" else min(found, key=lambda each: losses[each.kind])


def validation_losses(found: list[Tried]) -> dict[str, float]:
    """Return the mean log loss of each by its kind, on the validation images that all of them could predict.

    Infinite where there are none.
    """
    common = set.intersection(*({*_validation(each.predictions)["file"]} for each in found))
    return {each.kind: _log_loss(each.predictions[each.predictions["file"].isin(common)]) for each in found}


def _validation(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "validation"]


def _log_loss(table: pd.DataFrame) -> float:
    rows = _validation(table)
    columns = [column for column in table.columns if column.startswith("p:")]
    places = pd.Index(columns).get_indexer(pd.Index("p:" + rows["label"].astype(str)))
    right = rows[columns].to_numpy(dtype=np.float64)[np.arange(len(rows)), places]
    return float(-np.log(np.maximum(right, _LEAST)).mean()) if len(rows) else float("inf")


def predictions(inputs: Inputs, probabilities: "Mapping[str, NDArray[np.float32]]") -> pd.DataFrame:
    """Return one row per image: what it is in this run, file, label, predicted, and the probability of each class."""
    return pd.concat([_table(inputs, split, found) for split, found in probabilities.items()], ignore_index=True)


def _table(inputs: Inputs, split: str, found: "NDArray[np.float32]") -> pd.DataFrame:
    table = inputs.selected(split)[["file", "label"]].reset_index(drop=True)
    table.insert(0, "split", split)
    table["predicted"] = [inputs.classes[number] for number in found.argmax(axis=1)]
    return pd.concat([table, pd.DataFrame(found, columns=[f"p:{label}" for label in inputs.classes])], axis=1)


# Trained anew ------------------------------------------------------------------------------------------

# Trains with other inputs, under a name for the log, and returns the predictions alone.
Anew = Callable[[Inputs, str], pd.DataFrame]


def repeats(inputs: Inputs, count: int, anew: Anew) -> pd.DataFrame:
    """Return repeat, split, file, label, predicted, p:CLASS of validation and test, by trainings with other seeds.

    There are `count` of them with the main one. Repeat 1, 2, ... has the main one's seed and so much more.
    """
    tables = []
    for repeat in range(1, count):
        found = anew(replace(inputs, seed=inputs.seed + repeat), f"repeat {repeat}")
        tables.append(_marked(found, repeat=repeat))
    return joined(tables, inputs, "repeat", "split")


def shares(inputs: Inputs, anew: Anew) -> pd.DataFrame:
    """Return share, training_images, file, label, predicted, p:CLASS of the test images, by less training images."""
    tables = []
    for share in inputs.backbone.training_shares:
        part = replace(inputs, share=share)
        images = part.selected("train")["file"].nunique()
        tables.append(_marked(_test(anew(part, f"share {share:g}")), share=share, training_images=images))
    return joined(tables, inputs, "share", "training_images")


def folds(inputs: Inputs, anew: Anew) -> pd.DataFrame:
    """Return fold, file, label, predicted, p:CLASS for every image once; no row where there are no folds."""
    tables = [
        _marked(_test(anew(replace(inputs, fold=fold), f"fold {fold}")), fold=fold)
        for fold in range(count_folds(inputs.index))
    ]
    return joined(tables, inputs, "fold")


def joined(tables: list[pd.DataFrame], inputs: Inputs, *keys: str) -> pd.DataFrame:
    """Return the tables, which begin with `keys`, below each other; without any their columns."""
    columns = [*keys, "file", "label", "predicted", *(f"p:{label}" for label in inputs.classes)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _test(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "test"].drop(columns="split")


def _marked(table: pd.DataFrame, **keys: float) -> pd.DataFrame:
    """Return the table with columns in front that hold one value each."""
    return table.assign(**keys)[[*keys, *table]]
