"""The measure that decides (`report.measure`): how it is computed, and whether higher is better.

Heads are kept, backbones ranked, recommended and tested, and results let through by it. Each measure is a mean of
ratios, with sums over the images in numerator and denominator: so it is known for any weights of the images, such as
those of a resample. Here numerators are such that higher is better, which makes log loss and cost negative; `value`
has the sign that people read.

Measures of probabilities take them as they are exported, scaled by a temperature.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ParameterError, some
from stages.core.params import nearest
from stages.core.predictions import Predictions, apply_temperature, fit_temperature
from stages.core.settings.report import ACCURACY, COST, RECALL, Costs, MeasureParams

Values = NDArray[np.float64]
# A probability of 0 has no logarithm: one such image counts 36 nats, as in scikit-learn's log_loss.
_MIN_PROBABILITY = float(np.finfo(np.float64).eps)
# Classes that a message names; of more it gives the number.
_NAMED = 5


@dataclass(frozen=True)
class Parts:
    """What a score, which is higher where it is better, is made of: entries of `images`, as many as there are rows.

    An entry adds its `part` to the numerator and its `whole` to the denominator of the ratio `ratio`, such as that of a
    class, of which there are `ratios`. The score is the mean of the ratios whose denominator is above 0.
    """

    image: NDArray[np.int64]
    ratio: NDArray[np.int64]
    part: Values
    whole: Values
    images: int
    ratios: int

    def score(self) -> float:
        """Return the score; NaN where no ratio has a denominator, as the recall of a class without images."""
        part, whole = (np.bincount(self.ratio, each, self.ratios) for each in (self.part, self.whole))
        return float((part[whole > 0] / whole[whole > 0]).mean()) if (whole > 0).any() else float("nan")


@dataclass(frozen=True)
class Measure:
    """A measure by its `name` in params.yaml, with the costs of `report.costs` by actual and by predicted class."""

    name: str
    costs: Costs = field(default_factory=dict)

    @classmethod
    def of(cls, params: MeasureParams) -> "Measure":
        """Return the measure of section `report`."""
        return cls(params.measure, params.costs)

    @property
    def label(self) -> str | None:
        """The class whose recall it is; None of any other measure."""
        return self.name.removeprefix(RECALL) if self.name.startswith(RECALL) else None

    @property
    def key(self) -> str:
        """Its key in data/metrics.json and in tables; the log loss there of that name is the one before scaling."""
        return "log_loss_scaled" if self.name == "log_loss" else self.name

    @property
    def of_outcomes(self) -> bool:
        """Whether it is the share of images that are right: of all of them, or of those of a class."""
        return self.name == ACCURACY or self.label is not None

    @property
    def of_probabilities(self) -> bool:
        """Whether it takes more than the most probable class of each image."""
        return self.name in ("log_loss", COST)

    @property
    def share(self) -> bool:
        """Whether it is a share, which is written in percent, and differences of it in points."""
        return self.of_outcomes or self.name == "balanced_accuracy"

    @property
    def words(self) -> str:
        """Its name in English."""
        named = {"macro_f1": "macro F1", "log_loss": "log loss after temperature scaling", COST: "mean cost"}
        return named.get(self.name, self.name.replace("_", " ") if self.label is None else f"recall of {self.label}")

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return -1 if self.of_probabilities else 1

    def order(self, value: float | None, log_loss: float) -> tuple[float, float]:
        """Return what is lowest of the head that is best on validation, by its `value` there and its log loss.

        Of equally good ones that with the lower log loss is best. For accuracy log loss decides alone, since it tells
        heads apart by few images, of which many are right by all of them.
        """
        return (0.0 if self.name == ACCURACY else -self.sign * (value or 0.0)), log_loss

    def matrix(self, classes: Sequence[str]) -> Values:
        """Return what it costs to decide for each class (column) where another is the actual one (row).

        What `report.costs` does not name costs 0 if it is right, else 1.
        """
        missing = 1 - np.eye(len(classes))
        return np.array(
            [
                [
                    self.costs.get(actual, {}).get(decided, missing[row, column])
                    for column, decided in enumerate(classes)
                ]
                for row, actual in enumerate(classes)
            ],
            dtype=np.float64,
        )

    def matrix_by_class(self, classes: Sequence[str]) -> Costs:
        """Return the same by actual and by predicted class, as data/evaluations has it."""
        rows = self.matrix(classes).tolist()
        return {actual: dict(zip(classes, row, strict=True)) for actual, row in zip(classes, rows, strict=True)}

    def largest(self, classes: Sequence[str]) -> float:
        """Return the most that one image can add, 0 where there is no limit."""
        return 0.0 if self.name == "log_loss" else float(self.matrix(classes).max()) if self.name == COST else 1.0

    def value(self, found: Predictions) -> float:
        """Return its value on predictions, scaled as they are exported; NaN without an image of its class."""
        # Added to 0, so that a cost of nothing is not -0.
        return 0 + self.sign * self.parts(found).score()

    def decided(self, found: Predictions) -> NDArray[np.int64]:
        """Return the class that is decided for of each image, (n,), from predictions scaled as they are exported.

        That of the lowest expected cost where costs decide, else what was predicted, the most probable one.
        """
        if self.name != COST:
            return found.predicted
        return cheapest(found.probabilities, self.matrix(found.classes))

    def parts(self, found: Predictions) -> Parts:
        """Return what its score on predictions, scaled as they are exported, is made of."""
        if self.of_probabilities:
            return _one_ratio(-self._losses(found))
        hit = (found.actual == found.predicted).astype(np.float64)
        if self.name == ACCURACY:
            return _one_ratio(hit)
        if self.label is not None:
            wanted = found.classes.index(self.label) if self.label in found.classes else -1
            return _by_class(found, hit, np.flatnonzero(found.actual == wanted))
        return _by_class(found, hit, np.arange(len(hit))) if self.name == "balanced_accuracy" else _f1(found, hit)

    def _losses(self, found: Predictions) -> Values:
        if self.name == COST:
            return np.asarray(self.matrix(found.classes)[found.actual, self.decided(found)])
        own = found.probabilities[np.arange(len(found.actual)), found.actual]
        return np.asarray(-np.log(np.maximum(own, _MIN_PROBABILITY)))


def cheapest(probabilities: NDArray[np.floating], costs: Values) -> NDArray[np.int64]:
    """Return the class of the lowest expected cost for each row of `probabilities`, (n, C); the first of equals.

    `costs` (C, C) has a row for each actual class. Elkan 2001, "The foundations of cost-sensitive learning", IJCAI.
    """
    # Rounded, so that the same probabilities read from a file decide the same.
    return np.asarray(np.round(probabilities @ costs, 9).argmin(axis=1))


def as_exported(found: Predictions, temperature: float | None = None) -> Predictions:
    """Return predictions scaled by the temperature; None fits it on these images, which no fit may have seen."""
    fitted = temperature or fit_temperature(found.actual, found.probabilities)
    return replace(found, probabilities=apply_temperature(found.probabilities, fitted))


def require_classes(measure: Measure, classes: Sequence[str]) -> None:
    """Raise ParameterError unless the images have every class that the measure names."""
    named = {f"{RECALL}{measure.label}": measure.label} if measure.label is not None else {}
    costly = [name for row, columns in measure.costs.items() for name in (row, *columns)]
    for text, name in (*named.items(), *((f"a class '{name}'", name) for name in costly)):
        if name not in classes:
            key = "report.measure" if name == measure.label else "report.costs"
            raise ParameterError(
                f"{key} with {text}",
                f"a class of the images ({some(classes, _NAMED)})",
                nearest(str(name), list(classes)) or "name one of these: data/raw has a folder for each",
                key,
            )


def _one_ratio(values: Values) -> Parts:
    """Return the parts of the mean of one value for each image."""
    count = len(values)
    return Parts(np.arange(count), np.zeros(count, dtype=np.int64), values, np.ones(count), count, 1)


def _by_class(found: Predictions, hit: Values, rows: NDArray[np.int64]) -> Parts:
    """Return the parts of the mean recall of the classes that the images `rows` have."""
    return Parts(rows, found.actual[rows], hit[rows], np.ones(len(rows)), len(hit), len(found.classes))


def _f1(found: Predictions, hit: Values) -> Parts:
    """Return the parts of the mean of F1 = 2 TP / (images of the class + predictions of it)."""
    rows, missed = np.arange(len(hit)), np.flatnonzero(hit == 0)
    return Parts(
        np.concatenate([rows, missed]),
        np.concatenate([found.actual, found.predicted[missed]]),
        np.concatenate([2 * hit, np.zeros(len(missed))]),
        np.concatenate([1 + hit, np.ones(len(missed))]),
        len(hit),
        len(found.classes),
    )
