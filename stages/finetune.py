"""Stage `finetune@B`: train a head on the frozen features, then the top of the backbone, if any.

Writes `data/models/B/`: `model.keras` (raw RGB pictures, 0 to 255, in; probabilities out), `history.csv`,
`predictions.csv` for validation and test, `provenance.json`, `folds.csv`, and what stage benchmark reads, which
changes with the network's shape alone: `outline.xml` and `.bin` (the trained part without its weights, for
OpenVINO: with the frozen part of `data/weights/B/` it is as large as the whole network) and `outline.json`.

Validation chooses the epoch; the test part is predicted once, by what was chosen. With folds the same is done
anew for each: `folds.csv` holds the predictions for the pictures of each fold by a network that never saw them.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stages.errors import run
from stages.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.images.prepared import (
    Mapped,
    Rows,
    array_path,
    count_folds,
    count_rows,
    read_classes,
    read_index,
    read_rows,
    selected,
)
from stages.models.backbones import Backbone, resolve
from stages.models.engine import OUTLINE, Choice, outline
from stages.params import named_backbone, read, seed, threads

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from stages.models.training import Run, Views

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
# Probabilities of the whole network by Keras and by the engine, both in float32, may differ by this much.
_TOLERANCE = 0.01
# Pictures to compare them by.
_COMPARED = 2


@dataclass(frozen=True)
class Inputs:
    """What `finetune` reads: the backbone's folders, the index of the views, the classes, the seed.

    `fold` names the run: the main one, or the one that tests this fold.
    """

    backbone: Backbone
    weights: Path
    features: Path
    index: pd.DataFrame
    classes: list[str]
    seed: int
    fold: int | None = None

    @cached_property
    def computed(self) -> dict[str, Any]:
        """Return what `features.json` says: engine, precision, threads, and what became of the cut's activations."""
        return read_json(self.features / "features.json")

    def selected(self, split: str) -> pd.DataFrame:
        """Return the rows of the index that train, choose or test in this run, as `split` says."""
        return selected(self.index, split, self.fold)

    def rows(self, split: str, *, frozen: bool) -> Rows | Mapped:
        """Return what a phase reads for `selected`: features, activations at the cut, or the pictures."""
        if frozen:
            return self.feature_rows(split)
        if self.backbone.unfreeze.blocks != "all" and self.computed["cut"] == "kept":
            kept = self._arrays(split, lambda name: self.features / f"cut_{name}.npy")
            return Mapped(kept, lambda batch: batch.astype(np.float32) / self.computed["cut_scale"])
        pictures = self._arrays(split, lambda name: array_path(PREPARED, self.backbone.input_size, name))
        return pictures if self.backbone.unfreeze.blocks == "all" else Mapped(pictures, self._below_the_cut)

    def feature_rows(self, split: str) -> Rows:
        """Return the frozen features for `selected`."""
        return self._arrays(split, lambda name: self.features / f"{name}.npy")

    @cached_property
    def _below_the_cut(self) -> "Callable[[NDArray[np.uint8]], NDArray[np.float32]]":
        """Compute activations at the cut from pictures as stage `features` would have, were there room for them."""
        from stages.models.extraction import forward

        choice = Choice(*(self.computed[key] for key in ("engine", "precision", "threads")))
        network = forward(self.weights, choice, "cut")
        return lambda pictures: network(pictures)["cut"]

    def _arrays(self, split: str, file: Callable[[str], Path]) -> Rows:
        """Return the rows of `selected` in the arrays that `file` names for each of the prepared splits.

        Raises ValueError when one has other rows than the index.
        """
        chosen, counts = self.selected(split), self.index["split"].value_counts()
        files = {name: file(name) for name in chosen["split"].unique()}
        for name, path in files.items():
            if count_rows(path) != counts[name]:
                raise ValueError(f"{path} has {count_rows(path)} rows, its index {counts[name]}")
        return Rows(chosen, files)

    def views(self, split: str, *, frozen: bool) -> "Views":
        """Return the batches of a split; those of `train` are shuffled and weighted."""
        from stages.models.training import Views, class_weights

        rows, count, size = self.rows(split, frozen=frozen), len(self.classes), self.backbone.batch_size
        targets = np.array([self.classes.index(label) for label in self.selected(split)["label"]], dtype=np.int64)
        if split != "train":
            return Views(rows, targets, count, size)
        weights = class_weights(targets, count, self.backbone.class_weight)
        return Views(rows, targets, count, size, seed=self.seed, class_weights=weights)


@dataclass(frozen=True)
class Trained:
    """What the main run makes: the whole network, its trained part, the history, probabilities per split."""

    model: "keras.Model"
    part: "keras.Model"
    history: "Run"
    probabilities: "dict[str, NDArray[np.float32]]"


def finetune(inputs: Inputs, checkpoints: Path) -> Trained:
    """Train head and, where blocks are unfrozen, the top of the backbone; predict validation and test.

    Checkpoints go to the folder `checkpoints`. Raises ParameterError when training diverges.
    """
    import keras

    from stages.models import keras_engine

    backbone = keras_engine.load(inputs.weights / keras_engine.BACKBONE)
    head, part, history = _fit(inputs, backbone, checkpoints)
    model = keras.Model(backbone.input, head(backbone(backbone.input)), name="classifier")
    probabilities = {split: _predict(part, inputs, split) for split in ("validation", "test")}
    return Trained(model, part, history, probabilities)


def fold_predictions(inputs: Inputs, checkpoints: Path) -> pd.DataFrame:
    """Train anew for the fold of `inputs`; return its pictures' predictions: fold, file, label, predicted, p:CLASS.

    Begins as if the process had just started, so that no fold depends on what was trained before it.
    """
    import keras

    from stages.models import keras_engine

    keras.utils.clear_session()
    keras.utils.set_random_seed(inputs.seed)
    head, part, history = _fit(inputs, keras_engine.load(inputs.weights / keras_engine.BACKBONE), checkpoints)
    tested = inputs.selected("test")
    log.info(
        "fold %s: best epoch %d of %d, %d pictures to train on, %d predicted",
        inputs.fold, history.best_epoch, len(history.rows), inputs.selected("train")["file"].nunique(), len(tested),
    )  # fmt: skip
    table = _table(tested, "fold", inputs.classes, _predict(part, inputs, "test"))
    for model in (head, part):
        if model.compiled:
            keras_engine.release(model)
    return table


def _fit(inputs: Inputs, backbone: "keras.Model", checkpoints: Path) -> "tuple[keras.Model, keras.Model, Run]":
    """Train a new head and, where blocks are unfrozen, the top of `backbone`; return head, trained part, history."""
    import keras

    from stages.models import networks
    from stages.models.training import Run

    history, unfrozen = Run(), inputs.backbone.unfreeze.blocks
    head = _build_head(inputs, backbone.output.shape[-1])
    if inputs.backbone.frozen_epochs:
        _train(head, inputs, "head", history, checkpoints)
    part = head
    if unfrozen:
        top = networks.unfreeze(backbone, networks.cut(backbone, unfrozen, inputs.backbone.name))
        part = keras.Model(top.input, head(top.output), name="trained")
        _train(part, inputs, "finetune", history, checkpoints)
    return head, part, history


def _predict(part: "keras.Model", inputs: Inputs, split: str) -> "NDArray[np.float32]":
    """Return the probabilities of the split's pictures, (pictures, classes)."""
    found: NDArray[np.float32] = part.predict(
        inputs.views(split, frozen=not inputs.backbone.unfreeze.blocks), verbose=0
    )
    return found


def _build_head(inputs: Inputs, width: int) -> "keras.Model":
    """Return the untrained head; where features are frozen, it standardises them as the training views have them."""
    from stages.models.heads import build, moments

    recipe, known = inputs.backbone, None
    if recipe.frozen_epochs and recipe.head.standardise:
        known = moments(inputs.feature_rows("train").batches(recipe.batch_size))
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
    """Write what the main run made into `folder`."""
    from stages.models import keras_engine
    from stages.models.training import HISTORY

    keras_engine.save(trained.model, folder / "model.keras")
    part = keras_engine.convert(trained.part.input, {"probabilities": trained.part.output})
    keras_engine.save_openvino(outline(part), folder / OUTLINE)
    # To 10 kB: the text of the parameters inside is no matter of shape.
    size = round((folder / "model.keras").stat().st_size / 1e6, 2)
    write_json(folder / "outline.json", {"parameters": trained.model.count_params(), "size_mb": size})
    write_csv(folder / "history.csv", pd.DataFrame(trained.history.rows, columns=list(HISTORY)))
    write_csv(folder / "predictions.csv", predictions(inputs, trained.probabilities))
    write_json(folder / "provenance.json", _provenance(trained, inputs))


def predictions(inputs: Inputs, probabilities: "dict[str, NDArray[np.float32]]") -> pd.DataFrame:
    """Return one row per picture: split, file, label, predicted, and the probability of each class."""
    tables = [_table(inputs.selected(split), "split", inputs.classes, found) for split, found in probabilities.items()]
    return pd.concat(tables, ignore_index=True)


def folds(inputs: Inputs, checkpoints: Path) -> pd.DataFrame:
    """Return the table of `fold_predictions` for all folds: every picture once, or no row where there are no folds."""
    tables = []
    for fold in range(count_folds(inputs.index)):
        # Of its own: a phase that never improves reads no checkpoint, and must not find an earlier fold's.
        (own := checkpoints / f"fold_{fold}").mkdir()
        tables.append(fold_predictions(replace(inputs, fold=fold), own))
    nothing = np.zeros((0, len(inputs.classes)), np.float32)
    return pd.concat(tables or [_table(inputs.index[:0], "fold", inputs.classes, nothing)], ignore_index=True)


def _table(rows: pd.DataFrame, key: str, classes: list[str], found: "NDArray[np.float32]") -> pd.DataFrame:
    """Return a row for each of the index's `rows`: its `key`, file, label, predicted, and the probabilities found."""
    table = rows[[key, "file", "label"]].reset_index(drop=True)
    table["predicted"] = [classes[number] for number in found.argmax(axis=1)]
    return pd.concat([table, pd.DataFrame(found, columns=[f"p:{label}" for label in classes])], axis=1)


def _provenance(trained: Trained, inputs: Inputs) -> dict[str, Any]:
    facts, computed = read_json(inputs.weights / "backbone.json"), inputs.computed
    train = inputs.selected("train")
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


def compare_parts(model: "keras.Model", part: "keras.Model", inputs: Inputs) -> None:
    """Check that the whole network gives, from raw pictures, what frozen and trained part give in turn.

    Both in float32: in a reduced precision random networks, whose features hardly vary, differ visibly.
    Raises RuntimeError when they differ: some part of what is saved would not be what was trained.
    """
    from stages.models.extraction import forward

    blocks = inputs.backbone.unfreeze.blocks
    pictures = read_rows(array_path(PREPARED, inputs.backbone.input_size, "validation"), 0, _COMPARED)
    below = pictures
    if blocks != "all":
        joint = "cut" if blocks else "features"
        below = forward(inputs.weights, Choice("openvino", "float32", threads()), joint)(pictures)[joint]
    # Called, not predicted: to trace a network for a few pictures takes longer than to run it.
    expected, found = (
        np.asarray(network(values.astype(np.float32), training=False))
        for network, values in ((part, below), (model, pictures))
    )
    difference = float(np.abs(found - expected).max())
    # Written so that a difference which is no number is noticed too.
    if not difference <= _TOLERANCE:
        raise RuntimeError(
            f"{inputs.backbone.name}: probabilities differ by {difference:.3g} from those of the network's parts"
        )


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
    with _checkpoints(backbone.name) as checkpoints, replacing_folder(Path("data/models") / backbone.name) as folder:
        _main_run(folder, inputs, checkpoints)
        write_csv(folder / "folds.csv", folds(inputs, checkpoints))


def _main_run(folder: Path, inputs: Inputs, checkpoints: Path) -> None:
    """Train, write and check what the split of the pictures asks for; its networks are let go at the end."""
    trained = finetune(inputs, checkpoints)
    compare_parts(trained.model, trained.part, inputs)
    write(folder, trained, inputs)


if __name__ == "__main__":
    run(main)
