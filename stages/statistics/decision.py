"""The decision which classifier to use, and how stable it is: how often resamples of the test images decide the same.

It is the cheapest of those that score highest or are shown to be within a margin of all others; without a margin, the
one that scores highest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval, wilson
from stages.statistics.bootstrap import resamples
from stages.statistics.groups import Values, accuracy_images
from stages.statistics.outcomes import Counts, Outcomes

# Draws of the images whose counts are held at a time, and with the same trainings.
_AT_ONCE = 20
# Images drawn in all, beyond the least number of draws.
_DRAWN, _LEAST_DRAWS = 40_000_000, 200


def shortfalls(counts: Counts, confidence: float) -> Values:
    """Return how much worse than the best of all others each of K classifiers may truly be, -1 to 1, (draws, K).

    With the probability `confidence` it holds of all at once. The one that is truly the best is unknown, so the largest
    limit against any other counts; against that one there are as many limits as there are others, for which they are
    corrected (Bonferroni), not for all pairs. Hsu 1984, "Constrained simultaneous confidence intervals for multiple
    comparisons with the best", Annals of Statistics 12.
    """
    limits = counts.upper_limits(_level(counts, confidence))
    return np.asarray(np.where(np.eye(limits.shape[1], dtype=bool), -1, limits).max(axis=1))


def choose(counts: Counts, order: NDArray[np.int64], margin: float | None, confidence: float) -> NDArray[np.int64]:
    """Return the number of the classifier that is chosen in each draw; `order` has their numbers, the cheapest first.

    Without a `margin` only those that score highest are considered.
    """
    fit = counts.right == counts.right.max(axis=1, keepdims=True)
    if margin is not None and fit.shape[1] > 1:
        within = counts.within(margin, _level(counts, confidence))
        fit |= (within | np.eye(fit.shape[1], dtype=bool)).all(axis=1)
    return np.asarray(order[fit[:, order].argmax(axis=1)])


def _level(counts: Counts, confidence: float) -> float:
    return 1 - (1 - confidence) / max(1, int(counts.right.shape[1]) - 1)


@dataclass(frozen=True)
class Resampled:
    """How a decision comes out on bootstrap resamples of the test images, and of the trainings.

    `shares` says how often each classifier was chosen, by its name, 0 to 1: how stable the choice is on these images.
    Other images would choose the same less often, since these favour the one that was chosen. `accuracy` is that of
    choosing in this way on images that had no part in the choice, and `interval` its confidence interval; both are None
    where a resample never leaves an image out.
    """

    shares: Mapping[str, float]
    accuracy: float | None
    interval: Interval | None


def resampled(
    outcomes: Outcomes, order: Sequence[int], margin: float | None, confidence: float, count: int, seed: int
) -> Resampled:
    """Return how the decision comes out in `count` draws of the groups of test images, with replacement, and of seeds.

    A classifier that was trained several times has any one of these trainings in a draw. The accuracy is the share of
    right answers of the chosen ones on all images that the draws left out, which is free of the optimism of the choice:
    Tsamardinos, Greasidou and Borboudakis 2018, "Bootstrapping the out-of-sample predictions for efficient and accurate
    cross-validation", Machine Learning 107. Of many images there are fewer draws.
    """
    votes, right_left, left = np.zeros(len(outcomes.names)), 0.0, 0.0
    fewer = min(count, max(_LEAST_DRAWS, _DRAWN // len(outcomes.right)))
    for right, weights in _draws(outcomes, fewer, seed):
        chosen = choose(outcomes.drawn(right, weights), np.array(order), margin, confidence)
        votes += np.bincount(chosen, minlength=len(votes))
        out = (weights == 0).astype(np.float64)
        right_left += float((out @ outcomes.groups.sums(right))[np.arange(len(chosen)), chosen].sum())
        left += float((out @ outcomes.groups.sizes).sum())
    shares = dict(zip(outcomes.names, map(float, votes / votes.sum()), strict=True))
    if not left:
        return Resampled(shares, None, None)
    images = accuracy_images(outcomes.right[:, int(votes.argmax())], outcomes.groups, confidence)
    return Resampled(shares, right_left / left, wilson(right_left / left, images, confidence))


def _draws(outcomes: Outcomes, count: int, seed: int) -> Iterator[tuple[NDArray[np.bool_], Values]]:
    """Yield outcomes of drawn trainings (n, K) with the numbers of times that each group is drawn, (draws, groups)."""
    draw = np.random.default_rng(seed)
    for start in range(0, count, _AT_ONCE):
        right = np.stack([found[draw.integers(len(found))] for found in outcomes.trainings], axis=1)
        for weights in resamples(len(outcomes.groups), min(_AT_ONCE, count - start), seed + start):
            yield right, weights
