"""Stage `finetune@B`: train a head on the frozen features, then the top of the backbone, if any.

Writes `data/models/B/`: `model.keras` (raw RGB pictures, 0 to 255, in; probabilities out), `trained.xml`
and `.bin` (the part that was trained, for OpenVINO: with the frozen part of `data/weights/B/` it is the
whole network), `history.csv`, `predictions.csv` for validation and test, `provenance.json`.

Validation chooses the epoch; the test part is predicted once, by what was chosen.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stages.errors import run
from stages.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.images.prepared import array_path, batches, read_classes, read_index, read_rows
from stages.models.backbones import Backbone, resolve
from stages.params import named_backbone, read, seed, threads

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from stages.models.training import Run, Views

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
# Probabilities of the saved network by Keras and by the engine, both in float32, may differ by this much.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Inputs:
    """What `finetune` reads: the backbone's folders, the index of the views, the classes, the seed."""

    backbone: Backbone
    weights: Path
    features: Path
    index: pd.DataFrame
    classes: list[str]
    seed: int

    def file(self, split: str, *, frozen: bool) -> Path:
        """Return the array file that a phase reads: features, activations at the cut, or the pictures."""
        if frozen:
            return self.features / f"{split}.npy"
        if self.backbone.unfreeze.blocks == "all":
            return array_path(PREPARED, self.backbone.input_size, split)
        return self.features / f"cut_{split}.npy"

    def targets(self, split: str) -> "NDArray[np.int64]":
        """Return the class numbers of a split's rows, (rows,)."""
        rows = self.index[self.index["split"] == split].sort_values("row")
        return np.array([self.classes.index(label) for label in rows["label"]], dtype=np.int64)

    def views(self, split: str, *, frozen: bool) -> "Views":
        """Return the batches of a split; those of `train` are shuffled and weighted."""
        from stages.models.training import Views, class_weights

        targets, count, size = self.targets(split), len(self.classes), self.backbone.batch_size
        if split != "train":
            return Views(self.file(split, frozen=frozen), targets, count, size)
        weights = class_weights(targets, count, self.backbone.class_weight)
        return Views(self.file(split, frozen=frozen), targets, count, size, seed=self.seed, class_weights=weights)


@dataclass(frozen=True)
class Trained:
    """What `finetune` makes: the whole network, its trained part, the history, probabilities per split."""

    model: "keras.Model"
    part: "keras.Model"
    history: "Run"
    probabilities: "dict[str, NDArray[np.float32]]"


def finetune(inputs: Inputs, checkpoints: Path) -> Trained:
    """Train head and, where blocks are unfrozen, the top of the backbone; predict validation and test.

    Checkpoints go to the folder `checkpoints`. Raises ParameterError when training diverges.
    """
    import keras

    from stages.models import keras_engine, networks
    from stages.models.training import Run

    history, unfrozen = Run(), inputs.backbone.unfreeze.blocks
    backbone = keras_engine.load(inputs.weights / keras_engine.BACKBONE)
    head = _build_head(inputs, backbone.output.shape[-1])
    if inputs.backbone.frozen_epochs:
        _train(head, inputs, "head", history, checkpoints)
    part = head
    if unfrozen:
        top = networks.unfreeze(backbone, networks.cut(backbone, unfrozen, inputs.backbone.name))
        part = keras.Model(top.input, head(top.output), name="trained")
        _train(part, inputs, "finetune", history, checkpoints)
    model = keras.Model(backbone.input, head(backbone(backbone.input)), name="classifier")
    probabilities = {
        split: part.predict(inputs.views(split, frozen=not unfrozen), verbose=0) for split in ("validation", "test")
    }
    return Trained(model, part, history, probabilities)


def _build_head(inputs: Inputs, width: int) -> "keras.Model":
    """Return the untrained head; where features are frozen, it standardises them as the training views have them."""
    from stages.models.heads import build, moments

    recipe, known = inputs.backbone, None
    if recipe.frozen_epochs and recipe.head.standardise:
        known = moments(batches(inputs.file("train", frozen=True), recipe.batch_size))
    return build(recipe.head, width, len(inputs.classes), known)


def _train(model: "keras.Model", inputs: Inputs, name: str, history: "Run", checkpoints: Path) -> None:
    """Train `model` for the phase `name`: "head" on frozen features, "finetune" from the cut on."""
    from stages.models.training import Phase, train

    recipe, frozen = inputs.backbone, name == "head"
    phase = (
        Phase(name, recipe.frozen_epochs, recipe.optimizer.learning_rate)
        if frozen
        else Phase(name, recipe.unfrozen_epochs, recipe.unfreeze.learning_rate)
    )
    data = (inputs.views("train", frozen=frozen), inputs.views("validation", frozen=frozen))
    train(model, data, phase, recipe, history, checkpoints)


def write(folder: Path, trained: Trained, inputs: Inputs) -> None:
    """Write all of `data/models/B/` into `folder`."""
    from stages.models import keras_engine
    from stages.models.training import HISTORY

    keras_engine.save(trained.model, folder / "model.keras")
    part = keras_engine.convert(trained.part.input, {"probabilities": trained.part.output})
    keras_engine.save_openvino(part, folder / "trained.xml")
    write_csv(folder / "history.csv", pd.DataFrame(trained.history.rows, columns=list(HISTORY)))
    write_csv(folder / "predictions.csv", predictions(inputs, trained.probabilities))
    write_json(folder / "provenance.json", _provenance(trained, inputs))


def predictions(inputs: Inputs, probabilities: "dict[str, NDArray[np.float32]]") -> pd.DataFrame:
    """Return one row per picture: split, file, label, predicted, and the probability of each class."""
    tables = []
    for split, found in probabilities.items():
        rows = inputs.index[inputs.index["split"] == split].sort_values("row")
        table = rows[["split", "file", "label"]].reset_index(drop=True)
        table["predicted"] = [inputs.classes[number] for number in found.argmax(axis=1)]
        columns = pd.DataFrame(found, columns=[f"p:{label}" for label in inputs.classes])
        tables.append(pd.concat([table, columns], axis=1))
    return pd.concat(tables, ignore_index=True)


def _provenance(trained: Trained, inputs: Inputs) -> dict[str, Any]:
    facts, computed = read_json(inputs.weights / "backbone.json"), read_json(inputs.features / "features.json")
    train = inputs.index[inputs.index["split"] == "train"]
    copied = ("backbone", "builder", "input_size", "pooling", "unfrozen_blocks", "weights")
    return {key: facts[key] for key in copied} | {
        "classes": inputs.classes,
        "parameters": trained.model.count_params(),
        "trainable_parameters": sum(int(np.prod(v.shape)) for v in trained.part.trainable_variables),
        "engine": computed["engine"],
        "precision": computed["precision"],
        "epochs_run": len(trained.history.rows),
        "best_epoch": trained.history.best_epoch,
        "train_pictures": train["file"].nunique(),
        "train_views": len(train),
        "seed": inputs.seed,
    }


def compare_saved(path: Path, part: "keras.Model", inputs: Inputs) -> None:
    """Check that the saved network gives, from raw pictures, what frozen and trained part give in turn.

    Both in float32: in a reduced precision random networks, whose features hardly vary, differ visibly.
    Raises RuntimeError when they differ: some part of what was saved would not be what was trained.
    """
    from stages.models import keras_engine
    from stages.models.engine import Choice
    from stages.models.extraction import forward

    pictures = read_rows(array_path(PREPARED, inputs.backbone.input_size, "validation"), 0, 4)
    below = pictures
    if inputs.backbone.unfreeze.blocks != "all":
        outputs = forward(inputs.weights, Choice("openvino", "float32", threads()))(pictures)
        below = outputs["cut" if inputs.backbone.unfreeze.blocks else "features"]
    expected = part.predict(below.astype(np.float32), verbose=0)
    found = keras_engine.load(path).predict(pictures.astype(np.float32), verbose=0)
    difference = float(np.abs(found - expected).max())
    # Written so that a difference which is no number is noticed too.
    if not difference <= _TOLERANCE:
        raise RuntimeError(f"{path}: probabilities differ by {difference:.3g} from those of its parts")


@contextmanager
def _checkpoints(name: str) -> Iterator[Path]:
    folder = scratch_folder(f"checkpoints-{name}")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Write `data/models/B/` for the backbone named on the command line."""
    backbone = resolve(named_backbone(), read())
    from stages.models.keras_engine import repeatable

    repeatable(seed(), threads())
    inputs = Inputs(
        backbone,
        Path("data/weights") / backbone.name,
        Path("data/features") / backbone.name,
        read_index(PREPARED),
        read_classes(PREPARED),
        seed(),
    )
    with _checkpoints(backbone.name) as checkpoints:
        trained = finetune(inputs, checkpoints)
    with replacing_folder(Path("data/models") / backbone.name) as folder:
        write(folder, trained, inputs)
        compare_saved(folder / "model.keras", trained.part, inputs)


if __name__ == "__main__":
    run(main)
