"""Several classifiers on the same test images, by any measure: what decisions and tests ask of them.

`outcomes.Outcomes` answers for measures that count right answers, `scores.Scores` for all others. Differences are of
scores, which are higher where they are better.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.intervals import Interval
from stages.core.measure import Measure, as_exported
from stages.core.predictions import PREFIX, Predictions, classes_of, of_rows
from stages.statistics.groups import Groups, Values
from stages.statistics.outcomes import Outcomes, Seeds, read_outcomes, trainings_of
from stages.statistics.paired import Alternative
from stages.statistics.scores import Scores, Summed


class Draws(Protocol):
    """What K classifiers score in several draws of the test images."""

    @property
    def scores(self) -> Values:
        """By what they are ordered, (draws, K): higher is better."""

    @property
    def differences(self) -> Values:
        """By how much the first of two is better than the second, (draws, K, K)."""

    def upper_limits(self, level: float) -> Values:
        """Return the one-sided upper confidence limits of the differences, (draws, K, K), for a `level`."""

    def within(self, margin: float, level: float) -> NDArray[np.bool_]:
        """Return whether these limits are at most `margin`, (draws, K, K)."""


class Contest(Protocol):
    """K classifiers, each trained once or several times, on the same test images."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def groups(self) -> Groups:
        """The groups of the images."""

    @property
    def images(self) -> int:
        """The number of images."""

    @property
    def repeats(self) -> list[int]:
        """How often each was trained; the first training is the one that is compared."""

    @property
    def seeds(self) -> Seeds:
        """How much trainings differ."""

    @property
    def measured(self) -> Values:
        """The value of the measure of each, (K,)."""

    @property
    def sign(self) -> int:
        """1 where a higher value is better, -1 where a lower one is."""

    @property
    def counts(self) -> Draws:
        """The scores on the images as they are, as one draw."""

    def of(self, *names: str) -> "Contest":
        """Return some of the classifiers."""

    def drawn(self, picked: Sequence[int], weights: Values) -> Draws:
        """Return the scores of the trainings `picked`, groups drawn as often as `weights`, (draws, groups), says."""

    def totals(self, picked: Sequence[int], weights: Values, chosen: NDArray[np.int64]) -> Values:
        """Return numerators and denominators of the ratios of the one `chosen` in each draw, summed, (2, ratios)."""

    def interval(self, position: int, value: float, confidence: float) -> Interval:
        """Return the interval of a `value` that is as certain as that of the classifier at `position`."""

    @property
    def only(self) -> tuple[int, int]:
        """Of two: on how many images only the first, and only the second, is right; or groups, is better."""

    def exchange_p(self, alternative: Alternative) -> float:
        """Return the p-value of two by their exchange in whole groups of images."""

    @property
    def variance_by_images(self) -> tuple[float, float]:
        """The variance of the difference of two that is due to the images, and its degrees of freedom."""

    def detectable_by_images(self, significance: float, further: float) -> float:
        """Return the difference of two that these images detect with the probability `paired.POWER`."""

    def images_to_show(self, difference: float, significance: float) -> int:
        """Return how many images like these detect a `difference` of two with the probability `paired.POWER`."""


def read_contest(
    measure: Measure,
    tables: Mapping[str, pd.DataFrame],
    groups: "pd.Series[str]",
    repeats: Mapping[str, pd.DataFrame],
    temperatures: Mapping[str, float | None],
) -> Contest:
    """Return the classifiers of `tables` of predictions, by name, compared by a measure.

    Each table has the columns file, label and predicted, and the probabilities where the measure is of them, which are
    scaled by the `temperatures`; with None for one by that which fits them best. For `groups` and `repeats` see
    `read_outcomes`. Raises DataError unless all are of the same images, and where a class has none of them.
    """
    if not measure.of_outcomes:
        return _scores(measure, tables, groups, repeats, temperatures)
    if measure.label is None:
        return read_outcomes(tables, groups, repeats)
    return _of_class(measure.label, read_outcomes(tables, groups, repeats), next(iter(tables.values())))


def _of_class(label: str, outcomes: Outcomes, table: pd.DataFrame) -> Outcomes:
    """Return the outcomes on the images of a class alone; `table` has the images in their order."""
    rows = (table["label"] == label).to_numpy()
    if not rows.any():
        raise DataError(
            f"report.measure = recall:{label} without an image of '{label}' to judge by",
            "one at least",
            "add images, or choose another measure",
        )
    groups = Groups.of(outcomes.groups.codes[rows].astype(object))
    return Outcomes(outcomes.names, tuple(found[:, rows] for found in outcomes.trainings), groups)


def _scores(
    measure: Measure,
    tables: Mapping[str, pd.DataFrame],
    groups: "pd.Series[str]",
    repeats: Mapping[str, pd.DataFrame],
    temperatures: Mapping[str, float | None],
) -> Scores:
    found = trainings_of(tables, repeats)
    images = next(iter(found.values()))[0]
    grouped = Groups.of(groups.loc[images["file"]].to_numpy())
    classes = _classes(found, measure)
    trainings = tuple(
        tuple(
            Summed.of(measure.parts(_predictions(table, classes, measure, temperatures[name])), grouped)
            for table in parts
        )
        for name, parts in found.items()
    )
    return Scores(measure, tuple(tables), trainings, grouped, measure.largest(classes))


def _classes(found: Mapping[str, Sequence[pd.DataFrame]], measure: Measure) -> tuple[str, ...]:
    """Return every class that one of the classifiers knows, or, where probabilities are not needed, has named."""
    if measure.of_probabilities:
        return tuple(dict.fromkeys(name for parts in found.values() for name in classes_of(parts[0])))
    named = (set(table["label"]) | set(table["predicted"]) for parts in found.values() for table in parts)
    return tuple(sorted(set[str]().union(*named)))


def _predictions(
    table: pd.DataFrame, classes: tuple[str, ...], measure: Measure, temperature: float | None
) -> Predictions:
    if not measure.of_probabilities:
        actual, predicted = (pd.Index(classes).get_indexer(pd.Index(table[side])) for side in ("label", "predicted"))
        nothing = np.empty((len(table), 0))
        return Predictions(classes, actual.astype(np.int64), predicted.astype(np.int64), nothing)
    columns = [PREFIX + name for name in classes]
    # A class that a classifier does not know has the probability 0 for it.
    lacking = {column: 0.0 for column in columns if column not in table}
    whole = table.assign(**lacking)[["label", "predicted", *columns]]
    return as_exported(of_rows(whole, classes, "test"), temperature)
