"""Which of several classifiers are right on the same test images, and how certain the differences between them are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.intervals import Interval, wilson
from stages.statistics.groups import Groups, Precision, Values, accuracy_images, precision
from stages.statistics.paired import Alternative, detectable_difference, excluded, min_images, sign_flip, upper_limit


@dataclass(frozen=True)
class Seeds:
    """The variance of each of K classifiers' scores over trainings, (K,), and its degrees of freedom, (K,)."""

    variances: Values
    freedom: Values

    @classmethod
    def none(cls, count: int) -> "Seeds":
        """Return those of classifiers that were trained once, or solved exactly."""
        return cls(np.zeros(count), np.ones(count))

    @property
    def any(self) -> bool:
        """Whether trainings of any of them differ."""
        return bool(self.variances.any())

    def deviations(self) -> Values:
        """Return the standard deviation of the difference of two, (K, K), that is due to their seeds."""
        return np.asarray(np.sqrt(self.variances[:, None] + self.variances))

    def margins(self, level: float) -> Values:
        """Return how far seeds may move the difference of two, (K, K): by Student's t at the probability `level`.

        Variances add up, with the degrees of freedom of Welch 1947, "The generalization of Student's problem when
        several different population variances are involved", Biometrika 34.
        """
        from scipy.stats import t

        if not self.any:
            return self.deviations()
        unsure = self.variances**2 / self.freedom
        freedom = self.deviations() ** 4 / np.maximum(unsure[:, None] + unsure, np.finfo(np.float64).tiny)
        return np.asarray(t.ppf(level, np.maximum(freedom, 1)) * self.deviations())


@dataclass(frozen=True)
class Counts:
    """What K classifiers are right on, for several draws of the test images.

    `images` has shape (draws,), `right` (draws, K). `only` (draws, K, K) counts the images that the first of two is
    right on and the second is not, and `precision` is that of the difference of their accuracies, of the same shape.
    """

    images: Values
    right: Values
    only: Values
    precision: Precision
    seeds: Seeds

    @property
    def scores(self) -> Values:
        """By what they are ordered, (draws, K): the number of images that each is right on."""
        return self.right

    @property
    def differences(self) -> Values:
        """The accuracy of the first of two minus that of the second, (draws, K, K)."""
        return (self.only - self.only.transpose(0, 2, 1)) / self.images[:, None, None]

    def upper_limits(self, level: float) -> Values:
        """Return the one-sided upper confidence limits of the differences, (draws, K, K).

        Those of the images (`paired.upper_limit`, for what the images are worth) and of the seeds, recovered from their
        distances from the difference: Zou and Donner 2008, "Construction of confidence limits about effect measures: a
        general approach", Statistics in Medicine 27.
        """
        of_images = upper_limit(*self._worth(level), level) - self.differences
        return np.asarray(np.minimum(1, self.differences + np.hypot(of_images, self.seeds.margins(level))))

    def within(self, margin: float, level: float) -> NDArray[np.bool_]:
        """Return whether the upper limit of a difference is at most `margin`, (draws, K, K), without computing it."""
        left = (margin - self.differences) ** 2 - self.seeds.margins(level) ** 2
        possible = (self.differences <= margin) & (left >= 0)
        at = self.differences + np.sqrt(np.maximum(left, 0))
        return np.asarray(possible & excluded(*self._worth(level), at, level))

    def _worth(self, level: float) -> tuple[Values, Values, Values]:
        """Return what the images, and those that only the first or only the second is right on, are worth."""
        scale = self.precision.scale(level)
        return self.images[:, None, None] / scale, self.only / scale, self.only.transpose(0, 2, 1) / scale


@dataclass(frozen=True)
class Outcomes:
    """Which of K classifiers are right on each of n test images.

    `trainings` has an array (R, n) for each of them: a row for each of R trainings with different seeds, the first of
    which is compared. How much their accuracies differ says how much of a difference may be due to the seeds. A
    classifier with one training has no such variance: a linear head is solved exactly, and what is said of another
    holds for this training of it.
    """

    names: tuple[str, ...]
    trainings: tuple[NDArray[np.bool_], ...]
    groups: Groups

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each classifier is right on each image, (n, K)."""
        return np.stack([found[0] for found in self.trainings], axis=1)

    @cached_property
    def seeds(self) -> Seeds:
        """How much trainings differ.

        What changes from image to image is not in it, since the variance between images has that already: it is
        subtracted, as in an analysis of variance with images and trainings at random.
        """
        variances = [_between_trainings(found) for found in self.trainings]
        return Seeds(np.array(variances), np.array([max(1.0, len(found) - 1) for found in self.trainings]))

    @cached_property
    def counts(self) -> Counts:
        """The counts of the test images as they are."""
        return self.drawn([0] * len(self.names), np.ones((1, len(self.groups))))

    @property
    def images(self) -> int:
        """The number of test images."""
        return len(self.right)

    @property
    def repeats(self) -> list[int]:
        """How often each classifier was trained."""
        return [len(found) for found in self.trainings]

    @property
    def measured(self) -> Values:
        """The accuracy of each classifier, (K,)."""
        return np.asarray(self.right.mean(axis=0))

    @property
    def sign(self) -> int:
        """1, since a higher accuracy is better."""
        return 1

    def of(self, *names: str) -> "Outcomes":
        """Return those of some of the classifiers."""
        return Outcomes(names, tuple(self.trainings[self.names.index(name)] for name in names), self.groups)

    def drawn(self, picked: Sequence[int], weights: Values) -> Counts:
        """Return the counts if each group had been drawn as often as `weights`, (draws, groups), says.

        `picked` has the number of the training of each classifier.
        """
        value, groups = self._picked(picked).astype(np.float64), self.groups
        images, sums = weights @ groups.sizes, groups.sums(value)
        if groups.alone:
            only = np.stack([(sums * row[:, None]).T @ (1 - sums) for row in weights])
            found = Precision.independent(only.shape)
        else:
            first = groups.sums(value[:, :, None] * (1 - value[:, None, :]))
            either, differences = first + first.transpose(0, 2, 1), sums[:, :, None] - sums[:, None, :]
            only = np.tensordot(weights, first, axes=1)
            found = precision(groups, weights, differences, either, either > 0)
        return Counts(images, weights @ sums, only, found, self.seeds)

    def _picked(self, picked: Sequence[int]) -> NDArray[np.bool_]:
        """Return whether each classifier is right on each image, (n, K), in the trainings of these numbers."""
        return np.stack([found[number] for found, number in zip(self.trainings, picked, strict=True)], axis=1)

    def totals(self, picked: Sequence[int], weights: Values, chosen: NDArray[np.int64]) -> Values:
        """Return right answers and images of the classifier `chosen` in each of the drawn `weights`, summed, (2, 1)."""
        right = (weights @ self.groups.sums(self._picked(picked)))[np.arange(len(chosen)), chosen].sum()
        return np.array([[right], [(weights @ self.groups.sizes).sum()]])

    def interval(self, position: int, value: float, confidence: float) -> Interval:
        """Return the interval of an accuracy `value` that is as certain as that of the classifier at `position`."""
        return wilson(value, accuracy_images(self.right[:, position], self.groups, confidence), confidence)

    # Of two --------------------------------------------------------------------------------------------

    @property
    def only(self) -> tuple[int, int]:
        """How many images only the first, and how many only the second of two is right on."""
        found = self.counts.only[0]
        return round(float(found[0, 1])), round(float(found[1, 0]))

    def exchange_p(self, alternative: Alternative) -> float:
        """Return the p-value of the exchange of two in whole groups, exactly (`paired.sign_flip`)."""
        right = self.right.astype(int)
        return sign_flip(self.groups.sums(right[:, 0] - right[:, 1]).astype(int), alternative)

    @property
    def variance_by_images(self) -> tuple[float, float]:
        """The variance of the difference of two that is due to the images, and its degrees of freedom."""
        discordant = sum(self.only) / self.images
        # Without discordant pairs as with one.
        independent = max(discordant - float(self.counts.differences[0, 0, 1]) ** 2, 1 / self.images) / self.images
        found = self.counts.precision
        return float(found.effect[0, 0, 1]) * independent, float(found.freedom[0, 0, 1])

    def detectable_by_images(self, significance: float, further: float) -> float:
        """Return the difference of two that these images can show (`paired.detectable_difference`).

        `further` is the share of discordant images beside those observed.
        """
        discordant = min(1.0, sum(self.only) / self.images + further)
        worth = self.images / self._image_scale(significance)
        return detectable_difference(worth, discordant, significance, len(self.groups))

    def images_to_show(self, difference: float, significance: float) -> int:
        """Return how many images like these can show a `difference` of two."""
        scale = self._image_scale(significance)
        discordant, groups = sum(self.only) / self.images, scale * len(self.groups) / self.images
        return math.ceil(scale * min_images(difference, discordant, significance, groups))

    def _image_scale(self, significance: float) -> float:
        """Return how many images are worth one in a test between two, at least 1: more where they come in groups."""
        return float(self.counts.precision.scale(1 - significance / 2)[0, 0, 1])


def _between_trainings(right: NDArray[np.bool_]) -> float:
    """Return the variance of accuracies between trainings; `right` has shape (R, n)."""
    if len(right) == 1:
        return 0.0
    accuracies = right.mean(axis=1)
    changes = right - accuracies[:, None] - right.mean(axis=0) + right.mean()
    images = int(right.shape[1])
    by_image = float((changes**2).sum()) / ((len(right) - 1) * max(1, images - 1))
    return max(0.0, float(accuracies.var(ddof=1)) - by_image / images)


def read_outcomes(
    tables: Mapping[str, pd.DataFrame], groups: "pd.Series[str]", repeats: Mapping[str, pd.DataFrame] | None = None
) -> Outcomes:
    """Return the outcomes of predictions by name, each a table with columns file, label and predicted.

    `groups` has the name of each file's group. `repeats` are the predictions of further trainings, where there are any,
    with a column repeat as well. Raises DataError unless all are of the same images.
    """
    found = trainings_of(tables, repeats or {})
    images = next(iter(found.values()))[0]
    right = (np.stack([(each["predicted"] == each["label"]).to_numpy() for each in parts]) for parts in found.values())
    return Outcomes(tuple(tables), tuple(right), Groups.of(groups.loc[images["file"]].to_numpy()))


def trainings_of(
    tables: Mapping[str, pd.DataFrame], repeats: Mapping[str, pd.DataFrame]
) -> dict[str, list[pd.DataFrame]]:
    """Return by name the predictions of each training, the main one first, all with the images in the same order.

    Raises DataError unless all are of the same images.
    """
    first = next(iter(tables))
    images = pd.MultiIndex.from_frame(tables[first][["file", "label"]])
    found = {}
    for name, table in tables.items():
        parts = [table, *(part for _, part in repeats[name].groupby("repeat"))] if name in repeats else [table]
        found[name] = [_aligned(part, images, name, first) for part in parts]
    return found


def _aligned(table: pd.DataFrame, images: pd.MultiIndex, name: str, first: str) -> pd.DataFrame:
    rows = table.set_index(["file", "label"])
    if len(rows) != len(images) or not rows.index.isin(images).all():
        raise DataError(
            f"'{name}' was tested on other images than '{first}'", "the same images for all", "run 'dvc repro'"
        )
    return rows.reindex(images).reset_index()
