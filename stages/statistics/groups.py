"""Test images in groups, such as those of one person: how many independent images they are worth.

Images of a group are right or wrong together more often than others. A mean over them is then less certain than over as
many independent images, by the design effect: the ratio of the two variances (Kish 1965, "Survey sampling"). Its
estimate is itself uncertain, more so the fewer groups there are: Korn and Graubard 1998, "Confidence intervals for
proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24, divide the
number of images by the design effect and by the squared ratio of Student's quantile to the normal one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from stages.core.intervals import Interval, wilson

Values = NDArray[np.float64]
# With fewer groups neither the intervals nor the tests hold what they promise.
MIN_GROUPS = 15
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Groups:
    """The group of each of n images: `codes` has shape (n,), integers from 0 on without gaps."""

    codes: NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str] | NDArray[np.object_]) -> "Groups":
        """Return the groups of images by the name of each one's group."""
        return cls(np.asarray(pd.factorize(np.asarray(names, dtype=object))[0], dtype=np.int64))

    @classmethod
    def single(cls, images: int) -> "Groups":
        """Return as many groups of one image each."""
        return cls(np.arange(images))

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.sizes)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The number of images in each group."""
        return np.bincount(self.codes)

    @property
    def alone(self) -> bool:
        """Whether each image is a group of its own."""
        return len(self) == len(self.codes)

    @property
    def few(self) -> bool:
        """Whether images come in groups, and these are too few to tell how certain anything is."""
        return not self.alone and len(self) < MIN_GROUPS

    def sums(self, values: ArrayLike) -> Values:
        """Return the sum of `values`, (n, ...), over the images of each group, (groups, ...)."""
        ordered = np.asarray(values, dtype=np.float64)[np.argsort(self.codes, kind="stable")]
        return np.asarray(np.add.reduceat(ordered, np.cumsum(self.sizes) - self.sizes, axis=0))


@dataclass(frozen=True)
class Precision:
    """How precisely means over grouped images are known: design effects, at least 1, and degrees of freedom.

    Both have the same shape; the degrees of freedom are infinite where each image is a group of its own.
    """

    effect: Values
    freedom: Values

    @classmethod
    def independent(cls, shape: tuple[int, ...]) -> "Precision":
        """Return that of independent images."""
        return cls(np.ones(shape), np.full(shape, np.inf))

    def scale(self, level: float) -> Values:
        """Return by how much to divide the number of images, for a quantile of probability `level`."""
        from scipy.stats import norm, t

        known = np.isinf(self.freedom)
        quantile = np.where(known, norm.ppf(level), t.ppf(level, np.where(known, 1, self.freedom)))
        return np.asarray(self.effect * (quantile / norm.ppf(level)) ** 2)


def precision(
    groups: Groups, weights: Values, values: Values, squares: Values, telling: NDArray[np.bool_]
) -> Precision:
    """Return the precision of the means of several values over the images of weighted groups.

    `weights` (draws, groups) says how often each group is drawn. `values` and `squares` (groups, ...) are the sums of
    the values and of their squares over the images of each group, and `telling` says which groups have an image of the
    rarer outcome. The result has shape (draws, ...). Squared deviations of the groups are those of the jackknife, which
    does not understate them where few groups are large. The fewer groups are telling, the less is known of how alike
    the images of a group are: as if one more had been seen whose images are all alike.
    """
    if len(groups) == 1:
        # How alike its images are shows beside another group alone.
        shape = (len(weights), *values.shape[1:])
        return Precision(np.full(shape, float(len(groups.codes))), np.ones(shape))
    sizes = groups.sizes.astype(np.float64)
    # Broadcasts over the values' own axes.
    wide = sizes.reshape(-1, *[1] * (values.ndim - 1))
    images, drawn, square_sizes = (_weighted(weights, each) for each in (sizes, np.ones(len(sizes)), sizes**2))
    count = images.reshape(-1, *[1] * (values.ndim - 1))
    mean = _weighted(weights, values) / count
    leverage = 1 / (1 - wide / len(groups.codes)) ** 2
    parts = (leverage * values**2, leverage * values * wide, leverage * wide**2)
    own, mixed, of_sizes = (_weighted(weights, part) for part in parts)
    between = own - 2 * mean * mixed + mean**2 * of_sizes
    within = _weighted(weights, squares) - mean**2 * count
    alike = (square_sizes / images).reshape(count.shape)
    fewer = ((drawn - 1) / drawn).reshape(count.shape)
    # Where all images agree nothing is known.
    nothing = np.array(alike + 0 * mean)
    effect = np.maximum(1, np.divide(between * fewer, within, out=nothing, where=within > _ROUNDING))
    seen = _weighted(weights, telling.astype(np.float64))
    freedom = np.maximum(1, images**2 / square_sizes - 1).reshape(count.shape)
    return Precision((seen * effect + np.maximum(alike, effect)) / (seen + 1), freedom + np.zeros(effect.shape))


def _weighted(weights: Values, values: Values) -> Values:
    """Return the sums of `values` (groups, ...) with the `weights` (draws, groups), (draws, ...)."""
    return np.asarray(np.tensordot(weights, values, axes=1))


def effective_images(
    groups: Groups, deviations: NDArray[np.floating], right: NDArray[np.bool_], confidence: float
) -> float:
    """Return how many independent images the mean over `groups` is worth in an interval of this `confidence`.

    `deviations` (n,) are those of each image from that mean, or its linearised contributions to another statistic;
    `right` (n,) are the outcomes.
    """
    if groups.alone:
        return float(len(right))
    rarer = right if 2 * right.sum() < len(right) else ~right
    sums, squares, telling = (groups.sums(each) for each in (deviations, deviations**2, rarer))
    found = precision(groups, np.ones((1, len(groups))), sums, squares, telling > 0)
    return len(right) / float(found.scale((1 + confidence) / 2)[0])


def accuracy_images(right: NDArray[np.bool_], groups: Groups, confidence: float) -> float:
    """Return how many independent images an accuracy is known from; `right` (n,) says which images it is right on."""
    return effective_images(groups, right - float(right.mean()), right, confidence)


def accuracy_interval(right: NDArray[np.bool_], groups: Groups, confidence: float) -> Interval:
    """Return Wilson's interval of an accuracy, of as many images as those in `groups` are worth.

    `right` (n,) says which images it is right on. For groups of one image it is `intervals.wilson`.
    """
    return wilson(float(right.mean()), accuracy_images(right, groups, confidence), confidence)
