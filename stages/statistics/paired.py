"""Two classifiers on the same images: whether they differ significantly, by how much at most, and what can be detected.

Images that both get right, or both wrong, carry no information about which is better: the tests use only the
discordant ones, never the difference of two accuracies.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Halvings of an interval of at most 2 that leave an error of 2^-39.
_HALVINGS = 40
# With what probability a difference is to be detected, where it is asked how large it has to be.
POWER = 0.8
# The alternative hypothesis: the two differ, or the first is better.
Alternative = Literal["two-sided", "greater"]


def sign_flip(differences: NDArray[np.int64], alternative: Alternative = "two-sided") -> float:
    """Return the p-value of the exact sign-flip test: the probability of such a sum if each sign were a coin toss.

    `differences` has for each group of images how many more of them the first gets right than the second. Where neither
    is better each could as well have the other sign: with S the sum so drawn and s the observed one, "greater" is
    P(S ≥ s), "two-sided" P(|S| ≥ |s|). With groups of one image it is McNemar's exact test: McNemar 1947, "Note on the
    sampling error of the difference between correlated proportions or percentages", Psychometrika 12; Dietterich 1998,
    "Approximate statistical tests for comparing supervised classification learning algorithms", Neural Computation 10.
    Fisher 1935, "The design of experiments", section 21, has it for sums.
    """
    chances, total = _sums_by_chance(np.abs(differences)), int(differences.sum())
    largest = len(chances) // 2
    tail = float(chances[largest + abs(total) :].sum())
    if alternative == "two-sided":
        return min(1.0, 2 * tail) if total else 1.0
    return min(1.0, tail if total >= 0 else 1 - tail + float(chances[largest + abs(total)]))


def _sums_by_chance(sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability of each sum of `sizes` with random signs, from the lowest to the highest."""
    from scipy.signal import convolve
    from scipy.stats import binom

    found = np.ones(1)
    for size, count in zip(*np.unique(sizes[sizes > 0], return_counts=True), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        found = convolve(found, steps)
    # Where there are many it goes by Fourier transforms, which round.
    return np.maximum(found, 0)


def min_discordant_pairs(significance: float, alternative: Alternative = "two-sided") -> int:
    """Return the smallest number m of discordant pairs, all in favour of the first, that is significant.

    That is the smallest m with s / 2^m ≤ significance, where s is 2 for "two-sided", else 1. With n images, no
    difference below m / n can be significant.
    """
    sides = 2 if alternative == "two-sided" else 1
    return max(1, math.ceil(math.log2(sides / significance)))


def upper_limit(
    images: ArrayLike, only_first: ArrayLike, only_second: ArrayLike, confidence: float
) -> NDArray[np.float64]:
    """Return the one-sided upper confidence limit of the difference of two accuracies, first minus second, -1 to 1.

    The counts are those of discordant pairs among `images`, of any shapes that broadcast; the limit has that shape.
    It is the largest difference that is not `excluded`. Unlike b - c ± z √(b + c), for counts b and c, it is not too
    narrow for few discordant pairs; without any it is z² / (n + z²).
    """
    total, first, second = np.broadcast_arrays(*(np.asarray(each, float) for each in (images, only_first, only_second)))
    low, high = (first - second) / total, np.ones(first.shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        out = excluded(total, first, second, middle, confidence)
        low, high = np.where(out, low, middle), np.where(out, middle, high)
    return np.asarray(low)


def excluded(
    images: ArrayLike, only_first: ArrayLike, only_second: ArrayLike, difference: ArrayLike, confidence: float
) -> NDArray[np.bool_]:
    """Return whether the first is shown to be better than the second by less than `difference`, above the observed one.

    With n images and counts b and c of discordant pairs a true difference d has the score
    (b - c - nd) / √(n (2q + d(1 - d))), where q is the maximum likelihood estimate, given d, of the share that only the
    second gets right: the larger root of 2n q² + ((2n - b + c)d - b - c) q - c d(1 - d) = 0. It is excluded if that is
    below the normal quantile of 1 - `confidence`. Tango 1998, "Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design", Statistics in Medicine 17. In groups of images the counts
    are divided by a design effect, as Yang, Sun and Hardin 2012 do for clustered pairs, "Testing non-inferiority for
    clustered matched-pair binary data in diagnostic medicine", Computational Statistics & Data Analysis 56.
    """
    total, first, second, at = (np.asarray(each, float) for each in (images, only_first, only_second, difference))
    score = first - second - total * at + NormalDist().inv_cdf(confidence) * _deviation(total, first, second, at)
    return np.asarray(score < 0)


def _deviation(
    images: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    difference: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the standard deviation of b - c if the true difference is `difference`, as in `excluded`."""
    # Rounding may leave a little below 0 where it is 0.
    spread = difference * (1 - difference)
    linear = (2 * images - first + second) * difference - first - second
    root = np.sqrt(np.maximum(linear**2 + 8 * images * second * spread, 0))
    return np.asarray(np.sqrt(np.maximum(images * ((root - linear) / (2 * images) + spread), 0)))


def detectable_difference(images: float, discordant: float, significance: float, groups: float) -> float:
    """Return the difference of two accuracies that the two-sided test detects with probability `POWER`, 0 to 1.

    `discordant` is the share of discordant pairs, 0 to 1, here as observed. With normal quantiles a of
    1 - significance / 2 and b of the power, the difference d solves √n d = a √s + b √(s - d²), where s is that share,
    or d itself where that is larger, since no difference exceeds it: Connor 1987, "Sample size for testing differences
    in proportions for the paired-sample design", Biometrics 43. `images` are what those in so many `groups` are worth.
    It is never below what the exact test of these can show at best; above 1, the test set can show no difference.
    """
    a, b = NormalDist().inv_cdf(1 - significance / 2), NormalDist().inv_cdf(POWER)
    factor = (a * math.sqrt(images) + b * math.sqrt(max(images + b**2 - a**2, 0))) / (images + b**2)
    found = factor * max(factor, math.sqrt(discordant))
    return max(found, min_discordant_pairs(significance) / groups)


def min_images(difference: float, discordant: float, significance: float, groups: float = 1) -> int:
    """Return how many images it takes for `detectable_difference` to be at most `difference`, above 0.

    For each image, of those that they are worth, there are so many `groups`.
    """
    return fewest(lambda images: detectable_difference(images, discordant, significance, images * groups) <= difference)


def fewest(enough: Callable[[int], bool]) -> int:
    """Return the smallest number, 1 at least, that is `enough`, as all larger ones are."""
    most = 1
    while not enough(most):
        most *= 2
    return most // 2 + bisect_left(range(most // 2, most), 1, key=enough)
