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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.errors import run
from stages.fates import is_fine_tuned
from stages.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.images.augmentation import Augmentation, ViewParams
from stages.images.prepared import count_folds, read_classes, read_index
from stages.models import engine, head
from stages.models.attempts import SPLITS, Kind, Trainer, Tried, anew, kept, linear, tried, validation_losses
from stages.models.backbones import Backbone, read_backbone
from stages.models.inputs import Inputs
from stages.models.machine import processor
from stages.params import load_part, named_backbone, seed

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
    return table[table["split"].isin(SPLITS)]


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
    rows = each.predictions[each.predictions["split"].isin(SPLITS)]
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
