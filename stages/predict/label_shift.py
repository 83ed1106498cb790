"""Label shift: old images weighted as if their classes were mixed like those of new ones, and compared with these.

New images may have another mix of classes, and each class look as before. Their mix is not known, for they have no
labels, but the old images say how often an image of each class is predicted as each class: the mix is the one that best
explains how often each class is predicted among the new images (Lipton et al. 2018, "Detecting and correcting for label
shift with black box predictors", https://arxiv.org/abs/1802.03916), found by the steps of Saerens et al. 2002,
"Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14. The more often the
classifier is wrong and the fewer the old images, the more that changes can be explained by another mix.

The weights add up to 1. Old and new values are compared by the Kolmogorov-Smirnov statistic, the largest difference of
their distribution functions. Its p-value is that of a bootstrap, in which the mix is estimated anew each time: old
images are drawn within their classes, new ones from the weighted old ones.
"""

import numpy as np
from numpy.typing import NDArray

# At most; fewer where chance reaches the differences found that often (Besag and Clifford 1991, "Sequential Monte
# Carlo p-values", Biometrika 78).
_RESAMPLES, _OFTEN = 999, 20
# From the old mix of classes towards the one that explains best. With more, few images of classes that are confused are
# taken for more than they say, and a change of looks is explained away by an extreme mix; with fewer, an extreme mix is
# taken for a change of looks.
_STEPS = 20
# The same differences, added in another order, may vary by this.
_ROUNDING = 1e-9

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]


def weigh(actual: Integers, predicted: Integers, new: Integers) -> Numbers:
    """Return the weights, (n,), with which old images best explain the `new` predicted classes, (m,).

    `actual` and `predicted` classes of the old images are positions, (n,).
    """
    size = 1 + int(max(predicted.max(), new.max()))
    observed = np.bincount(new, minlength=size) / len(new)
    per_image = 1 / np.bincount(actual)[actual]
    weights = np.full(len(actual), 1 / len(actual))
    for _ in range(_STEPS):
        # At least this, since what is expected of a class that is not observed becomes 0.
        expected = np.maximum(np.bincount(predicted, weights, size), _ROUNDING)
        weights *= np.bincount(actual, (observed / expected)[predicted])[actual] * per_image
    # They add up to less where a class is observed that is predicted for no old image.
    return np.asarray(weights / max(weights.sum(), _ROUNDING))


def differences(old: Numbers, weights: Numbers, new: Numbers) -> Numbers:
    """Return the largest difference of the distribution functions of old (n, k) and new (m, k) values, (k,).

    The old values have `weights`, (n,).
    """
    values = np.concatenate([old, new]).T
    steps = np.concatenate([-weights, np.full(len(new), 1 / len(new))])
    orders = np.argsort(values, axis=1)
    # Equal values are one step of a distribution function.
    last = np.diff(np.take_along_axis(values, orders, axis=1), axis=1, append=np.inf) > 0
    return np.asarray(np.abs(np.cumsum(steps[orders], axis=1) * last).max(axis=1))


def p_values(
    actual: Integers, predicted: Integers, values: Numbers, weights: Numbers, new_images: int, found: Numbers
) -> Numbers:
    """Return how often the `differences` of so many new images reach those that were `found`, by chance, (k,).

    Old images have `actual` and `predicted` classes, (n,), `values`, (n, k), and `weights` that add up to 1, (n,).
    """
    draw = np.random.default_rng(0)
    by_class, of_class = np.argsort(actual, kind="stable"), np.bincount(actual)
    first, size = (np.cumsum(of_class) - of_class)[actual], of_class[actual]
    ranks = np.argsort(np.argsort(values, axis=0), axis=0)
    reached, drawn = np.zeros(len(found)), 0
    while drawn < _RESAMPLES and reached.min() < _OFTEN:
        drawn += 1
        again = by_class[first + (draw.random(len(actual)) * size).astype(np.int64)]
        new = draw.choice(len(actual), new_images, p=weights)
        weighted = weigh(actual, predicted[again], predicted[new])
        # Between the ranks, since two samples of a continuous distribution have no values in common.
        old, other = (ranks[which] + draw.random((len(which), len(found))) for which in (again, new))
        reached += differences(old, weighted, other) >= found - _ROUNDING
    return np.asarray((1 + reached) / (1 + drawn))


def median(values: Numbers, weights: Numbers) -> float:
    """Return the weighted median of values (n,)."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), 0.5 - _ROUNDING)])
