"""What is tried for a backbone: the linear head, a dense one, the top of the network trained; and which is kept.

TensorFlow is started by `Trainer` alone, for all but the linear head, which stage probe has fitted.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stages.files import read_csv, read_json
from stages.models import head
from stages.models.inputs import Inputs
from stages.params import threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.models.top_trainer import TrainedTop
    from stages.models.training import Run

log = logging.getLogger(__name__)
SPLITS = ("validation", "test")
_TEXT = ("split", "file", "label", "predicted")
# What is taken for a probability of 0.
_LEAST = float(np.finfo(np.float64).tiny)

Kind = Literal["linear", "dense", "unfrozen", "whole"]


@dataclass(frozen=True)
class Tried:
    """A head, and where it was trained the top below it, with predictions of images that these had not seen.

    `predictions` has columns split, file, label, predicted, p:CLASS... . `facts` go to provenance.json.
    """

    kind: Kind
    head: head.Head
    predictions: pd.DataFrame
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    trained: "TrainedTop | None" = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def linear(probe: Path) -> Tried:
    """Return the linear head that stage probe fitted."""
    facts = read_json(probe / "probe.json")
    table = read_csv(probe / "predictions.csv", text=_TEXT)
    known = {key: facts[key] for key in ("strength", "losses")}
    return Tried("linear", head.load(probe / "head.npz"), table, facts=known)


class Trainer:
    """Trains what the recipe of a backbone declares beside the linear head; TensorFlow is started for that alone."""

    def __init__(self, inputs: Inputs, strength: float | None, scratch: Path) -> None:
        from stages.models import keras_engine

        # First: it also keeps TensorFlow quiet while that starts.
        keras_engine.repeatable(inputs.seed, threads())
        from stages.models.head_trainer import HeadTrainer
        from stages.models.top_trainer import TopTrainer
        from stages.models.training import expect_tracing

        expect_tracing()
        self.strength, self.scratch = strength, scratch
        width = read_json(inputs.weights / "backbone.json")["width"]
        self._heads: HeadTrainer = HeadTrainer(width, len(inputs.classes))
        self._tops: TopTrainer = TopTrainer(scratch)

    def dense(self, inputs: Inputs, name: str) -> Tried:
        """Train a dense head on frozen features, and fit it once more on validation images as well if asked for.

        The log calls the training `name`.
        """
        from stages.models.head_trainer import predict
        from stages.models.training import Run

        # Of its own: a training that never improves reads no checkpoint, and must not find an earlier one's.
        checkpoints, found = self._folder("checkpoints"), Run()
        first = self._heads.train(inputs, found, checkpoints)
        last = self._heads.refit(inputs, found) if inputs.backbone.refit else first
        self._say(name, inputs, found)
        probabilities = {"validation": predict(first, inputs, "validation"), "test": predict(last, inputs, "test")}
        return Tried(
            "dense", last, predictions(inputs, probabilities), found.rows, found.best_epoch, sum(found.seconds.values())
        )

    def unfrozen(self, inputs: Inputs, name: str) -> Tried:
        """Train the top of the network, from a linear head on that has seen the training images alone."""
        assert self.strength is not None
        rows, labels = replace(inputs, views=0).feature_rows("train"), replace(inputs, views=0).targets("train")
        kind = inputs.backbone.class_weight
        from stages.models.linear import fit

        start = fit(rows, labels, len(inputs.classes), kind, self.strength, self._folder("fit"))
        return self._top(inputs, start, "unfrozen", name)

    def whole(self, inputs: Inputs, name: str) -> Tried:
        """Train a network that has learnt nothing before, from a random head on."""
        return self._top(inputs, None, "whole", name)

    def _top(self, inputs: Inputs, start: "head.Head | None", kind: Kind, name: str) -> Tried:
        from stages.models.training import Run

        found = Run()
        trained = self._tops.train(inputs, start, found, SPLITS)
        self._say(name, inputs, found)
        facts = {"blocks": trained.blocks, "epochs": len(found.rows), "stopped": "minutes" if trained.spent else ""}
        seconds = sum(found.seconds.values())
        table = predictions(inputs, trained.probabilities)
        return Tried(kind, trained.head, table, found.rows, found.best_epoch, seconds, trained, facts)

    def _folder(self, name: str) -> Path:
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _say(self, name: str, inputs: Inputs, found: "Run") -> None:
        images = inputs.selected("train")["file"].nunique()
        log.info("%s: best epoch %d of %d, %d training images", name, found.best_epoch, len(found.rows), images)


def tried(inputs: Inputs, trainer: Trainer | None, first: Tried | None) -> Iterator[Tried]:
    """Yield what the backbone declares, the last of it last, after the linear head `first`, if any."""
    if first is None:
        assert trainer is not None
        yield trainer.whole(inputs, "main training")
        return
    yield first
    if trainer and inputs.backbone.head.units:
        yield trainer.dense(inputs, "dense head")
    if trainer and inputs.backbone.unfreeze.blocks:
        yield trainer.unfrozen(inputs, "phase 2")


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


def anew(inputs: Inputs, trainer: Trainer, kind: Kind, name: str) -> pd.DataFrame:
    """Train as the kind that is kept was, with other `inputs`; return the predictions alone."""
    found: Tried = {"dense": trainer.dense, "unfrozen": trainer.unfrozen, "whole": trainer.whole}[kind](inputs, name)
    if found.trained:
        found.trained.release()
    return found.predictions
