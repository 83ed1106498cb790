"""The stratified bootstrap: how far a number would vary with other test images of the same classes.

Each class keeps its number of images, so that a resample has the composition of the test set and no class can vanish
from it. Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7;
Davison and Hinkley 1997, "Bootstrap methods and their application", section 3.2, for several samples.
"""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval

# Images drawn at a time: bounds memory for any size of the test set.
_DRAWN = 2_000_000


def resamples(strata: NDArray[np.int64], count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of resampled images, (rows, n), until there are `count` rows in total.

    `strata` has the class of each of n images. Each row has, for each class, as many of its images as there
    are, drawn with replacement.
    """
    draw, order = np.random.default_rng(seed), np.argsort(strata, kind="stable")
    _, first, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    low, size = np.repeat(first, sizes), np.repeat(sizes, sizes)
    rows = max(1, _DRAWN // len(strata))
    for start in range(0, count, rows):
        yield order[draw.integers(low, low + size, (min(rows, count - start), len(strata)))]


def percentile(values: NDArray[np.float64], confidence: float) -> Interval:
    """Return the interval that excludes an equal fraction of the resamples' `values` at either end.

    Efron and Tibshirani 1993, "An introduction to the bootstrap", section 13.3.
    """
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def unbiased(values: NDArray[np.float64], estimate: float, confidence: float) -> Interval:
    """Return the normal interval about an `estimate` from 0 to 1, less the bias that its resamples' `values` show.

    Resamples are biased from the estimate as it is from the truth: Davison and Hinkley 1997, section 5.2. The estimate
    itself is always inside.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre, half = 2 * estimate - float(values.mean()), z * float(values.std())
    return Interval(max(0.0, min(centre - half, estimate)), min(1.0, max(centre + half, estimate)))
