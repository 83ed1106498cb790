"""The bootstrap: how far a number would vary with other test images.

Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7. Images are drawn without regard
to their class: drawn within each class, two images of a class would have half of their variance.
"""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval

# Images drawn at a time: bounds memory for any size of the test set.
_DRAWN = 2_000_000


def resamples(images: int, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of resampled `images`, (rows, images), until there are `count` rows in total.

    Each row has as many images as there are, drawn with replacement.
    """
    draw, rows = np.random.default_rng(seed), max(1, _DRAWN // images)
    for start in range(0, count, rows):
        yield draw.integers(0, images, (min(rows, count - start), images))


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
