"""Pairwise comparisons of classifiers on the same test images: differences, their intervals and p-values."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

import numpy as np
import pandas as pd

from stages.core.intervals import Interval
from stages.statistics.outcomes import Outcomes
from stages.statistics.paired import POWER, Alternative, detectable_difference, min_images, sign_flip

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
    """Return the interval of that difference, by its upper limit from either side (`Counts.upper_limits`)."""
    limits = pair.counts.upper_limits((1 + confidence) / 2)[0]
    return Interval(-float(limits[1, 0]), float(limits[0, 1]))


def p_value(pair: Outcomes, alternative: Alternative = "two-sided") -> float:
    """Return the probability of such a difference between two that are equally good; "greater": of the first's being.

    By `sign_flip` over the groups of images. Where one was trained several times it is no less than that of the t test
    of a variance that includes the seeds.
    """
    from scipy.stats import t

    right, images = pair.right.astype(int), len(pair.right)
    exact = sign_flip(pair.groups.sums(right[:, 0] - right[:, 1]).astype(int), alternative)
    if not pair.seeds.any:
        return exact
    # Without discordant pairs as with one.
    independent = max(sum(only(pair)) / images - difference(pair) ** 2, 1 / images) / images
    effect, of_images = (
        float(found[0, 0, 1]) for found in (pair.counts.precision.effect, pair.counts.precision.freedom)
    )
    parts = np.array([effect * independent, *pair.seeds.variances])
    freedom = parts.sum() ** 2 / (parts**2 / np.array([of_images, *pair.seeds.freedom])).sum()
    statistic = difference(pair) / math.sqrt(parts.sum())
    sides, extreme = (2, abs(statistic)) if alternative == "two-sided" else (1, statistic)
    return max(exact, sides * float(t.sf(extreme, freedom)))


def detectable(pair: Outcomes, discordant: float, significance: float) -> float:
    """Return the difference of two that their test detects with probability `POWER`, 0 to 1; above 1 there is none.

    `discordant` is the share of images that only one of them is right on (`paired.detectable_difference`). What another
    seed may change does not depend on the number of images; it adds to what these can detect.
    """
    worth = len(pair.right) / _image_scale(pair, significance)
    of_images = detectable_difference(worth, discordant, significance, len(pair.groups))
    return math.hypot(of_images, _of_seeds(pair, significance))


def needed_images(pair: Outcomes, difference: float, discordant: float, significance: float) -> int | None:
    """Return how many images like these it takes for `detectable` to be at most `difference`.

    None if no number does.
    """
    of_images = difference**2 - _of_seeds(pair, significance) ** 2
    if of_images <= 0:
        return None
    independent = min_images(math.sqrt(of_images), discordant, significance)
    return math.ceil(independent * _image_scale(pair, significance))


def _image_scale(pair: Outcomes, significance: float) -> float:
    """Return how many images are worth one in a test between two, at least 1: more where they come in groups."""
    return float(pair.counts.precision.scale(1 - significance / 2)[0, 0, 1])


def _of_seeds(pair: Outcomes, significance: float) -> float:
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
