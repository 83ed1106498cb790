"""The bootstrap: how far a number would vary with other test images.

Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7. Groups of images are drawn as a
whole, since those of a group are alike (Field and Welsh 2007, "Bootstrapping clustered data", Journal of the Royal
Statistical Society B 69), and without regard to their class: drawn within each class, two images of a class would have
half of their variance.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval

# Groups drawn at a time: bounds memory for any size of the test set.
_DRAWN = 2_000_000


def resamples(groups: int, count: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each of the `groups` is drawn, (rows, groups), until there are `count` rows in total.

    Each row has as many draws as there are groups, with replacement.
    """
    draw, rows = np.random.default_rng(seed), max(1, _DRAWN // groups)
    for start in range(0, count, rows):
        drawn = [draw.integers(0, groups, groups) for _ in range(min(rows, count - start))]
        yield np.stack([np.bincount(each, minlength=groups) for each in drawn]).astype(np.float64)


def percentile(values: NDArray[np.float64], groups: int, confidence: float) -> Interval:
    """Return the interval that excludes an equal fraction of the resamples' `values`, of `groups`, at either end.

    The fraction is a little less than (1 - confidence) / 2, as Student's t is wider than the normal distribution, and a
    resample's variance smaller than the sample's by (groups - 1) / groups: Hesterberg 2015, "What teachers should know
    about the bootstrap", The American Statistician 69, section 4.
    """
    below = NormalDist().cdf(-_quantile(groups, confidence))
    low, high = np.quantile(values, [below, 1 - below])
    return Interval(float(low), float(high))


def unbiased(values: NDArray[np.float64], groups: int, estimate: float, confidence: float) -> Interval:
    """Return the normal interval about an `estimate` from 0 to 1, less the bias that its resamples' `values` show.

    Resamples are biased from the estimate as it is from the truth: Davison and Hinkley 1997, section 5.2. The estimate
    itself is always inside.
    """
    centre, half = 2 * estimate - float(values.mean()), _quantile(groups, confidence) * float(values.std())
    return Interval(max(0.0, min(centre - half, estimate)), min(1.0, max(centre + half, estimate)))


def _quantile(groups: int, confidence: float) -> float:
    """Return how many standard deviations of resamples the end of an interval is away, as in `percentile`."""
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, max(1, groups - 1))) * math.sqrt(groups / max(1, groups - 1))
