"""Stage `finetune@B`: train a head on the frozen features, then the top of the backbone, if any.

Writes `data/models/B/`: `model.keras` (raw RGB pictures, 0 to 255, in; probabilities out), `history.csv`,
`predictions.csv` for validation and test, `provenance.json`, and what stage benchmark reads, which changes with the
network's shape alone: `outline.xml` and `.bin` (the trained part without its weights, for OpenVINO: with the frozen
part of `data/weights/B/` it is as large as the whole network) and `outline.json`. How long it took, which is never
the same, is in `data/timings/B.json`.

Validation chooses the epoch; the test part is predicted once, by what was chosen. The same is done anew, each time
as if the process had just started, and only the predictions are kept:

    folds.csv     for each fold, those of its pictures by a network that never saw them
    repeats.csv   with other seeds (`finetune.repeats`), for validation and test
    shares.csv    on a part of the training pictures (`finetune.training_shares`), for test
    untuned.csv   without what tune@B has chosen, for validation and test; no rows where it has chosen nothing

On frozen features one takes a second or two; where blocks are unfrozen as long as the main training.

A backbone that `data/candidates/B.json` leaves out is not trained: the files that later stages read are there, empty.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stages.errors import run
from stages.fates import is_fine_tuned
from stages.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.images.prepared import array_path, count_folds, read_classes, read_index, read_rows
from stages.models.backbones import resolve
from stages.models.engine import OUTLINE, Choice, outline
from stages.models.inputs import Inputs
from stages.models.machine import processor
from stages.params import named_backbone, read, seed, threads

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from stages.models.head_trainer import HeadTrainer
    from stages.models.training import Run

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
MODELS = Path("data/models")
TIMINGS = Path("data/timings")
TUNING = Path("data/tuning")
# What later stages depend on, and do not read where a backbone was not trained.
_EMPTY = (
    "model.keras", "outline.bin", "outline.json", "outline.xml", "predictions.csv", "folds.csv", "repeats.csv",
    "shares.csv", "untuned.csv", "provenance.json",
)  # fmt: skip
# Probabilities of the whole network by Keras and by the engine, both in float32, may differ by this much.
_TOLERANCE = 0.01
# Pictures to compare them by.
_COMPARED = 2
# What trains and predicts.
LIBRARIES = ("keras", "numpy", "openvino", "tensorflow")


@dataclass(frozen=True)
class Trained:
    """What the main run makes: the whole network, its trained part, the history, probabilities per split."""

    model: "keras.Model"
    part: "keras.Model"
    history: "Run"
    probabilities: "dict[str, NDArray[np.float32]]"


def finetune(inputs: Inputs, trainer: "HeadTrainer", checkpoints: Path) -> Trained:
    """Train head and, where blocks are unfrozen, the top of the backbone; predict validation and test.

    Checkpoints go to the folder `checkpoints`. Raises ParameterError when training diverges.
    """
    import keras

    from stages.models import keras_engine
    from stages.models.training import Run

    history, unfrozen = Run(), inputs.backbone.unfreeze.blocks
    head = _train_head(inputs, trainer, history, checkpoints)
    backbone = keras_engine.load(inputs.weights / keras_engine.BACKBONE)
    part = _train_top(inputs, backbone, head, history, checkpoints) if unfrozen else head
    model = keras.Model(backbone.input, head(backbone(backbone.input)), name="classifier")
    predict = partial(_predict, part) if unfrozen else trainer.predict
    return Trained(model, part, history, {split: predict(inputs, split) for split in ("validation", "test")})


def train_anew(
    inputs: Inputs, trainer: "HeadTrainer", checkpoints: Path, name: str, *splits: str
) -> "dict[str, NDArray[np.float32]]":
    """Train as `inputs` say; return the probabilities of `splits`. The log calls the training `name`.

    Begins as if the process had just started, so that none depends on what was trained before it.
    """
    from stages.models import keras_engine
    from stages.models.training import Run

    # Of its own: a phase that never improves reads no checkpoint, and must not find an earlier training's.
    (own := checkpoints / name.replace(" ", "_")).mkdir()
    history, part = Run(), None
    head = _train_head(inputs, trainer, history, own)
    if inputs.backbone.unfreeze.blocks:
        backbone = keras_engine.load(inputs.weights / keras_engine.BACKBONE)
        part = _train_top(inputs, backbone, head, history, own)
    pictures = inputs.selected("train")["file"].nunique()
    log.info("%s: best epoch %d of %d, %d training pictures", name, history.best_epoch, len(history.rows), pictures)
    predict = partial(_predict, part) if part else trainer.predict
    found = {split: predict(inputs, split) for split in splits}
    if part:
        keras_engine.release(part)
    return found


def _train_head(inputs: Inputs, trainer: "HeadTrainer", history: "Run", checkpoints: Path) -> "keras.Model":
    """Return the head, trained on the frozen features, or untrained where nothing is frozen."""
    import keras

    from stages.models import heads

    if inputs.backbone.frozen_epochs:
        trainer.train(inputs, history, checkpoints)
        return trainer.head(inputs.backbone)
    keras.utils.set_random_seed(inputs.seed)
    return heads.build(inputs.backbone.head, trainer.width, trainer.classes, None, seed=inputs.seed)


def _train_top(
    inputs: Inputs, backbone: "keras.Model", head: "keras.Model", history: "Run", checkpoints: Path
) -> "keras.Model":
    """Train `head` and the unfrozen top of `backbone` together; return them as one network."""
    import keras

    from stages.models import networks
    from stages.models.training import Phase, train

    recipe = inputs.backbone
    top = networks.unfreeze(backbone, networks.cut(backbone, recipe.unfreeze.blocks, recipe.name))
    part = keras.Model(top.input, head(top.output), name="trained")
    data = [inputs.views(split, inputs.rows(split)) for split in ("train", "validation")]
    phase = Phase("finetune", recipe.unfrozen_epochs, recipe.unfreeze.learning_rate)
    train(part, (data[0], data[1]), phase, recipe, history, checkpoints)
    return part


def _predict(part: "keras.Model", inputs: Inputs, split: str) -> "NDArray[np.float32]":
    """Return the probabilities of the split's pictures, (pictures, classes), by what `_train_top` has trained."""
    found: NDArray[np.float32] = part.predict(inputs.views(split, inputs.rows(split)).dataset(), verbose=0)
    return found


def write(folder: Path, trained: Trained, inputs: Inputs, chosen: dict[str, Any]) -> None:
    """Write what the main run made, with the hyperparameters that a search has `chosen`, into `folder`."""
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
    write_json(folder / "provenance.json", _provenance(trained, inputs) | {"tuned": chosen})


def predictions(inputs: Inputs, probabilities: "dict[str, NDArray[np.float32]]") -> pd.DataFrame:
    """Return one row per picture: split, file, label, predicted, and the probability of each class."""
    tables = [_table(inputs, split, found, "split") for split, found in probabilities.items()]
    return pd.concat(tables, ignore_index=True)


def folds(inputs: Inputs, trainer: "HeadTrainer", checkpoints: Path) -> pd.DataFrame:
    """Return fold, file, label, predicted, p:CLASS for every picture once; no row where there are no folds."""
    tables = []
    for fold in range(count_folds(inputs.index)):
        part = replace(inputs, fold=fold)
        found = train_anew(part, trainer, checkpoints, f"fold {fold}", "test")
        tables.append(_table(part, "test", found["test"], "fold"))
    return _joined(tables, inputs, "fold")


def repeats(inputs: Inputs, trainer: "HeadTrainer", checkpoints: Path) -> pd.DataFrame:
    """Return repeat, split, file, label, predicted, p:CLASS for validation and test, by each training but the main one.

    Repeat 1, 2, ... has the main one's seed and so much more.
    """
    tables = []
    for repeat in range(1, inputs.backbone.repeats):
        part = replace(inputs, seed=inputs.seed + repeat)
        found = train_anew(part, trainer, checkpoints, f"repeat {repeat}", "validation", "test")
        tables.append(_marked(predictions(part, found), repeat=repeat))
    return _joined(tables, inputs, "repeat", "split")


def shares(inputs: Inputs, trainer: "HeadTrainer", checkpoints: Path) -> pd.DataFrame:
    """Return share, training_pictures, file, label, predicted, p:CLASS for the test pictures, by each share."""
    tables = []
    for share in inputs.backbone.training_shares:
        part = replace(inputs, share=share)
        found = train_anew(part, trainer, checkpoints, f"share {share:g}", "test")
        pictures = part.selected("train")["file"].nunique()
        tables.append(_marked(_table(part, "test", found["test"]), share=share, training_pictures=pictures))
    return _joined(tables, inputs, "share", "training_pictures")


def untuned(inputs: Inputs, default: Inputs, trainer: "HeadTrainer", checkpoints: Path) -> pd.DataFrame:
    """Return split, file, label, predicted, p:CLASS for validation and test, by the `default` hyperparameters.

    No rows where `inputs` have the same.
    """
    if (default.backbone, default.most_views) == (inputs.backbone, inputs.most_views):
        return _joined([], inputs, "split")
    return predictions(default, train_anew(default, trainer, checkpoints, "untuned", "validation", "test"))


def _table(inputs: Inputs, split: str, found: "NDArray[np.float32]", *keys: str) -> pd.DataFrame:
    """Return a row for each picture: the index's `keys`, file, label, predicted, and the probabilities found."""
    table = inputs.selected(split)[[*keys, "file", "label"]].reset_index(drop=True)
    table["predicted"] = [inputs.classes[number] for number in found.argmax(axis=1)]
    return pd.concat([table, pd.DataFrame(found, columns=[f"p:{label}" for label in inputs.classes])], axis=1)


def _marked(table: pd.DataFrame, **keys: float) -> pd.DataFrame:
    """Return the table with columns in front that hold one value each."""
    return table.assign(**keys)[[*keys, *table]]


def _joined(tables: list[pd.DataFrame], inputs: Inputs, *keys: str) -> pd.DataFrame:
    """Return the tables, which begin with `keys`, below each other; without any their columns."""
    columns = [*keys, "file", "label", "predicted", *(f"p:{label}" for label in inputs.classes)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


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
        "versions": {library: version(library) for library in LIBRARIES},
    }


def compare_parts(model: "keras.Model", part: "keras.Model", inputs: Inputs) -> None:
    """Check that the whole network gives, from raw pictures, what frozen and trained part give in turn.

    Both in float32: in a reduced precision random networks, whose features hardly vary, differ visibly.
    Raises RuntimeError when they differ: some part of what is saved would not be what was trained.
    """
    from stages.models.extraction import forward

    blocks = inputs.backbone.unfreeze.blocks
    pictures = read_rows(array_path(inputs.prepared, inputs.backbone.input_size, "validation"), 0, _COMPARED)
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
    if not is_fine_tuned(backbone.name):
        _leave_out(backbone.name)
        return
    from stages.models.head_trainer import HeadTrainer
    from stages.models.keras_engine import repeatable
    from stages.models.training import expect_tracing

    repeatable(seed(), threads())
    default = Inputs(
        backbone,
        Path("data/weights") / backbone.name,
        Path("data/features") / backbone.name,
        PREPARED,
        read_index(PREPARED),
        read_classes(PREPARED),
        seed(),
    )
    chosen = read_json(TUNING / backbone.name / "chosen.json")["values"]
    inputs = default.with_values(chosen)
    expect_tracing()
    with _checkpoints(backbone.name) as checkpoints, replacing_folder(MODELS / backbone.name) as folder:
        trainer = HeadTrainer(read_json(inputs.weights / "backbone.json")["width"], len(inputs.classes))
        history = _main_run(folder, inputs, trainer, checkpoints, chosen)
        for name, trained_anew in (("folds", folds), ("repeats", repeats), ("shares", shares)):
            write_csv(folder / f"{name}.csv", trained_anew(inputs, trainer, checkpoints))
        write_csv(folder / "untuned.csv", untuned(inputs, default, trainer, checkpoints))
    write_json(TIMINGS / f"{backbone.name}.json", _timings(history))


def _leave_out(name: str) -> None:
    log.info("%s: not among the candidates, so it is not fine-tuned", name)
    with replacing_folder(MODELS / name) as folder:
        for file in _EMPTY:
            (folder / file).touch()
    write_json(TIMINGS / f"{name}.json", {})


def _main_run(folder: Path, inputs: Inputs, trainer: "HeadTrainer", checkpoints: Path, chosen: dict[str, Any]) -> "Run":
    """Train, write and check what the split of the pictures asks for; its networks are let go at the end."""
    trained = finetune(inputs, trainer, checkpoints)
    compare_parts(trained.model, trained.part, inputs)
    write(folder, trained, inputs, chosen)
    return trained.history


def _timings(history: "Run") -> dict[str, Any]:
    """Return how long each phase of the main training took on this machine."""
    seconds = {f"{phase}_seconds": history.seconds.get(phase, 0.0) for phase in ("head", "finetune")}
    return seconds | {"epochs": len(history.rows), "processor": processor()}


if __name__ == "__main__":
    run(main)
