"""The decision which classifier to use, and how stable it is: how often resamples of the test images decide the same.

It is the cheapest of those that score highest or are shown to be within a margin of all others; without a margin, the
one that scores highest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval
from stages.statistics.bootstrap import resamples
from stages.statistics.contest import Contest, Draws
from stages.statistics.groups import Values

# Draws of the images whose counts are held at a time, and with the same trainings.
_AT_ONCE = 20
# Images drawn in all, beyond the least number of draws.
_DRAWN, _LEAST_DRAWS = 40_000_000, 200


def shortfalls(draws: Draws, confidence: float) -> Values:
    """Return how much worse than the best of all others each of K classifiers may truly be, -1 or more, (draws, K).

    With the probability `confidence` it holds of all at once. The one that is truly the best is unknown, so the largest
    limit against any other counts; against that one there are as many limits as there are others, for which they are
    corrected (Bonferroni), not for all pairs. Hsu 1984, "Constrained simultaneous confidence intervals for multiple
    comparisons with the best", Annals of Statistics 12.
    """
    limits = draws.upper_limits(_level(draws, confidence))
    return np.asarray(np.where(np.eye(limits.shape[1], dtype=bool), -1, limits).max(axis=1))


def choose(draws: Draws, order: NDArray[np.int64], margin: float | None, confidence: float) -> NDArray[np.int64]:
    """Return the number of the classifier that is chosen in each draw; `order` has their numbers, the cheapest first.

    Without a `margin` only those that score highest are considered.
    """
    fit = draws.scores == draws.scores.max(axis=1, keepdims=True)
    if margin is not None and fit.shape[1] > 1:
        within = draws.within(margin, _level(draws, confidence))
        fit |= (within | np.eye(fit.shape[1], dtype=bool)).all(axis=1)
    return np.asarray(order[fit[:, order].argmax(axis=1)])


def _level(draws: Draws, confidence: float) -> float:
    return 1 - (1 - confidence) / max(1, int(draws.scores.shape[1]) - 1)


@dataclass(frozen=True)
class Resampled:
    """How a decision comes out on bootstrap resamples of the test images, and of the trainings.

    `shares` says how often each classifier was chosen, by its name, 0 to 1: how stable the choice is on these images.
    Other images would choose the same less often, since these favour the one that was chosen. `value` is that of the
    measure, such as the accuracy, of choosing in this way on images that had no part in the choice, and `interval` its
    confidence interval; both are None where a resample never leaves an image out.
    """

    shares: Mapping[str, float]
    value: float | None
    interval: Interval | None


def resampled(
    contest: Contest, order: Sequence[int], margin: float | None, confidence: float, count: int, seed: int
) -> Resampled:
    """Return how the decision comes out in `count` draws of the groups of test images, with replacement, and of seeds.

    A classifier that was trained several times has any one of these trainings in a draw. The value is that of the
    chosen ones' answers on all images that the draws left out together, such as the share of right ones, which is free
    of the optimism of the choice: Tsamardinos, Greasidou and Borboudakis 2018, "Bootstrapping the out-of-sample
    predictions for efficient and accurate cross-validation", Machine Learning 107. Of many images there are fewer
    draws.
    """
    votes, totals = np.zeros(len(contest.names)), np.zeros((2, 1))
    fewer = min(count, max(_LEAST_DRAWS, _DRAWN // contest.images))
    for picked, weights in _draws(contest, fewer, seed):
        chosen = choose(contest.drawn(picked, weights), np.array(order), margin, confidence)
        votes += np.bincount(chosen, minlength=len(votes))
        totals = totals + contest.totals(picked, (weights == 0).astype(np.float64), chosen)
    shares = dict(zip(contest.names, map(float, votes / votes.sum()), strict=True))
    part, whole = totals[:, totals[1] > 0]
    if not len(whole):
        return Resampled(shares, None, None)
    value = 0 + contest.sign * float((part / whole).mean())
    return Resampled(shares, value, contest.interval(int(votes.argmax()), value, confidence))


def _draws(contest: Contest, count: int, seed: int) -> Iterator[tuple[list[int], Values]]:
    """Yield the numbers of drawn trainings with the numbers of times that each group is drawn, (draws, groups)."""
    draw = np.random.default_rng(seed)
    for start in range(0, count, _AT_ONCE):
        picked = [int(draw.integers(trained)) for trained in contest.repeats]
        for weights in resamples(len(contest.groups), min(_AT_ONCE, count - start), seed + start):
            yield picked, weights
