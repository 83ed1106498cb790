"""Stage `unfreeze@B`: train the top of the network, starting from the linear head, or a whole network from scratch.

For candidates (stage candidates) with `finetune.unfreeze.blocks`, and for a network without pretrained weights, such as
`scratch`. The test split is predicted once. It does not depend on the dense head, so that changing that retrains
nothing here.

Writes `data/unfrozen/B/`, or only `attempt.json` if nothing was trained:

    attempt.json      the facts of the training (stages/training/attempts.py)
    head.npz          its head (stages/core/head.py)
    top.keras         the trained top of the network, above the tensor that attempt.json names
    predictions.csv   split, file, label, predicted, p:CLASS... of validation and test
    history.csv       one row per epoch
    repeats.csv       predictions with other seeds (`finetune.unfreeze.repeats`)
    folds.csv         predictions of each image by the run that tests its fold (`split.folds`)
    shares.csv        test predictions with fewer training images (`finetune.training_shares`), for a whole network
    architecture/     what determines the costs (stages/networks/engine.py)

The training time, which differs from run to run, is in `data/timings/unfreeze/B.json`.
"""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stages.core.dataset.augmentation import Augmentation
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.core.params import named_backbone
from stages.core.selection import is_fine_tuned
from stages.core.settings.backbones import Backbone
from stages.core.settings.recipes import UnfreezeRecipe, read_recipe
from stages.networks import engine
from stages.networks.processor import processor
from stages.training import attempts
from stages.training.attempts import SPLITS, Attempt
from stages.training.inputs import TrainingData

if TYPE_CHECKING:
    from stages.core.head import Head
    from stages.training.top_trainer import TrainedTop

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
WEIGHTS = Path("data/weights")
FEATURES = Path("data/features")
PROBES = Path("data/probes")
UNFROZEN = Path("data/unfrozen")
TIMINGS = Path("data/timings/unfreeze")


def reason_against(backbone: Backbone, *, frozen: bool) -> str | None:
    """Return the reason to train no blocks of a network with or without `frozen` features, or None."""
    if not frozen:
        return None
    if not backbone.unfreeze.blocks:
        return "finetune.unfreeze.blocks is 0"
    return None if is_fine_tuned(backbone.name) else "not selected as a candidate"


class Trainer:
    """Trains the top of one backbone, repeatedly, from a linear head of this `strength`; None: from scratch."""

    def __init__(self, inputs: TrainingData, strength: float | None, scratch: Path) -> None:
        from stages.networks import keras_engine

        # First, because importing it also silences TensorFlow's start.
        keras_engine.make_deterministic(inputs.seed, inputs.threads)
        from stages.training.loop import expect_tracing
        from stages.training.top_trainer import TopTrainer

        expect_tracing()
        self.strength, self.scratch = strength, scratch
        self._tops: TopTrainer = TopTrainer(scratch)
        self.seconds = 0.0

    def train(self, inputs: TrainingData, name: str) -> "tuple[Attempt, TrainedTop]":
        """Train on `inputs`; the log calls it `name`."""
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
            "views": inputs.views,
            "parameters": sum(int(np.prod(v.shape)) for v in trained.top.trainable_variables),
        }
        table = attempts.predictions(inputs, trained.probabilities)
        kind: attempts.Kind = "unfrozen" if start else "whole"
        return Attempt(kind, trained.head, table, found.rows, found.best_epoch, facts), trained

    def retrain(self, inputs: TrainingData, name: str) -> pd.DataFrame:
        """Train on other data; return only the predictions."""
        found, trained = self.train(inputs, name)
        trained.free_memory()
        return found.predictions

    def _start(self, inputs: TrainingData, strength: float) -> "Head":
        """Return a linear head fitted only on the training images."""
        from stages.heads.linear import fit

        images = replace(inputs, views=0)
        rows, labels = images.feature_rows("train"), images.targets("train")
        with TemporaryDirectory(dir=self.scratch) as folder:
            return fit(rows, labels, len(inputs.classes), inputs.backbone.class_weight, strength, Path(folder))


def write_network(folder: Path, attempt: Attempt, trained: "TrainedTop", parameters: int) -> None:
    """Write the trained top, and the architecture of the classifier with its number of `parameters`, to `folder`."""
    from stages.networks import keras_engine

    keras_engine.save(trained.top, folder / engine.TOP)
    converted = keras_engine.convert(trained.top.input, {"features": trained.top.output})
    engine.write_architecture(folder / "architecture", attempt.head, parameters, trained.start, converted)


def read_inputs(backbone: UnfreezeRecipe) -> TrainingData:
    """Return the training data of a backbone."""
    return TrainingData.read(
        backbone,
        PREPARED,
        FEATURES,
        views=backbone.views,
        augmentation=Augmentation(backbone.augmentation, backbone.seed),
        weights=WEIGHTS / backbone.name,
    )


def train(inputs: TrainingData, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, and write all results to `folder`; return the time of the main training."""
    backbone = inputs.backbone
    strength = read_json(PROBES / backbone.name / "probe.json")["strength"] if facts["frozen"] else None
    with scratch_folder(f"unfreeze-{backbone.name}") as scratch:
        trainer = Trainer(inputs, strength, scratch)
        attempt, trained = trainer.train(inputs, "main training")
        timings = {"seconds": trainer.seconds, "epochs": len(attempt.history), "processor": processor()}
        attempts.save(folder, attempt)
        write_network(folder, attempt, trained, facts["parameters"] + attempt.head.parameters)
        trained.free_memory()
        write_csv(folder / "repeats.csv", attempts.repeats(inputs, backbone.unfreeze.repeats, trainer.retrain))
        write_csv(folder / "folds.csv", attempts.folds(inputs, trainer.retrain))
        if attempt.kind == "whole":
            write_csv(folder / "shares.csv", attempts.shares(inputs, trainer.retrain))
    return timings


def main() -> None:
    """Write `data/unfrozen/B/` for the backbone named on the command line."""
    backbone = read_recipe(UnfreezeRecipe, named_backbone())
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
