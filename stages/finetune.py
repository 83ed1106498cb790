"""Stage `finetune@B`: more than the linear head, where it helps; what validation prefers is kept.

Every backbone has its linear head from stage probe. For candidates (stage candidates) the dense head that the
backbone's line declares is trained on the same features (`finetune.head.units`), and the top of the network from the
linear head on (`finetune.unfreeze.blocks`). What has the lowest log loss on the validation part is kept, or, with
`finetune.head.choose: declared`, the last of these. A network without frozen features, such as `scratch`, is trained
whole. The test part is predicted once, by each. Without a dense head or trained blocks no TensorFlow is started.

Writes `data/models/B/`, without any frozen weights: stage export joins these to whole models.

    head.npz          the head that is kept (stages/models/head.py)
    top.keras         the trained top of the network, from the tensor that provenance.json names on; where it is kept
    predictions.csv   split, file, label, predicted, p:CLASS...: images that what is kept, or its like, had not seen
    heads.csv         the same for each head that was tried, by its kind (column head): linear, dense, unfrozen, whole
    history.csv       an epoch of what was trained in each row
    repeats.csv       predictions with other seeds, of what is kept; a linear head has no seed
    shares.csv        predictions of the test part on fewer images (`finetune.training_shares`), by linear heads
    folds.csv         predictions of each image by the run that tests its fold (`split.folds`)
    untuned.csv       predictions without what tune@B has chosen; no rows where it has chosen nothing
    provenance.json   what all of that is, and where it comes from
    outline/          what the costs follow from (stages/models/engine.py)

How long it took, which is never the same, is in `data/timings/B.json`.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stages.errors import run
from stages.fates import is_fine_tuned
from stages.files import read_csv, read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.images.augmentation import Augmentation, ViewParams
from stages.images.prepared import count_folds, read_classes, read_index
from stages.models import engine, head
from stages.models.backbones import Backbone, read_backbone
from stages.models.inputs import Inputs
from stages.models.machine import processor
from stages.params import load_part, named_backbone, seed, threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.models.top_trainer import TrainedTop
    from stages.models.training import Run

log = logging.getLogger(__name__)
RECIPES = Path("data/recipes")
PREPARED = Path("data/prepared")
WEIGHTS = Path("data/weights")
FEATURES = Path("data/features")
VIEWS = Path("data/views")
PROBES = Path("data/probes")
TUNING = Path("data/tuning")
MODELS = Path("data/models")
TIMINGS = Path("data/timings")
HISTORY = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
_TEXT = ("split", "file", "label", "predicted")
_SPLITS = ("validation", "test")
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
        trained = self._tops.train(inputs, start, found, _SPLITS)
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


def repeats(inputs: Inputs, trainer: Trainer | None, kind: Kind) -> pd.DataFrame:
    """Return repeat, split, file, label, predicted, p:CLASS of validation and test, by trainings with other seeds.

    Repeat 1, 2, ... has the main one's seed and so much more.
    """
    if trainer is None or kind == "linear":
        return _joined([], inputs, "repeat", "split")
    count = inputs.backbone.repeats if kind == "dense" else inputs.backbone.unfreeze.repeats
    tables = []
    for repeat in range(1, count):
        found = anew(replace(inputs, seed=inputs.seed + repeat), trainer, kind, f"repeat {repeat}")
        tables.append(_marked(found, repeat=repeat))
    return _joined(tables, inputs, "repeat", "split")


def shares(inputs: Inputs, trainer: Trainer) -> pd.DataFrame:
    """Return share, training_pictures, file, label, predicted, p:CLASS of the test images, by a whole network."""
    tables = []
    for share in inputs.backbone.training_shares:
        part = replace(inputs, share=share)
        found = anew(part, trainer, "whole", f"share {share:g}")
        images = part.selected("train")["file"].nunique()
        tables.append(_marked(_test(found), share=share, training_pictures=images))
    return _joined(tables, inputs, "share", "training_pictures")


def folds(inputs: Inputs, trainer: Trainer, kind: Kind) -> pd.DataFrame:
    """Return fold, file, label, predicted, p:CLASS for every image once; no row where there are no folds."""
    tables = []
    for fold in range(count_folds(inputs.index)):
        found = anew(replace(inputs, fold=fold), trainer, kind, f"fold {fold}")
        tables.append(_marked(_test(found), fold=fold))
    return _joined(tables, inputs, "fold")


def untuned(inputs: Inputs, default: Inputs, trainer: Trainer | None, found: list[Tried]) -> pd.DataFrame:
    """Return the predictions that would be kept without what a search has chosen, by `default` hyperparameters.

    No rows where it has chosen nothing, or where what it has chosen is not kept.
    """
    same = (default.backbone, default.views) == (inputs.backbone, inputs.views)
    if same or trainer is None or kept(found, inputs.backbone.head.choose).kind != "dense":
        return _joined([], inputs, "split")
    without = found[:1]
    if default.backbone.head.units:
        without = [*without, trainer.dense(default, "untuned")]
    table = kept(without, default.backbone.head.choose).predictions
    return table[table["split"].isin(_SPLITS)]


def _test(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "test"].drop(columns="split")


def _marked(table: pd.DataFrame, **keys: float) -> pd.DataFrame:
    """Return the table with columns in front that hold one value each."""
    return table.assign(**keys)[[*keys, *table]]


def _joined(tables: list[pd.DataFrame], inputs: Inputs, *keys: str) -> pd.DataFrame:
    """Return the tables, which begin with `keys`, below each other; without any their columns."""
    columns = [*keys, "file", "label", "predicted", *(f"p:{label}" for label in inputs.classes)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def write(folder: Path, inputs: Inputs, found: list[Tried], chosen: dict[str, Any]) -> Tried:
    """Write what was tried, and what of it is kept, into `folder`; return the latter."""
    best, facts = kept(found, inputs.backbone.head.choose), read_json(inputs.weights / "backbone.json")
    head.save(best.head, folder / "head.npz")
    _write_network(folder, best, facts["parameters"] + best.head.parameters)
    write_csv(folder / "predictions.csv", best.predictions)
    write_csv(folder / "heads.csv", pd.concat([_tested(each) for each in found], ignore_index=True))
    write_csv(folder / "history.csv", _history(found))
    write_json(folder / "provenance.json", _provenance(inputs, facts, found, best) | {"tuned": chosen})
    return best


def _write_network(folder: Path, best: Tried, parameters: int) -> None:
    """Write the trained top, if there is one, and what the costs of the whole of so many `parameters` follow from."""
    if best.trained is None:
        engine.write_architecture(folder / "outline", best.head, parameters, "features", None)
        return
    from stages.models import keras_engine

    top = best.trained.top
    keras_engine.save(top, folder / keras_engine.TOP)
    converted = keras_engine.convert(top.input, {"features": top.output})
    engine.write_architecture(folder / "outline", best.head, parameters, best.trained.start, converted)


def _tested(each: Tried) -> pd.DataFrame:
    rows = each.predictions[each.predictions["split"].isin(_SPLITS)]
    return rows.assign(head=each.kind)[["head", *rows]]


def _history(found: list[Tried]) -> pd.DataFrame:
    """Return the epochs of all that was trained, counted on."""
    rows = [row for each in found for row in each.history]
    return pd.DataFrame([row | {"epoch": number} for number, row in enumerate(rows, 1)], columns=list(HISTORY))


def _provenance(inputs: Inputs, facts: dict[str, Any], found: list[Tried], best: Tried) -> dict[str, Any]:
    copied = ("backbone", "builder", "input_size", "pooling", "weights")
    fitted = ["train", "validation"] if best.kind == "linear" or _refitted(inputs, best) else ["train"]
    solved = found[0].facts if found[0].kind == "linear" else {"strength": None, "losses": {}}
    trained = sum(int(np.prod(v.shape)) for v in best.trained.top.trainable_variables) if best.trained else 0
    images = sum(len(inputs.selected(split)) for split in fitted)
    used = inputs.views if best.kind != "linear" else 0
    return {key: facts[key] for key in copied} | {
        "classes": inputs.classes,
        "parameters": facts["parameters"] + best.head.parameters,
        "trainable_parameters": trained + best.head.parameters,
        "engine": inputs.computed["engine"],
        "precision": inputs.computed["precision"],
        "epochs_run": len(best.history),
        "best_epoch": best.best_epoch,
        "train_pictures": images,
        "train_views": images * (used + 1),
        "seed": inputs.seed,
        "versions": {library: version(library) for library in _libraries(found)},
        "head": {
            "kept": best.kind,
            "declared": found[-1].kind,
            "choose": inputs.backbone.head.choose,
            "validation_log_loss": validation_losses(found),
            "fitted_on": fitted,
            **solved,
        },
        "unfrozen": next((_unfrozen(each, facts["blocks"]) for each in found if each.trained), None),
        "top": {"input": best.trained.start} if best.trained else None,
    }


def _unfrozen(each: Tried, blocks: int) -> dict[str, Any]:
    """Return how many blocks were trained, and of how many: a block that takes the images has no name of its own."""
    return {**each.facts, "of": max(blocks, each.facts["blocks"])}


def _refitted(inputs: Inputs, best: Tried) -> bool:
    return best.kind == "dense" and inputs.backbone.refit


def _libraries(found: list[Tried]) -> list[str]:
    """Return the libraries that computed this."""
    trained = ["keras", "tensorflow"] if any(each.history for each in found) else []
    return sorted([*trained, "numpy", "openvino", "scipy"])


@contextmanager
def _scratch(name: str) -> Iterator[Path]:
    folder = scratch_folder(f"finetune-{name}")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


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
        view_features=VIEWS / backbone.name,
        augmentation=Augmentation(params.augmentation, seed()),
    )


def _trainer(inputs: Inputs, first: Tried | None, scratch: Path) -> Trainer | None:
    """Return what trains, or None where there is nothing to train but the linear head."""
    recipe = inputs.backbone
    if first is None:
        return Trainer(inputs, None, scratch)
    if not is_fine_tuned(recipe.name):
        log.info("%s: not among the candidates, so it keeps its linear head", recipe.name)
        return None
    if not recipe.head.units and not recipe.unfreeze.blocks:
        return None
    return Trainer(inputs, first.facts["strength"], scratch)


def main() -> None:
    """Write `data/models/B/` for the backbone named on the command line."""
    backbone = read_backbone(RECIPES, named_backbone())
    default, probe = read_inputs(backbone), PROBES / backbone.name
    chosen = read_json(TUNING / backbone.name / "chosen.json")["values"]
    inputs = default.with_values(chosen)
    first = linear(probe) if read_json(inputs.weights / "backbone.json")["frozen"] else None
    with _scratch(backbone.name) as scratch, replacing_folder(MODELS / backbone.name) as folder:
        trainer = _trainer(inputs, first, scratch)
        found = list(tried(inputs, trainer, first))
        best = write(folder, inputs, found, chosen)
        write_csv(folder / "repeats.csv", repeats(inputs, trainer, best.kind))
        write_csv(folder / "untuned.csv", untuned(inputs, default, trainer, found))
        _write_beside(folder, inputs, trainer, best.kind, probe)
    write_json(TIMINGS / f"{backbone.name}.json", _timings(found))
    losses = ", ".join(f"{kind} {loss:.3f}" for kind, loss in validation_losses(found).items())
    log.info("%s: the %s head is kept; log loss on validation: %s", backbone.name, best.kind, losses)


def _write_beside(folder: Path, inputs: Inputs, trainer: Trainer | None, kind: Kind, probe: Path) -> None:
    """Write the predictions on fewer images and over folds: of linear heads those that stage probe has made."""
    if trainer is None or kind == "linear":
        shutil.copyfile(probe / "folds.csv", folder / "folds.csv")
    else:
        write_csv(folder / "folds.csv", folds(inputs, trainer, kind))
    if kind == "whole":
        assert trainer is not None
        write_csv(folder / "shares.csv", shares(inputs, trainer))
    else:
        shutil.copyfile(probe / "shares.csv", folder / "shares.csv")


def _timings(found: list[Tried]) -> dict[str, Any]:
    """Return how long training took on this machine, and how many epochs of all there were."""
    seconds = {
        "head_seconds": sum(each.seconds for each in found if each.kind == "dense"),
        "finetune_seconds": sum(each.seconds for each in found if each.kind in ("unfrozen", "whole")),
    }
    return seconds | {"epochs": sum(len(each.history) for each in found), "processor": processor()}


if __name__ == "__main__":
    run(main)
