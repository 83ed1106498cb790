"""Stage `finetune@B`: train the dense head, where one is declared; what validation prefers is kept.

Every backbone has its linear head from stage probe. For candidates (stage candidates) the dense head that the
backbone's line declares is trained on the same features (`finetune.head.units`), and stage unfreeze has trained the top
of the network (`finetune.unfreeze.blocks`). What has the lowest log loss on the validation part is kept, or, with
`finetune.head.choose: declared`, the last of these. The test part is predicted once, by each. Without a dense head no
TensorFlow is started.

Writes `data/models/B/`, without any frozen weights: stage export joins these to whole models.

    head.npz          the head that is kept (stages/core/head.py)
    top.keras         the trained top of the network, from the tensor that provenance.json names on; where it is kept
    predictions.csv   split, file, label, predicted, p:CLASS...: images that what is kept, or its like, had not seen
    heads.csv         the same for each head that was tried, by its kind (column head): linear, dense, unfrozen, whole
    history.csv       an epoch of what was trained in each row
    repeats.csv       predictions with other seeds, of what is kept; a linear head has no seed
    shares.csv        predictions of the test part on fewer images (`finetune.training_shares`), by linear heads
    folds.csv         predictions of each image by the run that tests its fold (`split.folds`)
    untuned.csv       predictions without what tune@B has chosen; no rows where it has chosen nothing
    provenance.json   what all of that is, and where it comes from
    outline/          what the costs follow from (stages/networks/engine.py)

How long it took, which is never the same, is in `data/timings/finetune/B.json`.
"""

import logging
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.core import head
from stages.core.dataset.prepared import read_classes, read_index
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.core.params import lookup, named_backbone, read, seed, threads
from stages.core.selection import is_fine_tuned
from stages.core.settings.backbones import Backbone, read_head
from stages.networks import engine
from stages.networks.processor import processor
from stages.training import attempts
from stages.training.attempts import HISTORY, SPLITS, Tried, joined, kept, linear, predictions, validation_losses
from stages.training.inputs import Inputs

log = logging.getLogger(__name__)
RECIPES = Path("data/recipes")
PREPARED = Path("data/prepared")
WEIGHTS = Path("data/weights")
FEATURES = Path("data/features")
VIEWS = Path("data/views")
PROBES = Path("data/probes")
UNFROZEN = Path("data/unfrozen")
TUNING = Path("data/tuning")
MODELS = Path("data/models")
TIMINGS = Path("data/timings/finetune")


class Trainer:
    """Trains dense heads for one backbone, over and over; the making of it starts TensorFlow."""

    def __init__(self, inputs: Inputs, scratch: Path) -> None:
        from stages.networks import keras_engine

        # First: it also keeps TensorFlow quiet while that starts.
        keras_engine.repeatable(inputs.seed, threads())
        from stages.training.head_trainer import HeadTrainer
        from stages.training.loop import expect_tracing

        expect_tracing()
        self.scratch = scratch
        width = read_json(inputs.weights / "backbone.json")["width"]
        self._heads: HeadTrainer = HeadTrainer(width, len(inputs.classes))
        self.seconds = 0.0

    def train(self, inputs: Inputs, name: str) -> Tried:
        """Train a head, and fit it once more on validation images as well if asked for; the log calls it `name`."""
        from stages.training.head_trainer import predict
        from stages.training.loop import Run

        found = Run()
        # Of its own: a training that never improves reads no checkpoint, and must not find an earlier one's.
        with TemporaryDirectory(dir=self.scratch) as checkpoints:
            first = self._heads.train(inputs, found, Path(checkpoints))
        last = self._heads.refit(inputs, found) if inputs.backbone.refit else first
        self.seconds = sum(found.seconds.values())
        images = inputs.selected("train")["file"].nunique()
        log.info("%s: best epoch %d of %d, %d training images", name, found.best_epoch, len(found.rows), images)
        probabilities = {"validation": predict(first, inputs, "validation"), "test": predict(last, inputs, "test")}
        return Tried("dense", last, predictions(inputs, probabilities), found.rows, found.best_epoch)

    def anew(self, inputs: Inputs, name: str) -> pd.DataFrame:
        """Train with other inputs; return the predictions alone."""
        return self.train(inputs, name).predictions


def untuned(inputs: Inputs, default: Inputs, trainer: Trainer | None, found: list[Tried]) -> pd.DataFrame:
    """Return the predictions that would be kept without what a search has chosen, by `default` hyperparameters.

    No rows where it has chosen nothing, or where what it has chosen is not kept.
    """
    same = (default.backbone, default.views) == (inputs.backbone, inputs.views)
    if same or trainer is None or kept(found, inputs.backbone.head.choose).kind != "dense":
        return joined([], inputs, "split")
    without = found[:1]
    if default.backbone.head.units:
        without = [*without, trainer.train(default, "untuned")]
    table = kept(without, default.backbone.head.choose).predictions
    return table[table["split"].isin(SPLITS)]


def write(folder: Path, inputs: Inputs, found: list[Tried], chosen: dict[str, Any]) -> Tried:
    """Write what was tried, and what of it is kept, into `folder`; return the latter."""
    best, facts = kept(found, inputs.backbone.head.choose), read_json(inputs.weights / "backbone.json")
    head.save(best.head, folder / "head.npz")
    _write_network(folder, best, inputs.backbone.name, facts["parameters"] + best.head.parameters)
    write_csv(folder / "predictions.csv", best.predictions)
    write_csv(folder / "heads.csv", pd.concat([_tested(each) for each in found], ignore_index=True))
    write_csv(folder / "history.csv", _history(found))
    write_json(folder / "provenance.json", _provenance(inputs, facts, found, best) | {"tuned": chosen})
    return best


def _write_network(folder: Path, best: Tried, name: str, parameters: int) -> None:
    """Write the trained top, if there is one, and what the costs of the whole of so many `parameters` follow from."""
    if best.kind in ("linear", "dense"):
        engine.write_architecture(folder / "outline", best.head, parameters, "features", None)
        return
    shutil.copyfile(UNFROZEN / name / engine.TOP, folder / engine.TOP)
    shutil.copytree(UNFROZEN / name / "outline", folder / "outline")


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
    unfrozen = next((each.facts for each in found if each.kind in ("unfrozen", "whole")), None)
    top = best.facts if best.kind in ("unfrozen", "whole") else None
    images = sum(len(inputs.selected(split)) for split in fitted)
    used = inputs.views if best.kind != "linear" else 0
    return {key: facts[key] for key in copied} | {
        "classes": inputs.classes,
        "parameters": facts["parameters"] + best.head.parameters,
        "trainable_parameters": (top["parameters"] if top else 0) + best.head.parameters,
        "engine": inputs.computed["engine"],
        "precision": inputs.computed["precision"],
        "epochs_run": len(best.history),
        "best_epoch": best.best_epoch,
        "train_images": images,
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
        "unfrozen": _unfrozen(unfrozen, facts["blocks"]) if unfrozen else None,
        "top": {"input": top["start"]} if top else None,
    }


def _unfrozen(told: Mapping[str, Any], blocks: int) -> dict[str, Any]:
    """Return how many blocks were trained, and of how many: a block that takes the images has no name of its own."""
    return {key: told[key] for key in ("blocks", "epochs", "stopped")} | {"of": max(blocks, told["blocks"])}


def _refitted(inputs: Inputs, best: Tried) -> bool:
    return best.kind == "dense" and inputs.backbone.refit


def _libraries(found: list[Tried]) -> list[str]:
    """Return the libraries that computed this."""
    trained = ["keras", "tensorflow"] if any(each.history for each in found) else []
    return sorted([*trained, "numpy", "openvino", "scipy"])


def read_inputs(backbone: Backbone) -> Inputs:
    """Return what the trainings of a backbone read."""
    return Inputs(
        backbone,
        WEIGHTS / backbone.name,
        FEATURES / backbone.name,
        PREPARED,
        read_index(PREPARED),
        read_classes(PREPARED),
        seed(),
        views=lookup(read(), "preprocess.views"),
        view_features=VIEWS / backbone.name,
    )


def _trainer(inputs: Inputs, scratch: Path) -> Trainer | None:
    """Return what trains dense heads, or None where there is none to train."""
    recipe = inputs.backbone
    if not recipe.head.units:
        return None
    if not is_fine_tuned(recipe.name):
        log.info("%s: not among the candidates, so no dense head is trained", recipe.name)
        return None
    return Trainer(inputs, scratch)


def main() -> None:
    """Write `data/models/B/` for the backbone named on the command line."""
    backbone = read_head(RECIPES, named_backbone())
    default, probe, unfrozen = read_inputs(backbone), PROBES / backbone.name, UNFROZEN / backbone.name
    chosen = read_json(TUNING / backbone.name / "chosen.json")["values"]
    inputs = default.with_values(chosen)
    frozen = read_json(inputs.weights / "backbone.json")["frozen"]
    timings = {"seconds": 0.0, "epochs": 0, "processor": processor()}
    with scratch_folder(f"finetune-{backbone.name}") as scratch, replacing_folder(MODELS / backbone.name) as folder:
        trainer = _trainer(inputs, scratch) if frozen else None
        found = [linear(probe)] if frozen else []
        if trainer:
            found.append(trainer.train(inputs, "dense head"))
            timings |= {"seconds": trainer.seconds, "epochs": len(found[-1].history)}
        if trained := attempts.load(unfrozen):
            found.append(trained)
        best = write(folder, inputs, found, chosen)
        write_csv(folder / "untuned.csv", untuned(inputs, default, trainer, found))
        if best.kind == "linear":
            write_csv(folder / "repeats.csv", joined([], inputs, "repeat", "split"))
            shutil.copyfile(probe / "folds.csv", folder / "folds.csv")
        elif best.kind == "dense":
            assert trainer is not None
            write_csv(folder / "repeats.csv", attempts.repeats(inputs, backbone.repeats, trainer.anew))
            write_csv(folder / "folds.csv", attempts.folds(inputs, trainer.anew))
        else:
            for table in ("repeats.csv", "folds.csv"):
                shutil.copyfile(unfrozen / table, folder / table)
        shutil.copyfile((unfrozen if best.kind == "whole" else probe) / "shares.csv", folder / "shares.csv")
    write_json(TIMINGS / f"{backbone.name}.json", timings)
    losses = ", ".join(f"{kind} {loss:.3f}" for kind, loss in validation_losses(found).items())
    log.info("%s: the %s head is kept; log loss on validation: %s", backbone.name, best.kind, losses)


if __name__ == "__main__":
    run(main)
