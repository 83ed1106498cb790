"""Pairwise comparisons of classifiers on the same test images: differences, their intervals and p-values."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from stages.core.intervals import Interval
from stages.statistics.outcomes import Outcomes
from stages.statistics.paired import Alternative, sign_flip, upper_limit

# Columns of the table of all pairs.
COLUMNS = ("first", "second", "only_first", "only_second", "difference", "low", "high", "p", "p_holm")


def all_pairs(outcomes: Outcomes, confidence: float) -> pd.DataFrame:
    """Return a row for each pair of classifiers, in their order; none for one.

    Columns: first, second; only_first and only_second, how many test images only that one gets right; difference, the
    accuracy of the first minus that of the second, with its interval low to high (`difference_interval`); p, two-sided
    (`p_value`); p_holm, the same corrected for the number of pairs.
    """
    pairs = [outcomes.of(*names) for names in combinations(outcomes.names, 2)]
    p = [p_value(pair) for pair in pairs]
    rows = [
        (*pair.names, *only(pair), difference(pair), *difference_interval(pair, confidence), value, corrected)
        for pair, value, corrected in zip(pairs, p, holm(p), strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def only(pair: Outcomes) -> tuple[int, int]:
    """Return how many images only the first, and how many only the second of two is right on."""
    found = pair.counts.only[0]
    return round(float(found[0, 1])), round(float(found[1, 0]))


def difference(pair: Outcomes) -> float:
    """Return the accuracy of the first of two minus that of the second, -1 to 1."""
    first, second = only(pair)
    return (first - second) / len(pair.right)


def difference_interval(pair: Outcomes, confidence: float) -> Interval:
    """Return the interval of that difference: Tango's, of as many images as those in groups are worth.

    See `paired.upper_limit`; where the first or the second was trained several times, it includes the seeds.
    """
    level = (1 + confidence) / 2
    images, first, second = (found[0, 0, 1] for found in pair.counts.effective(level))
    high, low = upper_limit(images, first, second, level), -upper_limit(images, second, first, level)
    return Interval(float(low), float(high))


def p_value(pair: Outcomes, alternative: Alternative = "two-sided") -> float:
    """Return the probability of such a difference between two that are equally good; "greater": of the first's being.

    By `sign_flip` over the groups of images. Where one was trained several times it is no less than that of the t test
    of a variance that includes the seeds.
    """
    from scipy.stats import t

    right = pair.right.astype(int)
    exact = sign_flip(pair.groups.sums(right[:, 0] - right[:, 1]).astype(int), alternative)
    if not pair.seeds[0].any():
        return exact
    first, second, images = *only(pair), len(pair.right)
    effect, freedom = (float(found[0, 0, 1]) for found in (pair.counts.precision.effect, pair.counts.precision.freedom))
    # Without discordant pairs as with one.
    variance = max((first + second) / images - difference(pair) ** 2, 1 / images) / images * effect
    statistic = difference(pair) / math.sqrt(variance)
    sides, extreme = (2, abs(statistic)) if alternative == "two-sided" else (1, statistic)
    return max(exact, sides * float(t.sf(extreme, freedom)))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's step-down method: in ascending order, p times the number of those left.

    Calling pairs with a corrected value of at most s different is free of any false claim with probability 1 - s.
    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    values = np.array(p, dtype=np.float64)
    order, corrected = np.argsort(values), np.empty(len(values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in corrected]
