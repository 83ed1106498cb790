"""Stage `unfreeze@B`: train the top of the network from the linear head on, or a whole one that has learnt nothing.

For candidates (stage candidates) with `finetune.unfreeze.blocks`, and for a network without frozen features, such as
`scratch`. The test part is predicted once. A dense head has no part in it, so that another one trains nothing anew.

Writes `data/unfrozen/B/`, where nothing was trained `attempt.json` alone:

    attempt.json      what was trained, and how (stages/training/attempts.py)
    head.npz          the head on it (stages/core/head.py)
    top.keras         the trained top of the network, from the tensor that attempt.json names on
    predictions.csv   split, file, label, predicted, p:CLASS... of validation and test
    history.csv       an epoch in each row
    repeats.csv       predictions with other seeds (`finetune.unfreeze.repeats`)
    folds.csv         predictions of each image by the run that tests its fold (`split.folds`)
    shares.csv        predictions of the test part on fewer images (`finetune.training_shares`), of a whole network
    outline/          what the costs follow from (stages/networks/engine.py)

How long it took, which is never the same, is in `data/timings/unfreeze/B.json`.
"""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stages.core.dataset.augmentation import Augmentation
from stages.core.dataset.prepared import read_classes, read_index
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.core.params import load_part, named_backbone, seed, threads
from stages.core.selection import is_fine_tuned
from stages.core.settings.backbones import Backbone, read_unfreeze
from stages.core.settings.preprocess import ViewParams
from stages.networks import engine
from stages.networks.processor import processor
from stages.training import attempts
from stages.training.attempts import SPLITS, Tried
from stages.training.inputs import Inputs

if TYPE_CHECKING:
    from stages.core.head import Head
    from stages.training.top_trainer import TrainedTop

log = logging.getLogger(__name__)
RECIPES = Path("data/recipes")
PREPARED = Path("data/prepared")
WEIGHTS = Path("data/weights")
FEATURES = Path("data/features")
PROBES = Path("data/probes")
UNFROZEN = Path("data/unfrozen")
TIMINGS = Path("data/timings/unfreeze")


def reason_against(backbone: Backbone, *, frozen: bool) -> str | None:
    """Return why nothing is trained of a network with or without `frozen` features; None where something is."""
    if not frozen:
        return None
    if not backbone.unfreeze.blocks:
        return "finetune.unfreeze.blocks is 0"
    return None if is_fine_tuned(backbone.name) else "not among the candidates"


class Trainer:
    """Trains the top of one backbone, over and over, from a linear head of this `strength` on; None: from nothing."""

    def __init__(self, inputs: Inputs, strength: float | None, scratch: Path) -> None:
        from stages.networks import keras_engine

        # First: it also keeps TensorFlow quiet while that starts.
        keras_engine.repeatable(inputs.seed, threads())
        from stages.training.loop import expect_tracing
        from stages.training.top_trainer import TopTrainer

        expect_tracing()
        self.strength, self.scratch = strength, scratch
        self._tops: TopTrainer = TopTrainer(scratch)
        self.seconds = 0.0

    def train(self, inputs: Inputs, name: str) -> "tuple[Tried, TrainedTop]":
        """Train as `inputs` say; the log calls it `name`."""
        from stages.training.loop import Run

        found, start = Run(), None if self.strength is None else self._start(inputs, self.strength)
        trained = self._tops.train(inputs, start, found, SPLITS)
        self.seconds = sum(found.seconds.values())
        images = inputs.selected("train")["file"].nunique()
        log.info("%s: best epoch %d of %d, %d training images", name, found.best_epoch, len(found.rows), images)
        facts = {
            "blocks": trained.blocks,
            "epochs": len(found.rows),
            "stopped": "minutes" if trained.spent else "",
            "start": trained.start,
            "parameters": sum(int(np.prod(v.shape)) for v in trained.top.trainable_variables),
        }
        table = attempts.predictions(inputs, trained.probabilities)
        kind: attempts.Kind = "unfrozen" if start else "whole"
        return Tried(kind, trained.head, table, found.rows, found.best_epoch, facts), trained

    def anew(self, inputs: Inputs, name: str) -> pd.DataFrame:
        """Train with other inputs; return the predictions alone."""
        found, trained = self.train(inputs, name)
        trained.release()
        return found.predictions

    def _start(self, inputs: Inputs, strength: float) -> "Head":
        """Return a linear head that has seen the training images alone."""
        from stages.heads.linear import fit

        images = replace(inputs, views=0)
        rows, labels = images.feature_rows("train"), images.targets("train")
        with TemporaryDirectory(dir=self.scratch) as folder:
            return fit(rows, labels, len(inputs.classes), inputs.backbone.class_weight, strength, Path(folder))


def write_network(folder: Path, tried: Tried, trained: "TrainedTop", parameters: int) -> None:
    """Write the trained top into `folder`, and what the costs of the whole of so many `parameters` follow from."""
    from stages.networks import keras_engine

    keras_engine.save(trained.top, folder / engine.TOP)
    converted = keras_engine.convert(trained.top.input, {"features": trained.top.output})
    engine.write_architecture(folder / "outline", tried.head, parameters, trained.start, converted)


def read_inputs(backbone: Backbone) -> Inputs:
    """Return what the trainings of a backbone read."""
    params = load_part(ViewParams, "preprocess")
    return Inputs(
        backbone,
        WEIGHTS / backbone.name,
        FEATURES / backbone.name,
        PREPARED,
        read_index(PREPARED),
        read_classes(PREPARED),
        seed(),
        views=params.views,
        augmentation=Augmentation(params.augmentation, seed()),
    )


def train(inputs: Inputs, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, and write all that comes of it into `folder`; return how long the main training took."""
    backbone = inputs.backbone
    strength = read_json(PROBES / backbone.name / "probe.json")["strength"] if facts["frozen"] else None
    with scratch_folder(f"unfreeze-{backbone.name}") as scratch:
        trainer = Trainer(inputs, strength, scratch)
        tried, trained = trainer.train(inputs, "main training")
        timings = {"seconds": trainer.seconds, "epochs": len(tried.history), "processor": processor()}
        attempts.save(folder, tried)
        write_network(folder, tried, trained, facts["parameters"] + tried.head.parameters)
        trained.release()
        write_csv(folder / "repeats.csv", attempts.repeats(inputs, backbone.unfreeze.repeats, trainer.anew))
        write_csv(folder / "folds.csv", attempts.folds(inputs, trainer.anew))
        if tried.kind == "whole":
            write_csv(folder / "shares.csv", attempts.shares(inputs, trainer.anew))
    return timings


def main() -> None:
    """Write `data/unfrozen/B/` for the backbone named on the command line."""
    backbone = read_unfreeze(RECIPES, named_backbone())
    facts = read_json(WEIGHTS / backbone.name / "backbone.json")
    against = reason_against(backbone, frozen=facts["frozen"])
    with replacing_folder(UNFROZEN / backbone.name) as folder:
        if against is None:
            timings = train(read_inputs(backbone), facts, folder)
        else:
            log.info("%s: no blocks are trained: %s", backbone.name, against)
            write_json(folder / "attempt.json", {"kind": None})
            timings = {"seconds": 0.0, "epochs": 0, "processor": processor()}
    write_json(TIMINGS / f"{backbone.name}.json", timings)


if __name__ == "__main__":
    run(main)
