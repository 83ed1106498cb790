"""Classifiers whose true metrics are known, and test sets drawn from them."""

import numpy as np
from numpy.typing import NDArray

from stages.core.predictions import Predictions
from stages.statistics.groups import Groups
from stages.statistics.resampled import intervals

# Standard deviation of the logits of five classes, by the mean confidence that it makes.
_SPREAD = {0.97: 27.1, 0.98: 40.2, 0.99: 81.5, 0.995: 166.3}


def confusion(draw: np.random.Generator, classes: int) -> NDArray[np.float64]:
    """Return the probability of each pair of actual and predicted class, for classes of different difficulty."""
    right = np.clip(draw.beta(5, 1.2, classes), 0.02, 0.995)
    joint = draw.dirichlet(np.full(classes, 0.3), classes) * (1 - np.eye(classes))
    joint *= ((1 - right) / joint.sum(axis=1))[:, None]
    return np.asarray((joint + np.diag(right)) / classes)


def true_metrics(joint: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of all images that there are, with these probabilities."""
    right, ends = np.diag(joint), joint.sum(axis=0) + joint.sum(axis=1)
    recalls = right / joint.sum(axis=1)
    return {
        "accuracy": float(right.sum()),
        "macro_f1": float((2 * right / ends).mean()),
        "balanced_accuracy": float(recalls.mean()),
    }


def drawn(draw: np.random.Generator, joint: NDArray[np.float64], images: int, group: int = 1) -> Predictions:
    """Return a test set of as many images; every prediction is certain.

    In groups of several, a third of the images are one of the group's over again.
    """
    classes = len(joint)
    found = draw.choice(classes * classes, images, p=joint.ravel())
    first = np.arange(images) // group * group
    found = np.where(draw.random(images) < 1 / 3, found[first], found) if group > 1 else found
    actual, predicted = np.divmod(found, classes)
    return Predictions(tuple(map(str, range(classes))), actual, predicted, np.eye(classes)[predicted])


def held(classes: int, images: int, studies: int, count: int, group: int = 1) -> dict[str, list[bool]]:
    """Return by metric whether its 95 % interval from `count` resamples holds the true value, study by study.

    The images come in groups of `group`. A study without an interval is left out.
    """
    draw, groups = np.random.default_rng(classes), Groups(np.arange(images) // group)
    found: dict[str, list[bool]] = {"accuracy": [], "balanced_accuracy": [], "macro_f1": []}
    for _ in range(studies):
        joint = confusion(draw, classes)
        ends, true = intervals(drawn(draw, joint, images, group), groups, 0.95, count, 0), true_metrics(joint)
        for name, values in found.items():
            if interval := ends[name]:
                values.append(interval.low <= true[name] <= interval.high)
    return found


def calibrated(
    draw: np.random.Generator, accuracy: float, images: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return actual classes and probabilities of five classes that are right as often as they say."""
    logits = draw.normal(0, _SPREAD[accuracy], (images, 5))
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True)
    return (found.cumsum(axis=1) > draw.random((images, 1))).argmax(axis=1), found
