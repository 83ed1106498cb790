"""What is known about each backbone, ranked, and the tables that DVC and the report draw from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.intervals import Interval
from stages.core.measure import Measure
from stages.core.presets import FULL
from stages.core.settings.report import BEST, COST, COSTS, MEASURE, PRESET, RECOMMENDED
from stages.statistics.decision import Resampled

# Metrics of data/metrics.json, which git keeps.
SUMMARY = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "log_loss", "ece", "weights")
# Metrics of the validation split that are there too, prefixed with val_: experiments can be chosen by them without the
# test images.
VALIDATION_SUMMARY = ("accuracy", "log_loss")
# Those of them that are DVC's metrics, in a file for each backbone, which is a row of `dvc metrics show`, beside the
# measure that decides (`compared`).
COMPARED = ("accuracy", "macro_f1", "log_loss", "ece", "val_accuracy", "val_log_loss")
# Metrics over folds that are there too, prefixed with folds_, where there are folds.
FOLDS_SUMMARY = ("accuracy_mean", "accuracy_sd")
CURVES = ("accuracy", "val_accuracy", "loss", "val_loss")
# Kept heads below which the network was trained as well: its top from the linear head, or all of it from nothing.
_FURTHER = ("unfrozen", "whole")


@dataclass(frozen=True)
class Run:
    """One backbone: its metrics, costs, history and where it came from, each as its stage wrote it.

    `tested` has a row for each test image: file, label, predicted, confidence; `repeats` has repeat, file, label and
    predicted of further trainings with other seeds, and is empty where there are none. `search` is tune's search.json,
    `trials` its table, empty where nothing was searched; `precision` is explain's precision.json.
    """

    backbone: str
    metrics: dict[str, Any]
    confusion: pd.DataFrame
    calibration: pd.DataFrame
    calibration_scaled: pd.DataFrame
    benchmark: dict[str, Any]
    history: pd.DataFrame
    provenance: dict[str, Any]
    timings: dict[str, Any]
    tested: pd.DataFrame
    repeats: pd.DataFrame
    search: dict[str, Any]
    precision: dict[str, Any]
    trials: pd.DataFrame

    @property
    def searched(self) -> bool:
        """Whether a search for hyperparameters was made."""
        return len(self.trials) > 0

    @property
    def kept(self) -> str:
        """The head that was kept: linear, dense, unfrozen or whole."""
        return str(self.provenance["head"]["kept"])

    @property
    def heads(self) -> dict[str, dict[str, Any]]:
        """What evaluate found of each head that was tried, by its name."""
        return {head["head"]: head for head in self.metrics["heads"]}

    @property
    def frozen(self) -> bool:
        """Whether the network below the head that was kept still has the weights it came with."""
        return self.kept not in _FURTHER

    @property
    def trained_once(self) -> bool:
        """Whether it is unknown what another seed would have made of it: a linear head is solved exactly."""
        return self.kept != "linear" and self.metrics["repeats"]["count"] == 1

    @property
    def curved(self) -> bool:
        """Whether something was trained in epochs."""
        return len(self.history) > 0

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the history that was kept, None where what there was before the first one was.

        A dense head was trained before the network was unfrozen: its epochs come first.
        """
        before = 0 if self.frozen else int((self.history["phase"] == "head").sum())
        found = self.provenance["best_epoch"]
        return before + found if found else None

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of the probabilities."""
        return list(self.provenance["classes"])

    @property
    def measure(self) -> Measure:
        """The measure that decides, without its costs."""
        return Measure(self.metrics["measure"]["name"])

    @property
    def value(self) -> float:
        """The value of the measure that decides, on the test images."""
        return float(self.metrics["measure"]["value"])

    @property
    def value_interval(self) -> Interval | None:
        """The interval of that; None where there is none to show."""
        low, high = self.metrics["measure"]["low"], self.metrics["measure"]["high"]
        return None if low is None else Interval(low, high)

    @property
    def interval(self) -> Interval:
        """The interval of the accuracy."""
        return Interval(self.metrics["accuracy_low"], self.metrics["accuracy_high"])

    @property
    def folds(self) -> dict[str, Any]:
        """The metrics over folds; empty where there are no folds."""
        return dict(self.metrics.get("folds", {}))

    @property
    def fold_interval(self) -> Interval:
        """The interval of the mean accuracy over folds."""
        return Interval(self.folds["accuracy_mean_low"], self.folds["accuracy_mean_high"])

    @property
    def repeated(self) -> list[float]:
        """The accuracies of further trainings with other seeds, without the main one."""
        return list(self.metrics["repeats"]["accuracy"][1:])

    @property
    def training_seconds(self) -> float:
        """How long the dense head and the blocks were trained; 0 where only a linear head was solved."""
        return float(self.timings["head_seconds"] + self.timings["finetune_seconds"])

    @property
    def random(self) -> bool:
        """Whether the backbone has random weights instead of published ones."""
        return bool(self.provenance["weights"]["source"] == "random")

    @property
    def from_scratch(self) -> bool:
        """Whether the backbone was trained on these images alone, without published weights."""
        return bool(self.provenance["weights"]["source"] == "none")

    @property
    def pretrained(self) -> bool:
        """Whether the backbone was trained on other images before."""
        return not self.random and not self.from_scratch


def check(runs: list[Run], measure: Measure) -> None:
    """Raise DataError unless all were scored by the measure, on the same images of the same classes, in equal folds."""
    supports = {run.backbone: {name: row["support"] for name, row in run.metrics["per_class"].items()} for run in runs}
    first = runs[0].backbone
    for backbone, support in supports.items():
        if support != supports[first]:
            raise DataError(
                f"'{backbone}' was scored on other test images than '{first}'",
                "the same images for all",
                "run 'dvc repro'",
            )
    for run in runs:
        if run.metrics["measure"]["name"] != measure.name:
            raise DataError(
                f"'{run.backbone}' was scored by {run.metrics['measure']['name']}",
                f"report.measure = {measure.name}",
                "run 'dvc repro'",
            )
        if measure.name == COST and run.metrics["measure"]["matrix"] != measure.matrix_by_class(run.classes):
            raise DataError(f"'{run.backbone}' was scored by other costs", "those of report.costs", "run 'dvc repro'")
        if run.folds.get("digest") != runs[0].folds.get("digest"):
            raise DataError(f"'{run.backbone}' has other folds than '{first}'", "the same for all", "run 'dvc repro'")


def ranked(runs: Iterable[Run], measure: Measure) -> list[Run]:
    """Return the best first: by the measure on the test images, then the lower log loss, then the name."""
    return sorted(runs, key=lambda run: (-measure.sign * run.value, run.metrics["log_loss"], run.backbone))


def ranked_over_folds(runs: Sequence[Run]) -> list[Run]:
    """Return the best over folds first: by mean accuracy, then the lower mean log loss, then the name.

    Empty where there are no folds.
    """
    if not runs[0].folds:
        return []
    return sorted(runs, key=lambda run: (-run.folds["accuracy_mean"], run.folds["log_loss_mean"], run.backbone))


def summary(
    ranking: list[Run], recommended: str | None, resampled: Resampled, measure: Measure, preset: str = FULL
) -> dict[str, Any]:
    """Return data/metrics.json: the main metrics of each backbone, what decides, the best one, the `recommended` one.

    `ranking` has the best first by the `measure`, which each has under its key, with its interval.
    `selected_in_resamples` is the share of the bootstrap resamples of the test images in which a backbone was selected;
    the selected one, or else the best, has the measure without the optimism of that.
    """
    values: dict[str, Any] = {run.backbone: _summary(run, measure) for run in ranking}
    for name, share in resampled.shares.items():
        values[name]["selected_in_resamples"] = share
    if resampled.interval:
        low, high = resampled.interval
        key = f"{measure.key}_of_selection"
        corrected = {key: resampled.value, f"{key}_low": low, f"{key}_high": high}
        values[recommended or ranking[0].backbone] |= corrected
    by = {MEASURE: measure.name} | ({COSTS: measure.costs} if measure.name == COST else {})
    made = {} if preset == FULL else {PRESET: preset}
    return values | {BEST: ranking[0].backbone, RECOMMENDED: recommended} | by | made


def _summary(run: Run, measure: Measure) -> dict[str, Any]:
    validation = {f"val_{key}": run.metrics["validation"][key] for key in VALIDATION_SUMMARY}
    folds = {f"folds_{key}": run.folds[key] for key in FOLDS_SUMMARY} if run.folds else {}
    found = run.metrics["measure"]
    ends = {f"{measure.key}_{end}": found[end] for end in ("low", "high")}
    deciding = {measure.key: found["value"], **ends, f"val_{measure.key}": found["validation"]}
    return {key: run.metrics[key] for key in SUMMARY} | validation | folds | deciding


def compared(values: Mapping[str, Any], measure: Measure) -> dict[str, Any]:
    """Return those figures of one backbone of data/metrics.json that are DVC's metrics: with the `measure`'s own."""
    return {key: values[key] for key in dict.fromkeys((*COMPARED, measure.key, f"val_{measure.key}"))}


def learning_curves(runs: list[Run]) -> pd.DataFrame:
    """Return the history of all backbones in long form; linear heads have none."""
    columns = ["phase", "epoch", *CURVES]
    tables = [run.history[columns].assign(backbone=run.backbone) for run in runs if run.curved]
    if not tables:
        return pd.DataFrame(columns=["backbone", *columns])
    return pd.concat(tables, ignore_index=True)[["backbone", *columns]]


def accuracies(runs: list[Run]) -> pd.DataFrame:
    """Return the accuracy of each backbone with its interval."""
    columns = ["accuracy", "accuracy_low", "accuracy_high"]
    rows = [[run.backbone, *(run.metrics[key] for key in columns)] for run in runs]
    return pd.DataFrame(rows, columns=["backbone", *columns])


def fold_accuracies(runs: list[Run]) -> pd.DataFrame:
    """Return the accuracy of each backbone in each fold in long form."""
    rows = [(run.backbone, fold, found) for run in runs for fold, found in enumerate(run.folds["accuracy"])]
    return pd.DataFrame(rows, columns=["backbone", "fold", "accuracy"])


def training_shares(runs: list[Run]) -> pd.DataFrame:
    """Return the mean accuracy of each backbone over the draws of each share of the training images, in long form."""
    columns = ["share", "training_images", "draws", "accuracy", "low", "high"]
    rows = [[run.backbone, *(share[key] for key in columns)] for run in runs for share in run.metrics["shares"]]
    return pd.DataFrame(rows, columns=["backbone", *columns])


def recalls(runs: list[Run]) -> pd.DataFrame:
    """Return the recall of each class by each backbone in long form; a class without test images has none."""
    rows = [
        (run.backbone, name, row["recall"], row["support"])
        for run in runs
        for name, row in run.metrics["per_class"].items()
        if row["recall"] is not None
    ]
    return pd.DataFrame(rows, columns=["backbone", "class", "recall", "images"])


def calibrations(runs: list[Run]) -> pd.DataFrame:
    """Return what each backbone claimed and was right on, bin by bin, before and after temperature scaling."""
    tables = [
        table.loc[table["images"] > 0, ["confidence", "accuracy", "images"]].assign(backbone=run.backbone, of=of)
        for run in runs
        for of, table in (("as trained", run.calibration), ("scaled", run.calibration_scaled))
    ]
    return pd.concat(tables, ignore_index=True)[["backbone", "of", "confidence", "accuracy", "images"]]


def counts(run: Run) -> NDArray[np.int64]:
    """Return how many test images of each class (row) were given each class (column)."""
    position = {name: index for index, name in enumerate(run.classes)}
    size = len(position)
    actual, predicted = (run.confusion[side].map(position).to_numpy(dtype=np.int64) for side in ("actual", "predicted"))
    return np.bincount(actual * size + predicted, minlength=size * size).reshape(size, size)


def shares(found: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return `counts` divided by the number of images of the actual class; rows without images are 0."""
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1))


def confusion(runs: list[Run]) -> pd.DataFrame:
    """Return the confusion of all backbones in long form: the cells that are not 0, and the diagonal.

    The diagonal keeps every class on both axes of the plot.
    """
    return pd.concat([_cells(run) for run in runs], ignore_index=True)


def _cells(run: Run) -> pd.DataFrame:
    found = counts(run)
    rows, columns = np.nonzero(found + np.eye(len(found), dtype=np.int64))
    names = pd.Index(run.classes)
    return pd.DataFrame(
        {
            "backbone": run.backbone,
            "actual": names[rows],
            "predicted": names[columns],
            "images": found[rows, columns],
            "share": shares(found)[rows, columns],
        }
    )
