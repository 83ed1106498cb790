"""Stage evaluate: how good the predictions on the test images are, and how sure that is.

    python -m stages.evaluate

Reads the predictions of every declared backbone and writes data/evaluations/BACKBONE: metrics.json, confusion.csv (one
row for each test image), calibration.csv, and calibration_scaled.csv with the temperature that images ask for which no
fit had seen. Labels and predictions of the test images are compared here and nowhere before. In metrics.json `heads`
has what each head scored that was tried. With folds it has the mean over them and its spread under `folds`; `repeats`
has the spread over trainings with other seeds, `shares` what fewer images gave, `tuning` what chosen hyperparameters
brought.
"""

import hashlib
import logging
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from stages.core import files, params
from stages.core.errors import DataError, run
from stages.core.settings.evaluate import EvaluateParams

if TYPE_CHECKING:
    import pandas as pd

    from stages.core.intervals import Interval
    from stages.core.predictions import Predictions

MODELS = Path("data/models")
EVALUATIONS = Path("data/evaluations")
# The head that is solved exactly on frozen features, as heads.csv calls it.
LINEAR = "linear"
VALIDATION = "validation"
_TABLES = ("predictions", "heads", "folds", "repeats", "shares", "untuned")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """What finetune wrote about one backbone: where it comes from, and its tables of predictions by their name."""

    provenance: dict[str, Any]
    tables: "dict[str, pd.DataFrame]"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return tuple(self.provenance["classes"])


@dataclass(frozen=True)
class Evaluation:
    """What the stage writes about one backbone."""

    metrics: dict[str, Any]
    confusion: "pd.DataFrame"
    calibration: "pd.DataFrame"
    calibration_scaled: "pd.DataFrame"


def judge(model: Model, settings: EvaluateParams, seed: int) -> Evaluation:
    """Return all that is to be said of one backbone."""
    from stages.core import predictions

    tables, classes = model.tables, model.classes
    table, heads = tables["predictions"], tables["heads"]
    test, validation = (predictions.of_split(table, split, classes) for split in ("test", VALIDATION))
    unseen = predictions.unseen(table, classes)
    result = evaluate(test, validation, unseen, model.provenance["weights"]["source"], settings, seed)
    more = {
        "heads": over_heads(heads, model.provenance["head"]["kept"], classes, settings, seed),
        "repeats": over_repeats(test, predictions.of_repeats(tables["repeats"], classes)),
        "shares": over_shares(_shares(model, heads, test), settings.confidence),
        "tuning": over_tuning(table, tables["untuned"], settings, seed),
    }
    if folds := predictions.of_folds(tables["folds"], classes):
        more["folds"] = over_folds(folds, settings.confidence) | {"digest": digest(tables["folds"])}
    return replace(result, metrics=result.metrics | more)


def evaluate(
    test: "Predictions",
    validation: "Predictions",
    unseen: "Predictions",
    weights: str,
    settings: EvaluateParams,
    seed: int,
) -> Evaluation:
    """Score the `test` predictions; of `validation` only what chose head and epoch, to compare with.

    The temperature is that which `unseen` ask for: images, none of the test part, that the fits which predicted them
    had not seen.

    The accuracy goes with Wilson's interval, which is never narrower than it should be and has a width for a perfect
    score; `intervals` has the bootstrap's for every metric, the accuracy's too: with some 20 images it holds the
    truth in 88 % of all cases in place of 95 %, with 100 and more in as many as it should. `seed` is that of the
    resamples.
    """
    import pandas as pd

    from stages.core import intervals
    from stages.core.predictions import scaled as tempered
    from stages.statistics import metrics, resampled, temperature

    actual, predicted, probabilities = test.actual, test.predicted, test.probabilities
    bins = metrics.calibration(actual, predicted, probabilities, settings.calibration_bins)
    interval = intervals.proportion(int((actual == predicted).sum()), len(actual), settings.confidence)
    drawn = resampled.intervals(test, settings.calibration_bins, settings.confidence, settings.resamples, seed)
    degree = temperature.fitted(unseen.actual, unseen.probabilities)
    scaled = tempered(probabilities, degree)
    scaled_bins = metrics.calibration(actual, predicted, scaled, settings.calibration_bins)
    values = {
        "accuracy": metrics.accuracy(actual, predicted),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "confidence": settings.confidence,
        "macro_f1": metrics.macro_f1(actual, predicted),
        "balanced_accuracy": metrics.balanced_accuracy(actual, predicted),
        f"top_{settings.top_k}": metrics.top_k(actual, probabilities, settings.top_k),
        "log_loss": metrics.log_loss(actual, probabilities),
        "ece": metrics.expected_calibration_error(bins),
        "temperature": degree,
        "temperature_images": len(unseen.actual),
        "log_loss_scaled": metrics.log_loss(actual, scaled),
        "ece_scaled": metrics.expected_calibration_error(scaled_bins),
        "intervals": {"method": resampled.METHOD, "resamples": settings.resamples, **drawn},
        "per_class": metrics.per_class(actual, predicted, test.classes),
        "test_images": len(actual),
        "weights": weights,
        "validation": {
            "accuracy": metrics.accuracy(validation.actual, validation.predicted),
            "log_loss": metrics.log_loss(validation.actual, validation.probabilities),
        },
    }
    names = pd.Index(test.classes)
    confusion = pd.DataFrame({"actual": names[actual], "predicted": names[predicted]})
    return Evaluation(values, confusion, bins, scaled_bins)


def over_folds(folds: "list[Predictions]", confidence: float) -> dict[str, Any]:
    """Return the metrics of each of K folds with mean, sample standard deviation and the interval of the mean accuracy.

    Every image is tested in one run and trained on in K - 2: images tested are 1 / (K - 2) of those trained on.
    """
    from stages.core import intervals
    from stages.statistics import metrics

    found = {
        "accuracy": [metrics.accuracy(fold.actual, fold.predicted) for fold in folds],
        "macro_f1": [metrics.macro_f1(fold.actual, fold.predicted) for fold in folds],
        "log_loss": [metrics.log_loss(fold.actual, fold.probabilities) for fold in folds],
    }
    interval = intervals.mean_over_folds(found["accuracy"], 1 / (len(folds) - 2), confidence)
    means = {f"{name}_mean": statistics.fmean(values) for name, values in found.items()}
    spread = {f"{name}_sd": statistics.stdev(values) for name, values in found.items()}
    return {
        "count": len(folds),
        "images": [len(fold.actual) for fold in folds],
        **found,
        **means,
        **spread,
        "accuracy_mean_low": interval.low,
        "accuracy_mean_high": interval.high,
    }


def over_repeats(test: "Predictions", repeats: "list[Predictions]") -> dict[str, Any]:
    """Return the accuracy on the `test` images of the main training and then of `repeats` with other seeds.

    With mean and sample standard deviation, None where there is one training.
    """
    from stages.statistics import metrics

    found = [metrics.accuracy(each.actual, each.predicted) for each in (test, *repeats)]
    spread = statistics.stdev(found) if repeats else None
    return {"count": len(found), "accuracy": found, "mean": statistics.fmean(found), "sd": spread}


def over_shares(found: "dict[tuple[float, int], Predictions]", confidence: float) -> list[dict[str, float]]:
    """Return for each share of the training images, and their number, the accuracy with Wilson's interval."""
    from stages.core import intervals
    from stages.statistics import metrics

    rows = []
    for (share, images), test in found.items():
        right = int((test.actual == test.predicted).sum())
        low, high = intervals.proportion(right, len(test.actual), confidence)
        accuracy = metrics.accuracy(test.actual, test.predicted)
        rows.append({"share": share, "training_images": images, "accuracy": accuracy, "low": low, "high": high})
    return rows


def over_heads(
    table: "pd.DataFrame", kept: str, classes: tuple[str, ...], settings: EvaluateParams, seed: int
) -> list[dict[str, Any]]:
    """Return what each head of heads.csv scored, in its order; of those not kept how far they lie behind `kept`.

    `validation_log_loss` is that on the validation images that all of them could predict, by which one was kept.
    `difference` is the accuracy of the kept one less theirs on the same test images, with the ends low and high of its
    interval by the paired bootstrap and the p-value of McNemar's exact test.
    """
    found = {name: table[table["head"] == name] for name in dict.fromkeys(table["head"])}
    if kept not in found:
        raise DataError(f"heads.csv without the kept head '{kept}'", "each head that was tried", "run finetune again")
    behind, comparable = _behind(found, kept, settings, seed), _comparable(found)
    return [
        {"head": name, "kept": name == kept} | _scores(rows, classes) | behind.get(name, {})
        for name, rows in comparable.items()
    ]


def _comparable(found: "dict[str, pd.DataFrame]") -> "dict[str, pd.DataFrame]":
    """Return the rows of each head without validation images that another one could not predict."""
    parts = {name: rows["split"] == VALIDATION for name, rows in found.items()}
    common = set.intersection(*({*rows.loc[parts[name], "file"]} for name, rows in found.items()))
    return {name: rows[~parts[name] | rows["file"].isin(common)] for name, rows in found.items()}


def _scores(rows: "pd.DataFrame", classes: tuple[str, ...]) -> dict[str, float]:
    from stages.core import predictions
    from stages.statistics import metrics

    test, validation = (predictions.of_split(rows, split, classes) for split in ("test", VALIDATION))
    return {
        "accuracy": metrics.accuracy(test.actual, test.predicted),
        "log_loss": metrics.log_loss(test.actual, test.probabilities),
        "validation_log_loss": metrics.log_loss(validation.actual, validation.probabilities),
    }


def _behind(
    found: "dict[str, pd.DataFrame]", kept: str, settings: EvaluateParams, seed: int
) -> dict[str, dict[str, float]]:
    """Return for each head but the kept one how far it lies behind that."""
    from stages.statistics import pairwise

    others = [name for name in found if name != kept]
    if not others:
        return {}
    right = pairwise.correct({name: found[name] for name in (kept, *others)})
    intervals = pairwise.differences(right, settings.confidence, settings.resamples, seed)
    return {name: _between(right, (kept, name), intervals[kept, name]) for name in others}


def _between(right: "pd.DataFrame", names: tuple[str, str], interval: "Interval") -> dict[str, float]:
    """Return the first one's accuracy less the second one's, with its interval, and McNemar's p."""
    from stages.statistics import paired

    pairs = paired.Pairs(*(right[name].to_numpy() for name in names))
    return {"difference": pairs.difference, **interval._asdict(), "p": paired.mcnemar(pairs)}


def _shares(model: Model, heads: "pd.DataFrame", test: "Predictions") -> "dict[tuple[float, int], Predictions]":
    """Return the test images' predictions by each share of the training images, and by all; none without shares.

    By linear heads, which are fitted on validation images as well, where there is one, else by what was kept, which
    `test` has.
    """
    from stages.core import predictions

    if not (shares := predictions.of_shares(model.tables["shares"], model.classes)):
        return {}
    linear, images = heads[heads["head"] == LINEAR], model.provenance["train_images"]
    if linear.empty:
        return shares | {(1.0, images): test}
    if VALIDATION not in model.provenance["head"]["fitted_on"]:
        images += int((model.tables["predictions"]["split"] == VALIDATION).sum())
    return shares | {(1.0, images): predictions.of_split(linear, "test", model.classes)}


def over_tuning(
    table: "pd.DataFrame", untuned: "pd.DataFrame", settings: EvaluateParams, seed: int
) -> dict[str, float] | None:
    """Return what the chosen hyperparameters brought on the test images; None where none were chosen.

    `gain` is the accuracy less that of the default ones, `untuned_accuracy`, on the same images, with the ends low
    and high of its interval by the paired bootstrap and the p-value of McNemar's exact test.
    """
    if untuned.empty:
        return None
    found = {"tuned": table, "untuned": untuned}
    between = _behind(found, "tuned", settings, seed)["untuned"]
    gain = between.pop("difference")
    test = untuned[untuned["split"] == "test"]
    return {"untuned_accuracy": float((test["label"] == test["predicted"]).mean()), "gain": gain, **between}


def digest(table: "pd.DataFrame") -> str:
    """Return 16 hexadecimal digits that say which image lies in which fold."""
    lines = sorted(f"{fold} {file}" for fold, file in zip(table["fold"], table["file"], strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read(backbone: str) -> Model:
    """Return what finetune wrote about one backbone. Raise DataError where it has not run."""
    folder = MODELS / backbone
    try:
        provenance = files.read_json(folder / "provenance.json")
        text = ("head", "split", "file", "label", "predicted")
        return Model(provenance, {name: files.read_csv(folder / f"{name}.csv", text=text) for name in _TABLES})
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the predictions of '{backbone}'", f"run 'dvc repro finetune@{backbone}'"
        ) from error


def write(folder: Path, found: Evaluation) -> None:
    """Write what is to be said of one backbone into `folder`."""
    files.write_json(folder / "metrics.json", found.metrics)
    for name in ("confusion", "calibration", "calibration_scaled"):
        files.write_csv(folder / f"{name}.csv", getattr(found, name))


def main() -> None:
    """Evaluate all declared backbones."""
    settings, seed = params.load(EvaluateParams, "evaluate"), params.seed()
    with files.replacing_folder(EVALUATIONS) as target:
        for backbone in tqdm(params.declared_backbones(), desc="evaluate", disable=None):
            found = judge(read(backbone), settings, seed)
            write(target / backbone, found)
            _report(backbone, found.metrics)


def _report(backbone: str, metrics: dict[str, Any]) -> None:
    _log.info(
        "%s: accuracy %.3f (%.3f to %.3f) on %d test images, weights: %s",
        backbone,
        *(metrics[key] for key in ("accuracy", "accuracy_low", "accuracy_high", "test_images", "weights")),
    )


if __name__ == "__main__":
    run(main)
