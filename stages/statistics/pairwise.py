"""Pairwise comparisons of classifiers on the same test images: differences, their intervals and p-values."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

import numpy as np
import pandas as pd

from stages.core.intervals import Interval
from stages.statistics.contest import Contest
from stages.statistics.paired import POWER, Alternative

# Columns of the table of all pairs.
COLUMNS = ("first", "second", "only_first", "only_second", "difference", "low", "high", "p", "p_holm")


def all_pairs(contest: Contest, confidence: float) -> pd.DataFrame:
    """Return a row for each pair of classifiers, in their order; none for one.

    Columns: first, second; only_first and only_second, how many test images only that one gets right, or is better on;
    difference, by how much the first is better, such as its accuracy minus that of the second, with its interval low to
    high (`difference_interval`); p, two-sided (`p_value`); p_holm, the same corrected for the number of pairs.
    """
    pairs = [contest.of(*names) for names in combinations(contest.names, 2)]
    p = [p_value(pair) for pair in pairs]
    rows = [
        (*pair.names, *pair.only, difference(pair), *difference_interval(pair, confidence), value, corrected)
        for pair, value, corrected in zip(pairs, p, holm(p), strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def difference(pair: Contest) -> float:
    """Return by how much the first of two is better than the second, below 0 where it is worse."""
    return float(pair.counts.differences[0, 0, 1])


def difference_interval(pair: Contest, confidence: float) -> Interval:
    """Return the interval of that difference, by its upper limit from either side (`Draws.upper_limits`)."""
    limits = pair.counts.upper_limits((1 + confidence) / 2)[0]
    return Interval(-float(limits[1, 0]), float(limits[0, 1]))


def p_value(pair: Contest, alternative: Alternative = "two-sided") -> float:
    """Return the probability of such a difference between two that are equally good; "greater": of the first's being.

    By their exchange over the groups of images. Where one was trained several times it is no less than that of the t
    test of a variance that includes the seeds.
    """
    from scipy.stats import t

    exchanged = pair.exchange_p(alternative)
    if not pair.seeds.any:
        return exchanged
    by_images, freedom_of_images = pair.variance_by_images
    parts = np.array([by_images, *pair.seeds.variances])
    freedom = parts.sum() ** 2 / (parts**2 / np.array([freedom_of_images, *pair.seeds.freedom])).sum()
    statistic = difference(pair) / math.sqrt(parts.sum())
    sides, extreme = (2, abs(statistic)) if alternative == "two-sided" else (1, statistic)
    return max(exchanged, sides * float(t.sf(extreme, freedom)))


def detectable(pair: Contest, significance: float, further: float = 0.0) -> float:
    """Return the difference of two that their test detects with probability `POWER`; of accuracies above 1: none.

    `further` is the share of images that only one of them is right on, beside those observed. What another seed may
    change does not depend on the number of images; it adds to what these can detect.
    """
    return math.hypot(pair.detectable_by_images(significance, further), _of_seeds(pair, significance))


def needed_images(pair: Contest, difference: float, significance: float) -> int | None:
    """Return how many images like these it takes for `detectable` to be at most `difference`.

    None if no number does.
    """
    of_images = difference**2 - _of_seeds(pair, significance) ** 2
    return pair.images_to_show(math.sqrt(of_images), significance) if of_images > 0 else None


def _of_seeds(pair: Contest, significance: float) -> float:
    """Return the difference that is detected with probability `POWER` if only seeds made two differ."""
    power = NormalDist().inv_cdf(POWER) * pair.seeds.deviations()
    return float((pair.seeds.margins(1 - significance / 2) + power)[0, 1])


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's step-down method: in ascending order, p times the number of those left.

    Calling pairs with a corrected value of at most s different is free of any false claim with probability 1 - s.
    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    values = np.array(p, dtype=np.float64)
    order, corrected = np.argsort(values), np.empty(len(values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in corrected]
