"""The decision which classifier to use, and how often it would be the same on other test images and trainings.

It is the cheapest of those that score highest or are shown to be within a margin of all others; without a margin, the
one that scores highest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval, wilson
from stages.statistics.groups import Values, accuracy_images
from stages.statistics.outcomes import Counts, Outcomes
from stages.statistics.paired import excluded, upper_limit

# Sets of trainings that are drawn, at most, and draws of the images for which the counts are held at a time.
_SETS, _AT_ONCE = 25, 20


def shortfalls(counts: Counts, confidence: float) -> Values:
    """Return how much worse than the best of all others each of K classifiers may truly be, -1 to 1, (draws, K).

    With the probability `confidence` it holds of all at once. The one that is truly the best is unknown, so the largest
    limit against any other counts; against that one there are as many limits as there are others, for which they are
    corrected (Bonferroni), not for all pairs. Hsu 1984, "Constrained simultaneous confidence intervals for multiple
    comparisons with the best", Annals of Statistics 12.
    """
    level = _level(counts, confidence)
    limits = upper_limit(*counts.effective(level), level)
    return np.asarray(np.where(np.eye(limits.shape[1], dtype=bool), -1, limits).max(axis=1))


def choose(counts: Counts, order: NDArray[np.int64], margin: float | None, confidence: float) -> NDArray[np.int64]:
    """Return the number of the classifier that is chosen in each draw; `order` has their numbers, the cheapest first.

    Without a `margin` only those that score highest are considered.
    """
    fit = counts.right == counts.right.max(axis=1, keepdims=True)
    if margin is not None and fit.shape[1] > 1:
        level = _level(counts, confidence)
        images, first, second = counts.effective(level)
        # What is observed is never shown to be less.
        within = ((first - second) / images <= margin) & excluded(images, first, second, margin, level)
        fit |= (within | np.eye(fit.shape[1], dtype=bool)).all(axis=1)
    return np.asarray(order[fit[:, order].argmax(axis=1)])


def _level(counts: Counts, confidence: float) -> float:
    return 1 - (1 - confidence) / max(1, int(counts.right.shape[1]) - 1)


@dataclass(frozen=True)
class Redrawn:
    """How a decision came out on other test images, as drawn from those that there are, and other trainings.

    `shares` says how often each classifier was chosen, by its name, 0 to 1. `accuracy` is the mean accuracy of the
    chosen one on the images that were not drawn, which had no part in that choice, and `interval` its interval.
    """

    shares: Mapping[str, float]
    accuracy: float
    interval: Interval


def redrawn(
    outcomes: Outcomes, order: Sequence[int], margin: float | None, confidence: float, count: int, seed: int
) -> Redrawn:
    """Return how the decision comes out in `count` draws of the groups of test images, with replacement, and of seeds.

    A classifier that was trained several times has any one of these trainings in a draw. Accuracies on the images
    that were not drawn are free of the optimism of the choice: Tsamardinos, Greasidou and Borboudakis 2018,
    "Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation", Machine Learning 107.
    """
    votes, left = np.zeros(len(outcomes.names)), []
    for right, weights in _draws(outcomes, count, np.random.default_rng(seed)):
        chosen = choose(outcomes.drawn(right, weights), np.array(order), margin, confidence)
        votes += np.bincount(chosen, minlength=len(votes))
        left.append(_accuracies_left(outcomes, right, weights, chosen))
    accuracy = float(np.nanmean(np.concatenate(left)))
    shares = dict(zip(outcomes.names, map(float, votes / votes.sum()), strict=True))
    return Redrawn(shares, accuracy, _interval(outcomes, int(votes.argmax()), accuracy, confidence))


def _draws(outcomes: Outcomes, count: int, draw: np.random.Generator) -> Iterator[tuple[NDArray[np.bool_], Values]]:
    """Yield outcomes of drawn trainings (n, K) with the numbers of times that each group is drawn, (draws, groups)."""
    groups = len(outcomes.groups)
    sets = min(_SETS, count) if outcomes.seeds[0].any() else 1
    for part in np.array_split(np.arange(count), sets):
        right = np.stack([found[draw.integers(len(found))] for found in outcomes.trainings], axis=1)
        for start in range(0, len(part), _AT_ONCE):
            rows = min(_AT_ONCE, len(part) - start)
            yield right, draw.multinomial(groups, np.full(groups, 1 / groups), rows).astype(np.float64)


def _accuracies_left(
    outcomes: Outcomes, right: NDArray[np.bool_], weights: Values, chosen: NDArray[np.int64]
) -> Values:
    """Return the accuracy of the `chosen` one of each draw on the images that were not drawn; NaN if all were."""
    out = (weights == 0).astype(np.float64)
    found, images = (out @ outcomes.groups.sums(right))[np.arange(len(chosen)), chosen], out @ outcomes.groups.sizes
    return np.asarray(np.divide(found, images, out=np.full_like(images, np.nan), where=images > 0))


def _interval(outcomes: Outcomes, chosen: int, accuracy: float, confidence: float) -> Interval:
    return wilson(accuracy, accuracy_images(outcomes.right[:, chosen], outcomes.groups, confidence), confidence)
