"""Intervals of confidence: how far a number read off a finite test set can be trusted."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """The two ends of an interval, the lower first."""

    low: float
    high: float


def proportion(successes: int, trials: int, confidence: float) -> Interval:
    """Return Wilson's score interval of a proportion, such as an accuracy.

    With p = successes / trials and z the normal quantile of (1 + confidence) / 2:
    (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n). Unlike p ± z √(p(1 - p)/n) it stays within
    0 and 1 and keeps a width when every picture, or none, is right. Wilson 1927; Brown, Cai and
    DasGupta 2001, "Interval estimation for a binomial proportion", recommend it.
    """
    from scipy.stats import binomtest

    found = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))


def mean_over_folds(shares: Sequence[float], test_to_training: float, confidence: float) -> Interval:
    """Return the interval of the mean of one share a fold, such as its accuracy, by the corrected resampled t.

    With mean m and sample variance s² over K folds, n₂ pictures tested and n₁ trained on in each, and t the
    quantile of (1 + confidence) / 2 of Student's distribution with K - 1 degrees of freedom:
    m ± t √((1/K + n₂/n₁) s²); `test_to_training` is n₂/n₁. The usual m ± t √(s²/K) takes the folds for
    independent and is too narrow, since they share most of what they train on. Nadeau and Bengio 2003,
    "Inference for the generalization error", Machine Learning 52, section 3. The ends are cut to 0 and 1.
    """
    from scipy.stats import t

    mean, count = statistics.fmean(shares), len(shares)
    deviation = math.sqrt((1 / count + test_to_training) * statistics.variance(shares))
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * deviation
    return Interval(max(0.0, mean - half), min(1.0, mean + half))


def overlap(one: Interval, other: Interval) -> bool:
    """Say whether two intervals share a point; then the test set does not set the two numbers apart."""
    return one.low <= other.high and other.low <= one.high
