"""Two sets of predictions for the same images: where they differ, and whether that is significant.

Images that both get right, or both wrong, carry no information about which is better: the tests use only the
discordant ones, never the difference of two accuracies.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

# Halvings of an interval of at most 2 that leave an error of 2^-39.
_HALVINGS = 40
# With what probability a difference is to be detected, where it is asked how large it has to be.
POWER = 0.8
# The alternative hypothesis: the two differ, or the first is better.
Alternative = Literal["two-sided", "greater"]


@dataclass(frozen=True)
class Pairs:
    """Whether the first and the second set are right on each of n images: two arrays of shape (n,)."""

    first: NDArray[np.bool_]
    second: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def only_first(self) -> int:
        """How many images the first gets right and the second does not."""
        return int((self.first & ~self.second).sum())

    @property
    def only_second(self) -> int:
        """How many images the second gets right and the first does not."""
        return int((self.second & ~self.first).sum())

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second, -1 to 1."""
        return (self.only_first - self.only_second) / len(self)


def pair(first: pd.DataFrame, second: pd.DataFrame, split: str = "test") -> Pairs:
    """Pair the images of `split` that both tables have with the same label, in the first one's order.

    The tables have `core.predictions.COLUMNS`. `file` is made of label and content: a relabelled image counts as
    another image, and is left out.
    """
    one, other = (table.loc[table["split"] == split, ["file", "label", "predicted"]] for table in (first, second))
    both = one.merge(other, on=["file", "label"], validate="one_to_one", suffixes=("_first", "_second"))
    right = [(both[f"predicted_{name}"] == both["label"]).to_numpy(dtype=np.bool_) for name in ("first", "second")]
    return Pairs(*right)


def mcnemar(pairs: Pairs, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of McNemar's exact test: the probability of such a difference between two equally good sets.

    Of the b + c images that only one set gets right, b are the first's. Where neither is better, b is
    binomial with b + c trials of 1/2: "greater" is P(B ≥ b), "two-sided" P(|B - (b + c)/2| ≥ |b - (b + c)/2|);
    1 if b + c = 0. McNemar 1947, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12, has the test; Dietterich 1998, "Approximate statistical tests for comparing
    supervised classification learning algorithms", Neural Computation 10, recommends it for models that were
    trained once.
    """
    from scipy.stats import binomtest

    differing = pairs.only_first + pairs.only_second
    return float(binomtest(pairs.only_first, differing, alternative=alternative).pvalue) if differing else 1.0


def min_discordant_pairs(significance: float, alternative: Alternative = "two-sided") -> int:
    """Return the smallest number m of discordant pairs, all in favour of the first, that `mcnemar` finds significant.

    That is the smallest m with s / 2^m ≤ significance, where s is 2 for "two-sided", else 1. With n images, no
    difference below m / n can be significant.
    """
    sides = 2 if alternative == "two-sided" else 1
    return max(1, math.ceil(math.log2(sides / significance)))


def upper_limit(images: int, only_first: ArrayLike, only_second: ArrayLike, confidence: float) -> NDArray[np.float64]:
    """Return the one-sided upper confidence limit of the difference of two accuracies, first minus second, -1 to 1.

    The counts are those of discordant pairs among `images`, of any shapes that broadcast; the limit has that shape.
    With b and c of them, a true difference d has the score (b - c - nd) / √(n (2q + d(1 - d))), where q is the maximum
    likelihood estimate, given d, of the share that only the second gets right: the larger root of
    2n q² + ((2n - b + c)d - b - c) q - c d(1 - d) = 0. The limit is the largest d whose score is not below the normal
    quantile of 1 - `confidence`. Unlike b - c ± z √(b + c), it is not too narrow for few discordant pairs; without any
    it is z² / (n + z²). Tango 1998, "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17.
    """
    from scipy.stats import norm

    quantile = float(norm.ppf(confidence))
    first, second = np.broadcast_arrays(np.asarray(only_first, np.float64), np.asarray(only_second, np.float64))
    low, high = (first - second) / images, np.ones(first.shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        compatible = first - second - images * middle + quantile * _deviation(images, first, second, middle) >= 0
        low, high = np.where(compatible, middle, low), np.where(compatible, high, middle)
    return np.asarray(low)


def _deviation(
    images: int, first: NDArray[np.float64], second: NDArray[np.float64], difference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the standard deviation of b - c if the true difference is `difference`, as in `upper_limit`."""
    # Rounding may leave a little below 0 where it is 0.
    spread = difference * (1 - difference)
    linear = (2 * images - first + second) * difference - first - second
    root = np.sqrt(np.maximum(linear**2 + 8 * images * second * spread, 0))
    return np.asarray(np.sqrt(np.maximum(images * ((root - linear) / (2 * images) + spread), 0)))


def detectable_difference(images: int, discordant: float, significance: float) -> float:
    """Return the difference of two accuracies that the two-sided test detects with probability `POWER`, 0 to 1.

    `discordant` is the share of discordant pairs, 0 to 1, here as observed. With normal quantiles a of
    1 - significance / 2 and b of the power, the difference d solves √n d = a √s + b √(s - d²), where s is that share,
    or d itself where that is larger, since no difference exceeds it: Connor 1987, "Sample size for testing differences
    in proportions for the paired-sample design", Biometrics 43. It is never below what the exact test can show at
    best; above 1, the test set can show no difference.
    """
    from scipy.stats import norm

    a, b = float(norm.ppf(1 - significance / 2)), float(norm.ppf(POWER))
    factor = (a * math.sqrt(images) + b * math.sqrt(max(images + b**2 - a**2, 0))) / (images + b**2)
    found = factor * max(factor, math.sqrt(discordant))
    return max(found, min_discordant_pairs(significance) / images)


def min_images(difference: float, discordant: float, significance: float) -> int:
    """Return how many images it takes for `detectable_difference` to be at most `difference`."""
    return next(n for n in itertools.count(1) if detectable_difference(n, discordant, significance) <= difference)
