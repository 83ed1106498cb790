"""Classifiers compared by a measure that is a mean of ratios (`stages.core.measure`): the sibling of `outcomes`.

How certain a difference is follows from leaving out each group of images in turn (jackknife): Efron and Stein 1981,
"The jackknife estimate of variance", Annals of Statistics 9. Few groups may make most of its variance, such as the
images of a rare class or those that two disagree on, so Student's t has the degrees of freedom that the groups' own
shares of it leave (Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics
Bulletin 2; Pan and Wall 2002, "Small-sample adjustments in using the sandwich variance estimator", Statistics in
Medicine 21). What no image has shown yet may still happen: one more group that the two differ on entirely is added.

Whether two differ at all is tested by exchanging their answers in whole groups of images: Pitman 1937, "Significance
tests which may be applied to samples from any populations"; Good 2005, "Permutation, parametric and bootstrap tests of
hypotheses".
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval
from stages.core.measure import Measure, Parts
from stages.statistics.groups import Groups, Values
from stages.statistics.outcomes import Seeds
from stages.statistics.paired import POWER, Alternative, fewest

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Exchanges that are drawn at random where there are more in all than `_EXACT`, and their seed.
_EXCHANGES, _EXACT, _SEED = 10_000, 4096, 0
# Exchanges of groups held at a time.
_HELD = 2_000_000
_ROUNDING = 1e-12
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Summed:
    """The parts of one training's score, summed within groups: entries of `group` (ascending) and `ratio`."""

    group: NDArray[np.int64]
    ratio: NDArray[np.int64]
    part: Values
    whole: Values
    shape: tuple[int, int]

    @classmethod
    def of(cls, parts: Parts, groups: Groups) -> "Summed":
        """Return the parts summed within the groups of their images."""
        keys, place = np.unique(groups.codes[parts.image] * parts.ratios + parts.ratio, return_inverse=True)
        part, whole = np.zeros((2, len(keys)))
        np.add.at(part, place, parts.part)
        np.add.at(whole, place, parts.whole)
        return cls(keys // parts.ratios, keys % parts.ratios, part, whole, (len(groups), parts.ratios))

    @cached_property
    def parts(self) -> "csr_array":
        """The numerators, (groups, ratios)."""
        return self._sparse(self.part)

    @cached_property
    def wholes(self) -> "csr_array":
        """The denominators, (groups, ratios)."""
        return self._sparse(self.whole)

    def _sparse(self, values: Values) -> "csr_array":
        from scipy.sparse import csr_array

        return csr_array((values, (self.group, self.ratio)), shape=self.shape)

    def totals(self, weights: Values) -> tuple[Values, Values]:
        """Return numerators and denominators, (draws, ratios) each, with groups as often as `weights` says."""
        return np.asarray((self.parts.T @ weights.T).T), np.asarray((self.wholes.T @ weights.T).T)

    def influence(self, weights: Values) -> Values:
        """Return by how much each group, drawn once less, would lower the score, (draws, groups).

        A ratio that would lose all it is made of leaves the mean, as a class without images does.
        """
        part, whole = self.totals(weights)
        ratios, count = _ratios(part, whole), (whole > _ROUNDING).sum(axis=1)[:, None]
        own, left = ratios[:, self.ratio], whole[:, self.ratio] - self.whole
        gone = left <= _ROUNDING
        kept = (part[:, self.ratio] - self.part) / np.where(gone, 1, left)
        score = ratios.sum(axis=1, keepdims=True) / count
        change = np.where(gone, (own - score) / np.maximum(count - 1, 1), (own - kept) / count)
        # Groups have an entry each, at least, in ascending order.
        return np.asarray(np.add.reduceat(change, np.searchsorted(self.group, np.arange(self.shape[0])), axis=1))

    @cached_property
    def groups_of_ratios(self) -> Values:
        """How many groups make each ratio, without those that none makes."""
        counts = np.bincount(self.ratio, self.whole > 0, self.shape[1])
        return np.asarray(counts[counts > 0])


def _ratios(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > _ROUNDING)


def _score(part: Values, whole: Values) -> Values:
    """Return the mean over the ratios with a denominator, for each row."""
    return np.asarray(_ratios(part, whole).sum(axis=1) / np.maximum((whole > _ROUNDING).sum(axis=1), 1))


@dataclass(frozen=True)
class Spread:
    """The variance of differences that is due to the images, and its degrees of freedom, of the same shape."""

    variance: Values
    freedom: Values

    def margins(self, level: float) -> Values:
        """Return how far images may move a difference, by Student's t at the probability `level`."""
        from scipy.stats import t

        return np.asarray(t.ppf(level, self.freedom) * np.sqrt(self.variance))


def _spread(influence: Values, weights: Values, unseen: float, times: float = 1) -> Spread:
    """Return the spread of a sum of what groups add, (draws, groups), one more of which may add `unseen`.

    It is that of `times` as many groups like these, each of which adds so much less.
    """
    drawn = weights.sum(axis=1)
    centred = influence - (np.einsum("ij,ij->i", influence, weights) / drawn)[:, None]
    # Products: `pow` takes ten times as long.
    squared = centred * centred
    weighted = squared * weights
    squares = weighted.sum(axis=1) * (drawn - 1) / drawn / times
    fourths = np.einsum("ij,ij->i", weighted, squared) / times**3
    drawn, unseen = drawn * times, unseen / times
    variance = squares + unseen**2
    unsure = fourths + unseen**4 - variance**2 / (drawn + 1)
    freedom = 2 * variance**2 / np.maximum(unsure, _TINY)
    return Spread(variance, np.clip(freedom, 1, np.maximum(drawn - 1, 1)))


@dataclass(frozen=True)
class Sums:
    """The scores of K classifiers in several draws of the test images, (draws, K), and the spread of differences."""

    scores: Values
    spread: Spread
    seeds: Seeds

    @property
    def differences(self) -> Values:
        """The score of the first of two minus that of the second, (draws, K, K)."""
        return self.scores[:, :, None] - self.scores[:, None, :]

    def upper_limits(self, level: float) -> Values:
        """Return the one-sided upper confidence limits of the differences, (draws, K, K), of images and seeds."""
        return np.asarray(self.differences + np.hypot(self.spread.margins(level), self.seeds.margins(level)))

    def within(self, margin: float, level: float) -> NDArray[np.bool_]:
        """Return whether the upper limit of a difference is at most `margin`, (draws, K, K)."""
        return np.asarray(self.upper_limits(level) <= margin)


@dataclass(frozen=True)
class Scores:
    """K classifiers by a measure, each with one or more trainings, the first of which is compared.

    `largest` is the difference that one image can make where two have not differed on any.
    """

    measure: Measure
    names: tuple[str, ...]
    trainings: tuple[tuple[Summed, ...], ...]
    groups: Groups
    largest: float

    @property
    def images(self) -> int:
        """The number of test images."""
        return len(self.groups.codes)

    @property
    def repeats(self) -> list[int]:
        """How often each classifier was trained."""
        return [len(found) for found in self.trainings]

    @property
    def sign(self) -> int:
        """1 where a higher value of the measure is better, -1 where a lower one is."""
        return self.measure.sign

    @property
    def measured(self) -> Values:
        """The value of the measure of each classifier, (K,)."""
        # Added to 0, so that none is -0.
        return np.asarray(0 + self.sign * self.counts.scores[0])

    @cached_property
    def _once(self) -> Values:
        return np.ones((1, len(self.groups)))

    @cached_property
    def seeds(self) -> Seeds:
        """How much trainings differ, without what changes from group to group, as in `outcomes.Outcomes.seeds`."""
        variances = [self._between_trainings(found) for found in self.trainings]
        return Seeds(np.array(variances), np.array([max(1.0, len(found) - 1) for found in self.trainings]))

    def _between_trainings(self, found: Sequence[Summed]) -> float:
        if len(found) == 1:
            return 0.0
        scores = np.array([_score(*each.totals(self._once))[0] for each in found])
        influence = np.stack([each.influence(self._once)[0] for each in found])
        changes = influence - influence.mean(axis=0)
        changes -= changes.mean(axis=1, keepdims=True)
        groups = len(self.groups)
        by_group = float((changes**2).sum()) / (len(found) - 1) * groups / max(1, groups - 1)
        return max(0.0, float(scores.var(ddof=1)) - by_group)

    @cached_property
    def counts(self) -> Sums:
        """The scores on the test images as they are."""
        return self.drawn([0] * len(self.names), self._once)

    def of(self, *names: str) -> "Scores":
        """Return those of some of the classifiers."""
        chosen = tuple(self.trainings[self.names.index(name)] for name in names)
        return Scores(self.measure, names, chosen, self.groups, self.largest)

    def _picked(self, picked: Sequence[int]) -> list[Summed]:
        return [found[number] for found, number in zip(self.trainings, picked, strict=True)]

    def drawn(self, picked: Sequence[int], weights: Values) -> Sums:
        """Return the scores if each group had been drawn as often as `weights`, (draws, groups), says."""
        found = self._picked(picked)
        scores = np.stack([_score(*each.totals(weights)) for each in found], axis=1)
        influence = [each.influence(weights) for each in found]
        variance, freedom = np.zeros((2, len(weights), len(found), len(found)))
        freedom += 1
        for first in range(len(found)):
            for second in range(first):
                spread = _spread(
                    influence[first] - influence[second], weights, self._unseen(found[first], found[second])
                )
                for place in ((first, second), (second, first)):
                    variance[:, *place], freedom[:, *place] = spread.variance, spread.freedom
        return Sums(scores, Spread(variance, freedom), self.seeds)

    def _unseen(self, first: Summed, second: Summed) -> float:
        """Return what one more group adds to a difference of two if they differ on it as much as on any."""
        counts = first.groups_of_ratios
        return self._step(first, second) * math.sqrt(float((1 / counts**2).mean())) / len(counts)

    def _step(self, first: Summed, second: Summed) -> float:
        return self.largest or float(np.abs((first.part - second.part) / first.whole).max())

    def totals(self, picked: Sequence[int], weights: Values, chosen: NDArray[np.int64]) -> Values:
        """Return numerators and denominators of the classifier `chosen` in each draw, summed over them, (2, ratios)."""
        found = [each.totals(weights[chosen == place]) for place, each in enumerate(self._picked(picked))]
        return np.asarray([sum(side.sum(axis=0) for side in sides) for sides in zip(*found, strict=True)])

    def interval(self, position: int, value: float, confidence: float) -> Interval:
        """Return the interval of a `value` that is as certain as that of the classifier at `position`."""
        own = self.trainings[position][0]
        nothing = Summed(own.group, own.ratio, np.zeros_like(own.part), own.whole, own.shape)
        spread = _spread(own.influence(self._once), self._once, self._unseen(own, nothing))
        half = float(spread.margins((1 + confidence) / 2)[0])
        return Interval(max(0.0, value - half), value + half if self.sign < 0 else min(1.0, value + half))

    # Of two --------------------------------------------------------------------------------------------

    @property
    def _pair(self) -> tuple[Summed, Summed]:
        first, second = (found[0] for found in self.trainings)
        return first, second

    @property
    def only(self) -> tuple[int, int]:
        """How many groups of images, which are images where these come alone, either of two does better on.

        The first does where exchanging both in this group alone makes less of its lead.
        """
        groups, observed = np.flatnonzero(self._differing), float(self.counts.differences[0, 0, 1])
        rows = max(1, _HELD // self._pair[0].shape[1])
        parts = [groups[start : start + rows] for start in range(0, len(groups), rows)]
        gains = [observed - self._after(*(-2 * each[part].toarray() for each in self._unlike)) for part in parts]
        return (
            sum(int((each > _ROUNDING).sum()) for each in gains),
            sum(int((each < -_ROUNDING).sum()) for each in gains),
        )

    @property
    def _unlike(self) -> tuple["csr_array", "csr_array"]:
        """The numerators, and the denominators, of the first of two minus those of the second, (groups, ratios)."""
        first, second = self._pair
        return first.parts - second.parts, first.wholes - second.wholes

    @cached_property
    def _differing(self) -> NDArray[np.bool_]:
        """Which groups two differ on, (groups,)."""
        part, whole = self._unlike
        return np.asarray((abs(part) + abs(whole)).sum(axis=1) > _ROUNDING)

    def exchange_p(self, alternative: Alternative) -> float:
        """Return the share of exchanges of two in whole groups that make at least such a difference of their scores.

        Of all exchanges where these are few, else of 10,000 at random with the observed one (Phipson and Smyth 2010,
        "Permutation p-values should never be zero", Statistical Applications in Genetics and Molecular Biology 9).
        """
        groups = np.flatnonzero(self._differing)
        exact = 2 ** len(groups) <= _EXACT
        observed = float(self.counts.differences[0, 0, 1]) - _ROUNDING
        reached = count = 0
        for signs in _all_signs(len(groups)) if exact else _random_signs(len(groups)):
            found = self._exchanged(groups, signs)
            extreme = np.abs(found) >= abs(observed) - _ROUNDING if alternative == "two-sided" else found >= observed
            reached, count = reached + int(extreme.sum()), count + len(found)
        return reached / count if exact else (reached + 1) / (count + 1)

    def _exchanged(self, groups: NDArray[np.int64], signs: Values) -> Values:
        """Return the difference for each row of `signs`, -1 for the `groups` in which two are exchanged."""
        return self._after(*(np.asarray((each[groups].T @ (signs - 1).T).T) for each in self._unlike))

    def _after(self, part: Values, whole: Values) -> Values:
        """Return the difference when half of `part` and `whole`, (draws, ratios), goes from second to first."""
        first, second = self._pair
        (own, own_whole), (other, other_whole) = (each.totals(self._once) for each in (first, second))
        return _score(own + part / 2, own_whole + whole / 2) - _score(other - part / 2, other_whole - whole / 2)

    @property
    def variance_by_images(self) -> tuple[float, float]:
        """The variance of the difference of two that is due to the images, and its degrees of freedom."""
        spread = self.counts.spread
        return float(spread.variance[0, 0, 1]), float(spread.freedom[0, 0, 1])

    def detectable_by_images(self, significance: float, further: float) -> float:  # noqa: ARG002 (of right answers)
        """Return the difference that a t test of this variance detects with probability `POWER`."""
        return self._detectable(self.images, significance)

    def images_to_show(self, difference: float, significance: float) -> int:
        """Return how many images like these detect a `difference` in the same way."""
        return fewest(lambda images: self._detectable(images, significance) <= difference)

    def _detectable(self, images: int, significance: float) -> float:
        """Return the difference that so many images like these detect."""
        first, second = self._pair
        spread = _spread(self._lead, self._once, self._unseen(first, second), images / self.images)
        power = NormalDist().inv_cdf(POWER) * np.sqrt(spread.variance)
        return float((spread.margins(1 - significance / 2) + power)[0])

    @cached_property
    def _lead(self) -> Values:
        """What each group adds to the lead of the first of two, (1, groups)."""
        first, second = self._pair
        return first.influence(self._once) - second.influence(self._once)


def _all_signs(groups: int) -> Iterator[Values]:
    """Yield every way to exchange two in some of so many groups."""
    numbers = np.arange(2**groups)[:, None]
    yield np.where((numbers >> np.arange(groups)) & 1, -1.0, 1.0)


def _random_signs(groups: int) -> Iterator[Values]:
    draw, rows = np.random.default_rng(_SEED), max(1, _HELD // groups)
    for start in range(0, _EXCHANGES, rows):
        count = min(rows, _EXCHANGES - start)
        # Eight signs of a byte.
        drawn = np.unpackbits(draw.integers(0, 256, (count, -(-groups // 8)), dtype=np.uint8), axis=1)[:, :groups]
        yield np.where(drawn, -1.0, 1.0)
