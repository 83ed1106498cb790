"""Intervals of confidence: how far a number read off a finite test set can be trusted."""

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


def overlap(one: Interval, other: Interval) -> bool:
    """Say whether two intervals share a point; then the test set does not set the two numbers apart."""
    return one.low <= other.high and other.low <= one.high
