"""The intervals of the metrics of `stages.statistics.metrics`, some of them by many bootstrap resamples at once."""

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval, wilson, wilson_interval
from stages.core.predictions import Predictions
from stages.statistics.bootstrap import percentile, resamples, unbiased
from stages.statistics.metrics import Classes, bin_of

Values = NDArray[np.float64]
# How the intervals are computed, as the report names it.
METHOD = "bootstrap (accuracy: Wilson; balanced accuracy: by the variances of the recalls)"
# scikit-learn's log_loss clips probabilities to this.
_EPSILON = float(np.finfo(np.float64).eps)
# With fewer test images a class, macro F1 is too biased for an interval: in simulations it then held the true value
# in 50 to 85 % of all test sets instead of 95 %.
IMAGES_FOR_F1 = 10


def intervals(test: Predictions, confidence: float, count: int, seed: int) -> dict[str, Interval | None]:
    """Return the intervals of accuracy, balanced accuracy, macro F1 and log loss; None where there is none to show.

    benchmarks/certainty.py has their coverage. The accuracy has Wilson's interval, the balanced accuracy that of
    `balanced_accuracy_interval`, the log loss the percentiles of `count` resamples. Macro F1 of a sample is biased from
    that of all images as resamples are from it: the bias is subtracted, and with fewer than 10 images a class there is
    no interval. Nor is there one if all resamples agree.

    The calibration error has none, since chance alone makes it larger than 0: compare it with `expected_ece`.
    """
    images, right = len(test.actual), int((test.actual == test.predicted).sum())
    parts = [metrics(test, positions) for positions in resamples(images, count, seed)]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = {
        name: None if values.min() == values.max() else percentile(values, confidence) for name, values in drawn.items()
    }
    if found["macro_f1"]:
        (estimate,) = metrics(test, np.arange(images)[None])["macro_f1"]
        enough = images >= IMAGES_FOR_F1 * len(np.unique(test.actual))
        found["macro_f1"] = unbiased(drawn["macro_f1"], float(estimate), confidence) if enough else None
    return found | {
        "accuracy": wilson_interval(right, images, confidence),
        "balanced_accuracy": balanced_accuracy_interval(test, confidence),
    }


def balanced_accuracy_interval(test: Predictions, confidence: float) -> Interval | None:
    """Return the interval of the mean of the classes' recalls; None if each class is all right or all wrong.

    A recall r of n images has the variance r(1 - r)/(n - 1); that of a class with one image is estimated by the mean of
    the others. The mean of C of them has their sum divided by C². The interval is Wilson's of a proportion with this
    variance, that is, of as many images as a proportion would have to be measured on.
    """
    images = np.bincount(test.actual).astype(np.float64)
    right = np.bincount(test.actual, weights=test.actual == test.predicted)[images > 0]
    images = images[images > 0]
    recalls = right / images
    mean, several = float(recalls.mean()), images > 1
    spread = recalls * (1 - recalls) * images
    pooled = float(spread[several].sum() / (images[several] - 1).sum()) if several.any() else mean * (1 - mean)
    own = np.divide(spread, images - 1, out=np.full_like(spread, pooled), where=several)
    variance = float((own / images).sum()) / len(images) ** 2
    if variance == 0 or not 0 < mean < 1:
        return None
    return wilson(mean, max(1.0, mean * (1 - mean) / variance), confidence)


def expected_ece(test: Predictions, bins: int, count: int, seed: int) -> float:
    """Return the mean calibration error of `count` test sets whose predictions are right as often as they claim.

    That much is chance: with few images even a calibrated network has a calibration error.
    """
    draw, confidence = np.random.default_rng(seed), test.probabilities.max(axis=1)
    found, bins_of = [], bin_of(confidence, bins)
    for _ in range(count):
        gaps = np.bincount(bins_of, (draw.random(len(confidence)) < confidence) - confidence)
        found.append(np.abs(gaps).sum() / len(confidence))
    return float(np.mean(found))


def metrics(test: Predictions, positions: NDArray[np.int64]) -> dict[str, Values]:
    """Return macro F1 and log loss, as `stages.statistics.metrics` has them, for each row of `positions`, (rows, n)."""
    actual, predicted, classes = test.actual, test.predicted, len(test.classes)
    right, ones = (actual == predicted).astype(np.float64), np.ones(len(actual))
    hits, shown, named = (
        _sums(of, weights, positions, classes) for of, weights in ((actual, right), (actual, ones), (predicted, ones))
    )
    losses = -np.log(np.clip(test.probabilities[np.arange(len(actual)), actual], _EPSILON, 1 - _EPSILON))
    return {"macro_f1": _mean(2 * hits, shown + named), "log_loss": losses[positions].mean(axis=1)}


def _sums(of: Classes, weights: Values, positions: NDArray[np.int64], size: int) -> Values:
    """Return the sums of `weights` over the images in each of `size` classes, given by `of`, for each row."""
    cells = of[positions] + size * np.arange(len(positions))[:, None]
    found = np.bincount(cells.ravel(), weights[positions].ravel(), minlength=size * len(positions))
    return np.asarray(found.reshape(len(positions), size))


def _mean(part: Values, whole: Values) -> Values:
    """Return the mean of part / whole over the classes with whole > 0, for each row."""
    counted = whole > 0
    shares = np.divide(part, whole, out=np.zeros_like(part), where=counted)
    return np.asarray(shares.sum(axis=1) / counted.sum(axis=1))
