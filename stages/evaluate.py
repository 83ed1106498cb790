"""Stage `evaluate`: the metrics of the predictions of the test images, with confidence intervals.

Reads the predictions of every declared backbone and writes data/evaluations/BACKBONE: metrics.json, confusion.csv (one
row for each test image: its class, and the one that is decided for), calibration.csv, and calibration_scaled.csv with
the temperature fitted on out-of-sample predictions. Labels and predictions of the test images are not compared before
this stage. In metrics.json `heads` has the metrics of each head that was tried, `folds` mean and standard deviation
over folds, `repeats` the standard deviation over trainings with other seeds, `shares` the accuracy with fewer training
images, `learning_curve` what twice of them would bring, `tuning` the gain of tuned hyperparameters, `measure` what
decides (`report.measure`).
"""

import hashlib
import logging
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from stages.core import files, intervals, params, predictions
from stages.core.errors import DataError, run
from stages.core.measure import Measure, as_exported
from stages.core.predictions import Predictions, apply_temperature, fit_temperature, read_groups, read_predictions
from stages.core.settings.evaluate import EvaluateParams
from stages.core.settings.recipes import read_names
from stages.core.settings.report import ACCURACY, COST, MeasureParams
from stages.core.shares import Training, trainings
from stages.statistics import metrics, pairwise, resampled
from stages.statistics.contest import Contest, read_contest
from stages.statistics.groups import Groups, accuracy_images
from stages.statistics.shares import Shares, over_shares

MODELS = Path("data/models")
SPLITS = Path("data/splits.csv")
EVALUATIONS = Path("data/evaluations")
# The head that is solved exactly on frozen features, as heads.csv calls it.
LINEAR = "linear"
VALIDATION = "validation"
_TABLES = ("predictions", "heads", "folds", "repeats", "shares", "baseline")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """The results of finetune for one backbone: its provenance, and its tables of predictions by name.

    `groups` has the name of the group of each image's file.
    """

    provenance: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    groups: "pd.Series[str]"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return tuple(self.provenance["classes"])


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one backbone."""

    metrics: dict[str, Any]
    confusion: pd.DataFrame
    calibration: pd.DataFrame
    calibration_scaled: pd.DataFrame


def judge(model: Model, settings: EvaluateParams, measure: Measure, seed: int) -> Evaluation:
    """Return the evaluation of one backbone, for which the `measure` decides."""
    tables, classes = model.tables, model.classes
    table, heads = tables["predictions"], tables["heads"]
    test, validation = (predictions.of_split(table, split, classes) for split in ("test", VALIDATION))
    unseen = predictions.unseen(table, classes)
    groups = Groups.of(model.groups.loc[table.loc[table["split"] == "test", "file"]].to_numpy())
    result = evaluate(test, groups, validation, unseen, settings, measure, seed)
    exported = result.metrics["temperature"]
    more = {
        "weights": model.provenance["weights"]["source"],
        "measure": over_measure(measure, result.metrics, table, classes, model.groups),
        "heads": over_heads(
            heads, {model.provenance["head"]["kept"]: exported}, classes, model.groups, settings, measure
        ),
        "repeats": over_repeats(test, predictions.of_repeats(tables["repeats"], classes)),
        **over_shares(_shares(model, heads, test), groups, settings.confidence, seed),
        "tuning": over_tuning(table, tables["baseline"], classes, model.groups, settings, measure),
    }
    if folds := predictions.of_folds(tables["folds"], classes):
        more["folds"] = over_folds(folds, settings.confidence) | {"digest": digest(tables["folds"])}
    return replace(result, metrics=result.metrics | more)


def evaluate(
    test: Predictions,
    groups: Groups,
    validation: Predictions,
    unseen: Predictions,
    settings: EvaluateParams,
    measure: Measure,
    seed: int,
) -> Evaluation:
    """Compute the metrics of the `test` predictions, and for comparison those of `validation`, used for selection.

    The temperature is fitted on `unseen`: images outside the test split, predicted by fits that had not seen them.

    `groups` are those of the test images. `intervals` are those of `resampled.intervals`; that of the accuracy has a
    width even for a perfect score.
    `design_effect` says how many of them are worth one image, which is 1 where each is a group of its own.
    `ece_by_chance` is the calibration error that a calibrated network would have on average on as many images. `seed`
    is that of the resamples. `per_class` and the confusion are those of what the `measure` decides for, such as the
    class of the lowest expected cost; all else is that of the most probable class.
    """
    actual, predicted, probabilities = test.actual, test.predicted, test.probabilities
    bins = metrics.calibration(actual, predicted, probabilities, settings.calibration_bins)
    ends = resampled.intervals(test, groups, settings.confidence, settings.resamples, seed)
    assert ends["accuracy"]
    temperature = fit_temperature(unseen.actual, unseen.probabilities)
    scaled = apply_temperature(probabilities, temperature)
    scaled_bins = metrics.calibration(actual, predicted, scaled, settings.calibration_bins)
    decided = measure.decided(replace(test, probabilities=scaled))
    values = {
        "accuracy": metrics.accuracy(actual, predicted),
        "accuracy_low": ends["accuracy"].low,
        "accuracy_high": ends["accuracy"].high,
        "confidence": settings.confidence,
        "macro_f1": metrics.macro_f1(actual, predicted),
        "balanced_accuracy": metrics.balanced_accuracy(actual, predicted),
        f"top_{settings.top_k}": metrics.top_k(actual, probabilities, settings.top_k),
        "log_loss": metrics.log_loss(actual, probabilities),
        "ece": metrics.expected_calibration_error(bins),
        "ece_by_chance": resampled.expected_ece(test, settings.calibration_bins, settings.resamples, seed),
        "temperature": temperature,
        "temperature_images": len(unseen.actual),
        "log_loss_scaled": metrics.log_loss(actual, scaled),
        "ece_scaled": metrics.expected_calibration_error(scaled_bins),
        "intervals": {"method": resampled.METHOD, "resamples": settings.resamples, **ends},
        "per_class": metrics.per_class(actual, decided, test.classes),
        "test_images": len(actual),
        "test_groups": len(groups),
        "design_effect": len(actual) / accuracy_images(actual == predicted, groups, settings.confidence),
        "validation": {
            "accuracy": metrics.accuracy(validation.actual, validation.predicted),
            "log_loss": metrics.log_loss(validation.actual, validation.probabilities),
        },
    }
    names = pd.Index(test.classes)
    confusion = pd.DataFrame({"actual": names[actual], "predicted": names[decided]})
    return Evaluation(values, confusion, bins, scaled_bins)


def over_folds(folds: list[Predictions], confidence: float) -> dict[str, Any]:
    """Return the metrics of each of K folds with mean, sample standard deviation and the interval of the mean accuracy.

    Every image is tested in one run and trained on in K - 2: a run tests 1 / (K - 2) as many images as it trains on.
    """
    found = {
        "accuracy": [metrics.accuracy(fold.actual, fold.predicted) for fold in folds],
        "macro_f1": [metrics.macro_f1(fold.actual, fold.predicted) for fold in folds],
        "log_loss": [metrics.log_loss(fold.actual, fold.probabilities) for fold in folds],
    }
    interval = intervals.mean_over_folds(found["accuracy"], 1 / (len(folds) - 2), confidence)
    means = {f"{name}_mean": statistics.fmean(values) for name, values in found.items()}
    deviations = {f"{name}_sd": statistics.stdev(values) for name, values in found.items()}
    return {
        "count": len(folds),
        "images": [len(fold.actual) for fold in folds],
        **found,
        **means,
        **deviations,
        "accuracy_mean_low": interval.low,
        "accuracy_mean_high": interval.high,
    }


def over_measure(
    measure: Measure, found: dict[str, Any], table: pd.DataFrame, classes: tuple[str, ...], groups: "pd.Series[str]"
) -> dict[str, Any]:
    """Return the `measure` that decides: its name, its value on the test images with its interval, on validation.

    `found` are the other metrics, which have some of these; `table` has the predictions. `low` and `high` are None
    where there is no interval. `matrix` has the costs by actual and by predicted class, where they decide.
    """
    validation = as_exported(predictions.of_split(table, VALIDATION, classes), found["temperature"])
    test = table[table["split"] == "test"]
    contest = read_contest(measure, {"own": test}, groups, {}, {"own": found["temperature"]})
    value, interval = float(contest.measured[0]), found["intervals"].get(measure.name)
    # These are not among the metrics: the log loss there is the one before scaling.
    if measure.of_probabilities or measure.label is not None:
        interval = None if contest.groups.few else contest.interval(0, value, found["confidence"])
    elif measure.key in found:
        value = found[measure.key]
    low, high = interval or (None, None)
    facts = {"name": measure.name, "value": value, "low": low, "high": high, "images": contest.images}
    known = facts | {"validation": measure.value(validation)}
    return known | ({"matrix": measure.matrix_by_class(classes)} if measure.name == COST else {})


def over_repeats(test: Predictions, repeats: list[Predictions]) -> dict[str, Any]:
    """Return the accuracies on the `test` images of the main training and of `repeats` with other seeds.

    With mean and sample standard deviation, which is None for a single training.
    """
    found = [metrics.accuracy(each.actual, each.predicted) for each in (test, *repeats)]
    deviation = statistics.stdev(found) if repeats else None
    return {"count": len(found), "accuracy": found, "mean": statistics.fmean(found), "sd": deviation}


def over_heads(
    table: pd.DataFrame,
    exported: dict[str, float],
    classes: tuple[str, ...],
    groups: "pd.Series[str]",
    settings: EvaluateParams,
    measure: Measure,
) -> list[dict[str, Any]]:
    """Return the metrics of each head in heads.csv, in its order, and for others than the kept one how far it is ahead.

    `exported` has the temperature of the kept head, by its name. It scales that head on the test images, so that its
    value is that of the backbone; the others, and all on validation, as when one was chosen, are scaled by what fits
    their own validation images.

    `validation_log_loss` and `validation_value`, that of the measure, are on the validation images that all heads could
    predict; the kept one was chosen by them. `difference` is how much better the kept one is by the measure on the same
    test images, such as its accuracy minus theirs, with its interval low to high and its p-value (`pairwise`).
    """
    found = {name: table[table["head"] == name] for name in dict.fromkeys(table["head"])}
    (kept,) = exported
    if kept not in found:
        raise DataError(f"heads.csv without the kept head '{kept}'", "each head that was tried", "run finetune again")
    comparable = _comparable(found)
    temperatures = {name: _temperature(rows, classes, measure) for name, rows in comparable.items()}
    contest = _tested(found, groups, measure, temperatures | exported)
    differences = _differences(contest, kept, settings)
    values = dict(zip(contest.names, contest.measured.tolist(), strict=True))
    return [
        {"head": name, "kept": name == kept, "value": values[name]}
        | _scores(rows, classes, measure, temperatures[name])
        | differences.get(name, {})
        for name, rows in comparable.items()
    ]


def _comparable(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the rows of each head, restricted to validation images that all heads could predict."""
    parts = {name: rows["split"] == VALIDATION for name, rows in found.items()}
    common = set.intersection(*({*rows.loc[parts[name], "file"]} for name, rows in found.items()))
    return {name: rows[~parts[name] | rows["file"].isin(common)] for name, rows in found.items()}


def _temperature(rows: pd.DataFrame, classes: tuple[str, ...], measure: Measure) -> float:
    """Return the temperature of a head, fitted on images that it had not seen; 1 where the measure needs none."""
    if not measure.of_probabilities:
        return 1.0
    unseen = predictions.unseen(rows, classes)
    return fit_temperature(unseen.actual, unseen.probabilities)


def _tested(
    found: dict[str, pd.DataFrame], groups: "pd.Series[str]", measure: Measure, temperatures: dict[str, float]
) -> Contest:
    """Return the comparison of several heads on the test images."""
    tables = {name: rows[rows["split"] == "test"] for name, rows in found.items()}
    return read_contest(measure, tables, groups, {}, temperatures)


def _scores(rows: pd.DataFrame, classes: tuple[str, ...], measure: Measure, temperature: float) -> dict[str, float]:
    test, validation = (predictions.of_split(rows, split, classes) for split in ("test", VALIDATION))
    return {
        "accuracy": metrics.accuracy(test.actual, test.predicted),
        "log_loss": metrics.log_loss(test.actual, test.probabilities),
        "validation_log_loss": metrics.log_loss(validation.actual, validation.probabilities),
        "validation_value": measure.value(as_exported(validation, temperature)),
    }


def _differences(contest: Contest, kept: str, settings: EvaluateParams) -> dict[str, dict[str, float]]:
    """Return the differences of the kept head from each other head."""
    return {name: _between(contest.of(kept, name), settings.confidence) for name in contest.names if name != kept}


def _between(pair: Contest, confidence: float) -> dict[str, float]:
    """Return by how much the first is better than the second, with its interval, and the p-value."""
    interval = pairwise.difference_interval(pair, confidence)
    return {"difference": pairwise.difference(pair), **interval._asdict(), "p": pairwise.p_value(pair)}


def _shares(model: Model, heads: pd.DataFrame, test: Predictions) -> Shares:
    """Return the trainings of linear heads, which are fitted on validation images as well, or else of the kept model.

    The predictions of the latter are `test`.
    """
    few = trainings(model.tables["shares"], len(test.actual))
    linear, images = heads[heads["head"] == LINEAR], model.provenance["train_images"]
    validation = int((model.tables["predictions"]["split"] == VALIDATION).sum())
    if linear.empty:
        return Shares([*few, Training(1.0, 0, images, test.predicted)] if few else [], test.actual, validation)
    if VALIDATION not in model.provenance["head"]["fitted_on"]:
        images += validation
    solved = predictions.of_split(linear, "test", model.classes)
    return Shares([*few, Training(1.0, 0, images, solved.predicted)] if few else [], solved.actual, 0)


def over_tuning(
    table: pd.DataFrame,
    baseline: pd.DataFrame,
    classes: tuple[str, ...],
    groups: "pd.Series[str]",
    settings: EvaluateParams,
    measure: Measure,
) -> dict[str, float] | None:
    """Return the gain of tuned hyperparameters on the test images; None if none were chosen.

    `gain` is how much better it is by the measure than the default ones, such as the accuracy minus theirs,
    `baseline_accuracy`, on the same images, with its interval low to high and its p-value.
    """
    if baseline.empty:
        return None
    found = {"tuned": table, "baseline": baseline}
    temperatures = {name: _temperature(rows, classes, measure) for name, rows in found.items()}
    between = _differences(_tested(found, groups, measure, temperatures), "tuned", settings)["baseline"]
    gain = between.pop("difference")
    test = baseline[baseline["split"] == "test"]
    return {"baseline_accuracy": float((test["label"] == test["predicted"]).mean()), "gain": gain, **between}


def digest(table: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that identify the assignment of images to folds."""
    lines = sorted(f"{fold} {file}" for fold, file in zip(table["fold"], table["file"], strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read(backbone: str, groups: "pd.Series[str]") -> Model:
    """Return the results of finetune for one backbone. Raise DataError when it has not run."""
    folder = MODELS / backbone
    try:
        provenance = files.read_json(folder / "provenance.json")
        return Model(provenance, {name: read_predictions(folder / f"{name}.csv") for name in _TABLES}, groups)
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the predictions of '{backbone}'", f"run 'dvc repro finetune@{backbone}'"
        ) from error


def write(folder: Path, found: Evaluation) -> None:
    """Write the evaluation of one backbone to `folder`."""
    files.write_json(folder / "metrics.json", found.metrics)
    for name in ("confusion", "calibration", "calibration_scaled"):
        files.write_csv(folder / f"{name}.csv", getattr(found, name))


def main() -> None:
    """Evaluate all declared backbones."""
    settings, seed = params.load(EvaluateParams, "evaluate"), params.seed()
    measure = Measure.of(params.load_part(MeasureParams, "report"))
    groups = read_groups(SPLITS)
    with files.replacing_folder(EVALUATIONS) as target:
        for backbone in tqdm(read_names(), desc="evaluate", disable=None):
            found = judge(read(backbone, groups), settings, measure, seed)
            write(target / backbone, found)
            _report(backbone, found.metrics, measure)


def _report(backbone: str, found: dict[str, Any], measure: Measure) -> None:
    _log.info(
        "%s: %saccuracy %.3f (%.3f to %.3f) on %d test images, weights: %s",
        backbone,
        _deciding(found["measure"], measure),
        *(found[key] for key in ("accuracy", "accuracy_low", "accuracy_high", "test_images", "weights")),
    )


def _deciding(found: dict[str, Any], measure: Measure) -> str:
    """Return the value of the measure with its interval for the log; nothing of the accuracy, which is there."""
    if measure.name == ACCURACY:
        return ""
    ends = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"{measure.words} {found['value']:.3f}{ends}, "


if __name__ == "__main__":
    run(main)
