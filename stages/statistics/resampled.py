"""The intervals of the metrics of `stages.statistics.metrics`, some of them by many bootstrap resamples at once.

Those of images in groups, such as of one person, are as wide as few groups make them (`stages.statistics.groups`).
"""

import numpy as np

from stages.core.intervals import Interval, wilson
from stages.core.predictions import Predictions
from stages.statistics.bootstrap import percentile, resamples, unbiased
from stages.statistics.groups import Groups, Values, accuracy_interval, effective_images
from stages.statistics.metrics import Classes, bin_of

# How the intervals are computed, as the report names it.
METHOD = "bootstrap of groups (accuracy: Wilson; balanced accuracy: by the variances of the recalls)"
# scikit-learn's log_loss clips probabilities to this.
_EPSILON = float(np.finfo(np.float64).eps)
# Resamples that differ by no more than rounding.
_SAME = 1e-12
# With fewer test images a class, macro F1 is too biased for an interval: in simulations it then held the true value
# in 50 to 85 % of all test sets instead of 95 %.
IMAGES_FOR_F1 = 10


def intervals(
    test: Predictions, groups: Groups, confidence: float, count: int, seed: int
) -> dict[str, Interval | None]:
    """Return the intervals of accuracy, balanced accuracy, macro F1 and log loss; None where there is none to show.

    `groups` are those of the test images. benchmarks/certainty.py has the coverage. The accuracy has Wilson's interval,
    the balanced accuracy that of `balanced_accuracy_interval`, the log loss the percentiles of `count` resamples. Macro
    F1 of a sample is biased from that of all images as resamples are from it: the bias is subtracted, and with fewer
    than 10 images a class on average there is no interval. Nor is there one if all resamples agree, or by resamples of
    few groups.

    The calibration error has none, since chance alone makes it larger than 0: compare it with `expected_ece`.
    """
    parts = [metrics(test, groups, weights) for weights in resamples(len(groups), count, seed)]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = {
        name: None if groups.few or np.ptp(values) < _SAME else percentile(values, len(groups), confidence)
        for name, values in drawn.items()
    }
    if found["macro_f1"]:
        (estimate,) = metrics(test, groups, np.ones((1, len(groups))))["macro_f1"]
        enough = enough_for_f1(len(test.actual), len(np.unique(test.actual)))
        found["macro_f1"] = unbiased(drawn["macro_f1"], len(groups), float(estimate), confidence) if enough else None
    return found | {
        "accuracy": accuracy_interval(test.actual == test.predicted, groups, confidence),
        "balanced_accuracy": balanced_accuracy_interval(test, groups, confidence),
    }


def enough_for_f1(images: int, classes: int) -> bool:
    """Return whether so many test images, of so many classes, are enough for an interval of macro F1.

    Only its value needs them. The bias of two backbones is much the same: with 3 images of each of 60 classes intervals
    of the difference held it in 97 % of 200 simulated test sets, those of the value in 79 %.
    """
    return images >= IMAGES_FOR_F1 * classes


def balanced_accuracy_interval(test: Predictions, groups: Groups, confidence: float) -> Interval | None:
    """Return the interval of the mean of the classes' recalls; None if each class is all right or all wrong.

    A recall r of n images has the variance r(1 - r)/(n - 1); that of a class with one image is estimated by the mean of
    the others. The mean of C of them has their sum divided by C². The interval is Wilson's of a proportion with this
    variance, that is, of as many images as a proportion would have to be measured on, and as those in `groups` are
    worth.
    """
    hit, (_, places) = test.actual == test.predicted, np.unique(test.actual, return_inverse=True)
    images = np.bincount(places).astype(np.float64)
    recalls = np.bincount(places, weights=hit) / images
    mean, several = float(recalls.mean()), images > 1
    spread = recalls * (1 - recalls) * images
    pooled = float(spread[several].sum() / (images[several] - 1).sum()) if several.any() else mean * (1 - mean)
    own = np.divide(spread, images - 1, out=np.full_like(spread, pooled), where=several)
    variance = float((own / images).sum()) / len(images) ** 2
    if variance == 0 or not 0 < mean < 1:
        return None
    worth = effective_images(groups, (hit - recalls[places]) / images[places], hit, confidence) / len(hit)
    return wilson(mean, max(1.0, worth * mean * (1 - mean) / variance), confidence)


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


def metrics(test: Predictions, groups: Groups, weights: Values) -> dict[str, Values]:
    """Return macro F1 and log loss, as `stages.statistics.metrics` has them, for each row of `weights`, (rows, groups).

    They say how often each group is drawn.
    """
    from scipy.sparse import csr_array

    actual, predicted = test.actual, test.predicted
    right, ones, shape = (
        (actual == predicted).astype(np.float64),
        np.ones(len(actual)),
        (len(test.classes), len(groups)),
    )
    # Images of each class and group: added up where there are several.
    counted = [csr_array((of, (classes, groups.codes)), shape=shape) for of, classes in _cells(right, ones, test)]
    hits, shown, named = (np.asarray((each @ weights.T).T) for each in counted)
    losses = -np.log(np.clip(test.probabilities[np.arange(len(actual)), actual], _EPSILON, 1 - _EPSILON))
    images = weights @ groups.sizes
    return {"macro_f1": _mean(2 * hits, shown + named), "log_loss": weights @ groups.sums(losses) / images}


def _cells(right: Values, ones: Values, test: Predictions) -> tuple[tuple[Values, Classes], ...]:
    """Return what counts of each image, and for which class: as a right one, an actual one and a predicted one."""
    return (right, test.actual), (ones, test.actual), (ones, test.predicted)


def _mean(part: Values, whole: Values) -> Values:
    """Return the mean of part / whole over the classes with whole > 0, for each row."""
    counted = whole > 0
    shares = np.divide(part, whole, out=np.zeros_like(part), where=counted)
    return np.asarray(shares.sum(axis=1) / counted.sum(axis=1))
