"""The attempts for a backbone (linear head, dense head, trained top of the network), and which one is kept.

Besides its main training each is retrained with other seeds, over folds and on fewer images; the tables of these have
the same columns for all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stages.core import head
from stages.core.dataset.prepared import count_folds
from stages.core.dataset.subsample import possible
from stages.core.files import read_csv, read_json, write_csv, write_json
from stages.core.measure import Measure, as_exported
from stages.core.predictions import classes_of, of_rows, read_predictions
from stages.core.settings.report import ACCURACY
from stages.core.shares import Training
from stages.core.shares import table as table_of_trainings
from stages.training.inputs import TrainingData

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = ("validation", "test")
HISTORY = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
# Stands for a probability of 0, which has no logarithm.
_MIN_PROBABILITY = float(np.finfo(np.float64).tiny)

Kind = Literal["linear", "dense", "unfrozen", "whole"]


@dataclass(frozen=True)
class Attempt:
    """A head with its predictions of images that neither it nor the layers trained below it had seen.

    `predictions` has columns split, file, label, predicted, p:CLASS... . `facts` go to provenance.json.
    """

    kind: Kind
    head: head.Head
    predictions: pd.DataFrame
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


def linear(probe: Path) -> Attempt:
    """Return the linear head that stage probe fitted."""
    facts = read_json(probe / "probe.json")
    table = read_predictions(probe / "predictions.csv")
    known = {key: facts[key] for key in ("strength", "losses")}
    return Attempt("linear", head.load(probe / "head.npz"), table, facts=known)


def save(folder: Path, attempt: Attempt) -> None:
    """Write an attempt to `folder`: head.npz, predictions.csv, history.csv, attempt.json."""
    head.save(attempt.head, folder / "head.npz")
    write_csv(folder / "predictions.csv", attempt.predictions)
    write_csv(folder / "history.csv", pd.DataFrame(attempt.history, columns=list(HISTORY)))
    record = {"kind": attempt.kind, "best_epoch": attempt.best_epoch, "facts": dict(attempt.facts)}
    write_json(folder / "attempt.json", record)


def load(folder: Path) -> Attempt | None:
    """Return the attempt that `save` wrote to `folder`, or None if nothing was trained."""
    record = read_json(folder / "attempt.json")
    if record["kind"] is None:
        return None
    table = read_predictions(folder / "predictions.csv")
    rows = read_csv(folder / "history.csv", text=("phase",)).to_dict("records")
    history = [{str(key): value for key, value in row.items()} for row in rows]
    return Attempt(
        record["kind"], head.load(folder / "head.npz"), table, history, record["best_epoch"], record["facts"]
    )


def kept(found: list[Attempt], choose: str, measure: Measure) -> Attempt:
    """Return the attempt that is best on validation by `measure` (the first of equals), or the declared one."""
    if choose == "declared":
        return found[-1]
    losses, values = validation_losses(found), validation_values(found, measure)
    return min(found, key=lambda each: measure.order(values.get(each.kind), losses[each.kind]))


def validation_losses(found: list[Attempt]) -> dict[str, float]:
    """Return the mean log loss of each attempt, by kind, on the validation images that all of them could predict.

    Infinite if there are none.
    """
    return {kind: _log_loss(table) for kind, table in _common(found).items()}


def validation_values(found: list[Attempt], measure: Measure) -> dict[str, float]:
    """Return the value of the measure of each attempt, by kind, on the same images; those that have one.

    None have for accuracy, and where these images cannot say, such as the recall of a class that has none of them.
    """
    if measure.name == ACCURACY:
        return {}
    tables = {kind: _validation(table) for kind, table in _common(found).items()}
    values = {kind: _value(table, measure) for kind, table in tables.items() if len(table)}
    return {kind: value for kind, value in values.items() if np.isfinite(value)}


def _value(table: pd.DataFrame, measure: Measure) -> float:
    return measure.value(as_exported(of_rows(table, classes_of(table), "validation")))


def _common(found: list[Attempt]) -> dict[str, pd.DataFrame]:
    """Return the predictions of each attempt, by kind, for images that all of them could predict for validation."""
    common = set.intersection(*({*_validation(each.predictions)["file"]} for each in found))
    return {each.kind: each.predictions[each.predictions["file"].isin(common)] for each in found}


def _validation(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "validation"]


def _log_loss(table: pd.DataFrame) -> float:
    rows = _validation(table)
    columns = [column for column in table.columns if column.startswith("p:")]
    places = pd.Index(columns).get_indexer(pd.Index("p:" + rows["label"].astype(str)))
    right = rows[columns].to_numpy(dtype=np.float64)[np.arange(len(rows)), places]
    return float(-np.log(np.maximum(right, _MIN_PROBABILITY)).mean()) if len(rows) else float("inf")


def predictions(inputs: TrainingData, probabilities: "Mapping[str, NDArray[np.float32]]") -> pd.DataFrame:
    """Return one row per image: its split in this run, file, label, predicted, and the probability of each class."""
    return pd.concat([_table(inputs, split, found) for split, found in probabilities.items()], ignore_index=True)


def _table(inputs: TrainingData, split: str, found: "NDArray[np.float32]") -> pd.DataFrame:
    table = inputs.selected(split)[["file", "label"]].reset_index(drop=True)
    table.insert(0, "split", split)
    table["predicted"] = [inputs.classes[number] for number in found.argmax(axis=1)]
    return pd.concat([table, pd.DataFrame(found, columns=[f"p:{label}" for label in inputs.classes])], axis=1)


# Retraining --------------------------------------------------------------------------------------------

# Trains on other inputs, under a name for the log, and returns only the predictions.
Retrain = Callable[[TrainingData, str], pd.DataFrame]


def repeats(inputs: TrainingData, count: int, retrain: Retrain) -> pd.DataFrame:
    """Return repeat, split, file, label, predicted, p:CLASS of validation and test, by trainings with other seeds.

    `count` includes the main training. The seed of repeat 1, 2, ... is that of the main training plus 1, 2, ...
    """
    tables = []
    for repeat in range(1, count):
        found = retrain(replace(inputs, seed=inputs.seed + repeat), f"repeat {repeat}")
        tables.append(_marked(found, repeat=repeat))
    return joined(tables, inputs, "repeat", "split")


def shares(inputs: TrainingData, retrain: Retrain) -> pd.DataFrame:
    """Return shares.csv of trainings on fewer training images, one for each share."""
    found = []
    for share in possible(inputs.selected("train")["label"], inputs.backbone.training_shares):
        part = replace(inputs, share=share)
        tested = _test(retrain(part, f"share {share:g}"))
        places = np.asarray(pd.Index(inputs.classes).get_indexer(pd.Index(tested["predicted"])), dtype=np.int64)
        found.append(Training(share, 0, part.selected("train")["file"].nunique(), places))
    return table_of_trainings(found)


def folds(inputs: TrainingData, retrain: Retrain) -> pd.DataFrame:
    """Return fold, file, label, predicted, p:CLASS of every image, once; no rows without folds."""
    tables = [
        _marked(_test(retrain(replace(inputs, fold=fold), f"fold {fold}")), fold=fold)
        for fold in range(count_folds(inputs.index))
    ]
    return joined(tables, inputs, "fold")


def joined(tables: list[pd.DataFrame], inputs: TrainingData, *keys: str) -> pd.DataFrame:
    """Return the tables, whose first columns are `keys`, concatenated; an empty table if there are none."""
    columns = [*keys, "file", "label", "predicted", *(f"p:{label}" for label in inputs.classes)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _test(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "test"].drop(columns="split")


def _marked(table: pd.DataFrame, **keys: float) -> pd.DataFrame:
    """Return the table with constant columns `keys` in front."""
    return table.assign(**keys)[[*keys, *table]]
