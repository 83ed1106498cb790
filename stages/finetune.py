"""Stage `finetune@B`: train the dense head, if one is declared; keep the best head by validation.

Every backbone has its linear head from stage probe. For candidates (stage candidates) the dense head that the
backbone's line declares is trained on the same features (`finetune.head.units`), and stage unfreeze has trained the top
of the network (`finetune.unfreeze.blocks`). The attempt that is best on the validation split is kept, by
`report.measure` or, for accuracy, by log loss; with `finetune.head.choose: declared`, the last one. Each predicts the
test split once. Without a dense head TensorFlow is not started.

Writes `data/models/B/`, without the frozen weights: stage export joins them into whole models.

    head.npz          the kept head (stages/core/head.py)
    top.keras         the trained top of the network, above the tensor that provenance.json names, if it is kept
    predictions.csv   split, file, label, predicted, p:CLASS...: out-of-sample predictions
    heads.csv         the same for each attempt, by its kind (column head): linear, dense, unfrozen, whole
    history.csv       one row per training epoch
    repeats.csv       predictions by the kept head with other seeds; none for a linear head
    shares.csv        test predictions with fewer training images (`finetune.training_shares`), by linear heads
    folds.csv         predictions of each image by the run that tests its fold (`split.folds`)
    baseline.csv      predictions with the default hyperparameters; no rows if stage tune has chosen no others
    provenance.json   how all of this was made
    architecture/     what determines the costs (stages/networks/engine.py)

The training time, which differs from run to run, is in `data/timings/finetune/B.json`.
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
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.core.measure import Measure
from stages.core.params import named_backbone
from stages.core.selection import is_fine_tuned
from stages.core.settings.recipes import FinetuneRecipe, read_recipe
from stages.networks import engine
from stages.networks.processor import processor
from stages.training import attempts
from stages.training.attempts import (
    HISTORY,
    SPLITS,
    Attempt,
    joined,
    kept,
    linear,
    predictions,
    validation_losses,
    validation_values,
)
from stages.training.inputs import TrainingData

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
FEATURES = Path("data/features")
VIEWS = Path("data/views")
PROBES = Path("data/probes")
UNFROZEN = Path("data/unfrozen")
TUNING = Path("data/tuning")
MODELS = Path("data/models")
TIMINGS = Path("data/timings/finetune")


class Trainer:
    """Trains dense heads for one backbone, repeatedly; creating a trainer starts TensorFlow."""

    def __init__(self, inputs: TrainingData, scratch: Path) -> None:
        from stages.networks import keras_engine

        # First, because importing it also silences TensorFlow's start.
        keras_engine.make_deterministic(inputs.seed, inputs.threads)
        from stages.training.head_trainer import HeadTrainer
        from stages.training.loop import expect_tracing

        expect_tracing()
        self.scratch = scratch
        width = inputs.network["width"]
        self._heads: HeadTrainer = HeadTrainer(width, len(inputs.classes))
        self.seconds = 0.0

    def train(self, inputs: TrainingData, name: str) -> Attempt:
        """Train a head, and refit it on validation images as well if `refit` is set; the log calls it `name`."""
        from stages.training.head_trainer import predict
        from stages.training.loop import Run

        found = Run()
        # A separate folder: a training that never improves writes no checkpoint, and must not find an earlier one.
        with TemporaryDirectory(dir=self.scratch) as checkpoints:
            first = self._heads.train(inputs, found, Path(checkpoints))
        last = self._heads.refit(inputs, found) if inputs.backbone.refit else first
        self.seconds = sum(found.seconds.values())
        images = inputs.selected("train")["file"].nunique()
        log.info("%s: best epoch %d of %d, %d training images", name, found.best_epoch, len(found.rows), images)
        probabilities = {"validation": predict(first, inputs, "validation"), "test": predict(last, inputs, "test")}
        return Attempt("dense", last, predictions(inputs, probabilities), found.rows, found.best_epoch)

    def retrain(self, inputs: TrainingData, name: str) -> pd.DataFrame:
        """Train on other data; return only the predictions."""
        return self.train(inputs, name).predictions


def baseline(
    inputs: TrainingData, default: TrainingData, trainer: Trainer | None, found: list[Attempt], measure: Measure
) -> pd.DataFrame:
    """Return the predictions that would be kept with the `default` hyperparameters.

    No rows if a search has chosen no others, or if the tuned head is not kept.
    """
    same = (default.backbone, default.views) == (inputs.backbone, inputs.views)
    if same or trainer is None or kept(found, inputs.backbone.head.choose, measure).kind != "dense":
        return joined([], inputs, "split")
    without = found[:1]
    if default.backbone.head.units:
        without = [*without, trainer.train(default, "baseline")]
    table = kept(without, default.backbone.head.choose, measure).predictions
    return table[table["split"].isin(SPLITS)]


def write(
    folder: Path, inputs: TrainingData, found: list[Attempt], chosen: dict[str, Any], measure: Measure
) -> Attempt:
    """Write the attempts to `folder`; return the kept one."""
    best, facts = kept(found, inputs.backbone.head.choose, measure), inputs.network
    head.save(best.head, folder / "head.npz")
    _write_network(folder, best, inputs.backbone.name, facts["parameters"] + best.head.parameters)
    write_csv(folder / "predictions.csv", best.predictions)
    write_csv(folder / "heads.csv", pd.concat([_tested(each) for each in found], ignore_index=True))
    write_csv(folder / "history.csv", _history(found))
    write_json(folder / "provenance.json", _provenance(inputs, facts, found, best) | {"tuned": chosen})
    return best


def _write_network(folder: Path, best: Attempt, name: str, parameters: int) -> None:
    """Write the trained top, if any, and the architecture of the classifier with its number of `parameters`."""
    if best.kind in ("linear", "dense"):
        engine.write_architecture(folder / "architecture", best.head, parameters, "features", None)
        return
    shutil.copyfile(UNFROZEN / name / engine.TOP, folder / engine.TOP)
    shutil.copytree(UNFROZEN / name / "architecture", folder / "architecture")


def _tested(each: Attempt) -> pd.DataFrame:
    rows = each.predictions[each.predictions["split"].isin(SPLITS)]
    return rows.assign(head=each.kind)[["head", *rows]]


def _history(found: list[Attempt]) -> pd.DataFrame:
    """Return the epochs of all attempts, numbered consecutively."""
    rows = [row for each in found for row in each.history]
    return pd.DataFrame([row | {"epoch": number} for number, row in enumerate(rows, 1)], columns=list(HISTORY))


def _provenance(inputs: TrainingData, facts: dict[str, Any], found: list[Attempt], best: Attempt) -> dict[str, Any]:
    copied = ("backbone", "builder", "arguments", "input_size", "pooling", "weights")
    fitted = ["train", "validation"] if best.kind == "linear" or _refitted(inputs, best) else ["train"]
    solved = found[0].facts if found[0].kind == "linear" else {"strength": None, "losses": {}}
    unfrozen = next((each.facts for each in found if each.kind in ("unfrozen", "whole")), None)
    top = best.facts if best.kind in ("unfrozen", "whole") else None
    images = sum(len(inputs.selected(split)) for split in fitted)
    used = 0 if best.kind == "linear" else int(best.facts.get("views", inputs.views))
    return {key: facts[key] for key in copied} | {
        "classes": inputs.classes,
        "parameters": facts["parameters"] + best.head.parameters,
        "trainable_parameters": (top["parameters"] if top else 0) + best.head.parameters,
        "engine": inputs.computed["engine"],
        "precision": inputs.computed["precision"],
        "inputs": inputs.computed["inputs"],
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


def _unfrozen(facts: Mapping[str, Any], blocks: int) -> dict[str, Any]:
    """Return how many blocks were trained, and of how many: the block that takes the images has no name."""
    return {key: facts[key] for key in ("blocks", "epochs", "stopped")} | {"of": max(blocks, facts["blocks"])}


def _refitted(inputs: TrainingData, best: Attempt) -> bool:
    return best.kind == "dense" and inputs.backbone.refit


def _libraries(found: list[Attempt]) -> list[str]:
    """Return the libraries that the results depend on."""
    trained = ["keras", "tensorflow"] if any(each.history for each in found) else []
    return sorted([*trained, "numpy", "openvino", "scipy"])


def _trainer(inputs: TrainingData, scratch: Path) -> Trainer | None:
    """Return the trainer of dense heads, or None if there is none to train."""
    recipe = inputs.backbone
    if not recipe.head.units:
        return None
    if not is_fine_tuned(recipe.name):
        log.info("%s: not selected as a candidate, so no dense head is trained", recipe.name)
        return None
    return Trainer(inputs, scratch)


def main() -> None:
    """Write `data/models/B/` for the backbone named on the command line."""
    backbone = read_recipe(FinetuneRecipe, named_backbone())
    measure = Measure.of(backbone.deciding)
    default = TrainingData.with_view_features(backbone, PREPARED, FEATURES, VIEWS)
    probe, unfrozen = PROBES / backbone.name, UNFROZEN / backbone.name
    chosen = read_json(TUNING / backbone.name / "chosen.json")["values"]
    inputs = default.with_values(chosen)
    frozen = inputs.network["frozen"]
    timings = {"seconds": 0.0, "epochs": 0, "processor": processor()}
    with scratch_folder(f"finetune-{backbone.name}") as scratch, replacing_folder(MODELS / backbone.name) as folder:
        trainer = _trainer(inputs, scratch) if frozen else None
        found = [linear(probe)] if frozen else []
        if trainer:
            found.append(trainer.train(inputs, "dense head"))
            timings |= {"seconds": trainer.seconds, "epochs": len(found[-1].history)}
        if trained := attempts.load(unfrozen):
            found.append(trained)
        best = write(folder, inputs, found, chosen, measure)
        write_csv(folder / "baseline.csv", baseline(inputs, default, trainer, found, measure))
        if best.kind == "linear":
            write_csv(folder / "repeats.csv", joined([], inputs, "repeat", "split"))
            shutil.copyfile(probe / "folds.csv", folder / "folds.csv")
        elif best.kind == "dense":
            assert trainer is not None
            write_csv(folder / "repeats.csv", attempts.repeats(inputs, backbone.repeats, trainer.retrain))
            write_csv(folder / "folds.csv", attempts.folds(inputs, trainer.retrain))
        else:
            for table in ("repeats.csv", "folds.csv"):
                shutil.copyfile(unfrozen / table, folder / table)
        shutil.copyfile((unfrozen if best.kind == "whole" else probe) / "shares.csv", folder / "shares.csv")
    write_json(TIMINGS / f"{backbone.name}.json", timings)
    name, values = "log loss", validation_losses(found)
    if deciding := validation_values(found, measure):
        name, values = measure.name, deciding
    numbers = ", ".join(f"{kind} {value:.3f}" for kind, value in values.items())
    log.info("%s: the %s head is kept; %s on validation: %s", backbone.name, best.kind, name, numbers)


if __name__ == "__main__":
    run(main)
