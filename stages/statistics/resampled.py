"""The metrics of `stages.statistics.metrics` for many bootstrap resamples at once, and their intervals."""

import numpy as np
import pandas as pd
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
_IMAGES_FOR_F1 = 10


def intervals(test: Predictions, bins: int, confidence: float, count: int, seed: int) -> dict[str, Interval | None]:
    """Return the interval of each of `metrics`, from `count` resamples of all images; None where there is none to show.

    benchmarks/certainty.py has their coverage, 92 to 98 % of 95 % with 2 to 200 classes and 100 to 2,000 images. Images
    are drawn without regard to their class: drawn within each class, two images of a class would have half of their
    variance. The log loss, a mean over images, has percentiles. Macro F1 of a sample is biased from that of all images
    as resamples are from it: the bias is subtracted; none with fewer than 10 images a class. The balanced accuracy (see
    `balanced_accuracy_interval`) and the accuracy, which has Wilson's interval, need no resamples. The calibration
    error has no interval, since chance alone makes it larger than 0: compare it with `expected_ece`.

    None, too, if all resamples agree: if every image, or none, is right.
    """
    everything = np.zeros(len(test.actual), np.int64)
    parts = [metrics(test, bins, positions) for positions in resamples(everything, count, seed)]
    (estimates,) = pd.DataFrame(metrics(test, bins, np.arange(len(test.actual))[None])).to_dict("records")
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in ("log_loss", "macro_f1")}
    found: dict[str, Interval | None] = {
        name: None if values.min() == values.max() else percentile(values, confidence) for name, values in drawn.items()
    }
    if found["macro_f1"]:
        enough = len(test.actual) >= _IMAGES_FOR_F1 * len(np.unique(test.actual))
        estimate = estimates["macro_f1"]
        found["macro_f1"] = unbiased(drawn["macro_f1"], estimate, confidence) if enough else None
    right = int((test.actual == test.predicted).sum())
    return found | {
        "accuracy": wilson_interval(right, len(test.actual), confidence),
        "balanced_accuracy": balanced_accuracy_interval(test, confidence),
        "ece": None,
    }


def balanced_accuracy_interval(test: Predictions, confidence: float) -> Interval | None:
    """Return the interval of the mean of the classes' recalls; None if every image, or none, is right.

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
    found = []
    for _ in range(count):
        gaps = np.bincount(bin_of(confidence, bins), (draw.random(len(confidence)) < confidence) - confidence)
        found.append(np.abs(gaps).sum() / len(confidence))
    return float(np.mean(found))


def metrics(test: Predictions, bins: int, positions: NDArray[np.int64]) -> dict[str, Values]:
    """Return each metric, as the function of its name defines it, for each row of `positions`, (rows, n)."""
    actual, predicted, classes = test.actual, test.predicted, len(test.classes)
    right, ones = (actual == predicted).astype(np.float64), np.ones(len(actual))
    hits, shown, named = (
        _sums(of, weights, positions, classes) for of, weights in ((actual, right), (actual, ones), (predicted, ones))
    )
    confidence = test.probabilities.max(axis=1)
    gaps = _sums(bin_of(confidence, bins), right - confidence, positions, bins)
    losses = -np.log(np.clip(test.probabilities[np.arange(len(actual)), actual], _EPSILON, 1 - _EPSILON))
    return {
        "accuracy": right[positions].mean(axis=1),
        "macro_f1": _mean(2 * hits, shown + named),
        "balanced_accuracy": _mean(hits, shown),
        "log_loss": losses[positions].mean(axis=1),
        "ece": np.abs(gaps).sum(axis=1) / len(actual),
    }


def _sums(of: Classes, weights: Values, positions: NDArray[np.int64], size: int) -> Values:
    """Return the sums of `weights` over the images in each of `size` classes or bins, given by `of`, for each row."""
    cells = of[positions] + size * np.arange(len(positions))[:, None]
    found = np.bincount(cells.ravel(), weights[positions].ravel(), minlength=size * len(positions))
    return np.asarray(found.reshape(len(positions), size))


def _mean(part: Values, whole: Values) -> Values:
    """Return the mean of part / whole over the classes with whole > 0, for each row."""
    counted = whole > 0
    shares = np.divide(part, whole, out=np.zeros_like(part), where=counted)
    return np.asarray(shares.sum(axis=1) / counted.sum(axis=1))
