"""Every resample is measured as the metrics measure a test set, and the intervals say something at every edge."""

from typing import Any

import numpy as np
import pytest

from stages.core.intervals import wilson
from stages.core.predictions import Predictions, of_split
from stages.statistics import metrics, resampled
from stages.statistics.groups import Groups
from tests.support import artefacts
from tests.support.populations import held

NAMES = ["accuracy", "macro_f1", "balanced_accuracy", "log_loss"]


def made(right: float = 0.7, seed: int = 0, per_class: int = 22) -> Predictions:
    return of_split(artefacts.predictions(artefacts.POSES, right, seed, per_class), "test", artefacts.POSES)


def certain(actual: list[int], predicted: list[int], classes: int) -> Predictions:
    names = tuple(f"class {number}" for number in range(classes))
    return Predictions(names, np.array(actual), np.array(predicted), np.eye(classes)[predicted])


def intervals(test: Predictions, confidence: float, count: int, seed: int) -> dict[str, Any]:
    """Return the intervals of images that are groups of their own."""
    return resampled.intervals(test, Groups.single(len(test.actual)), confidence, count, seed)


def measured(test: Predictions, drawn: np.ndarray) -> list[float]:
    """Return the metrics of one resample by the functions for a single test set."""
    actual, predicted, probabilities = (part[drawn] for part in (test.actual, test.predicted, test.probabilities))
    return [
        metrics.accuracy(actual, predicted),
        metrics.macro_f1(actual, predicted),
        metrics.balanced_accuracy(actual, predicted),
        metrics.log_loss(actual, probabilities),
    ]


@pytest.mark.parametrize(
    "test",
    [
        made(),
        made(per_class=1),
        certain([0, 1, 1, 0], [0, 1, 0, 0], 2),
        certain([0, 0, 0], [0, 0, 0], 2),
        # The third class has no images and is predicted, the fourth is neither.
        certain([0, 1, 1, 0], [0, 2, 1, 0], 4),
        certain([1], [0], 2),
    ],
)
def test_each_resample_is_measured_as_a_test_set(test: Predictions) -> None:
    images = len(test.actual)
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), 20)
    found = resampled.metrics(test, Groups.single(images), drawn.astype(np.float64))
    for row, times in enumerate(drawn):
        _, macro_f1, _, log_loss = measured(test, np.repeat(np.arange(images), times))
        assert (found["macro_f1"][row], found["log_loss"][row]) == pytest.approx((macro_f1, log_loss), abs=1e-12)


def test_intervals_hold_the_metric_and_narrow_with_more_images() -> None:
    few, many = (intervals(made(per_class=count), 0.95, 400, 0) for count in (60, 600))
    for found, test in ((few, made(per_class=60)), (many, made(per_class=600))):
        values = dict(zip(NAMES, measured(test, np.arange(len(test.actual))), strict=True))
        assert all(found[name].low <= values[name] <= found[name].high for name in NAMES)
    for name in NAMES:
        assert many[name].high - many[name].low < 0.6 * (few[name].high - few[name].low)


def test_the_interval_of_the_accuracy_is_wilsons() -> None:
    test = made(per_class=100)
    found = intervals(test, 0.95, 100, 0)["accuracy"]
    assert found == wilson((test.actual == test.predicted).mean(), len(test.actual), 0.95)


def test_the_interval_of_the_balanced_accuracy_of_equal_classes_comes_near_wilsons() -> None:
    test = certain([0] * 50 + [1] * 50, [0] * 40 + [1] * 20 + [0] * 10 + [1] * 30, 2)
    found = resampled.balanced_accuracy_interval(test, Groups.single(100), 0.95)
    assert found == pytest.approx(tuple(wilson(0.8, 100, 0.95)), abs=0.01)


def test_macro_f1_of_few_images_a_class_has_no_interval() -> None:
    test = certain([*range(20)] * 9, [*range(10), *range(1, 11)] * 9, 20)
    assert intervals(test, 0.95, 100, 0)["macro_f1"] is None
    test = certain([*range(20)] * 10, [*range(10), *range(1, 11)] * 10, 20)
    assert intervals(test, 0.95, 100, 0)["macro_f1"] is not None


@pytest.mark.parametrize(("classes", "images"), [(2, 100), (5, 100), (10, 100), (37, 400), (100, 400), (200, 400)])
def test_intervals_hold_the_true_values_as_often_as_they_say_with_any_number_of_classes(
    classes: int, images: int
) -> None:
    found = held(classes, images, studies=120, count=100)
    # Three standard errors of 120 studies are 6 points. With classes drawn apart it was .32 to .85 for many of them.
    assert all(np.mean(values) >= 0.89 for values in found.values() if values)
    assert bool(found["macro_f1"]) == (images >= 10 * classes)


def test_intervals_of_images_in_groups_hold_the_true_values_as_often_as_they_say() -> None:
    found = held(5, 400, studies=120, count=100, group=10)
    # Three standard errors of 120 studies are 6 points. By images alone it was .59 to .69.
    assert all(np.mean(values) >= 0.89 for values in found.values())


def test_resamples_of_few_groups_give_no_interval() -> None:
    found = resampled.intervals(made(per_class=60), Groups(np.arange(300) // 30), 0.95, 100, 0)
    assert (found["log_loss"], found["macro_f1"]) == (None, None)
    assert found["accuracy"]


def test_a_group_is_drawn_as_a_whole() -> None:
    test = certain([0, 0, 1, 1], [0, 1, 1, 1], 2)
    whole = Groups.of(["b", "b", "a", "a"])
    (row,) = resampled.metrics(test, whole, np.array([[2.0, 0.0]]))["macro_f1"]
    assert row == measured(test, np.array([0, 0, 1, 1]))[1]


def test_the_calibration_error_that_chance_alone_makes_is_that_of_a_calibrated_network() -> None:
    draw, found, expected = np.random.default_rng(0), [], []
    for _ in range(20):
        confidence = draw.uniform(0.5, 1, 200)
        actual = (draw.random(200) > confidence).astype(np.int64)
        test = Predictions(("a", "b"), actual, np.zeros(200, np.int64), np.column_stack([confidence, 1 - confidence]))
        bins = metrics.calibration(test.actual, test.predicted, test.probabilities, 10)
        found.append(metrics.expected_calibration_error(bins))
        expected.append(resampled.expected_ece(test, 10, 100, 0))
    # What is claimed is what happens: the true error is 0, the measured one all chance.
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=0.01)
    assert np.mean(expected) > 0.03


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = (intervals(made(), confidence, 400, 0) for confidence in (0.8, 0.99))
    assert all(wide[name].low < narrow[name].low and narrow[name].high < wide[name].high for name in NAMES)


@pytest.mark.parametrize(
    "test",
    [
        certain([0, 0, 1, 1], [0, 0, 1, 1], 2),
        certain([0, 0, 1, 1], [1, 1, 0, 0], 2),
        certain([1], [1], 2),
    ],
    ids=["perfect", "all wrong", "one image"],
)
def test_where_all_resamples_agree_there_is_no_interval(test: Predictions) -> None:
    found = intervals(test, 0.95, 100, 0)
    assert {name for name in NAMES if found[name]} == {"accuracy"}


def test_recalls_of_none_and_all_leave_the_balanced_accuracy_without_an_interval() -> None:
    assert resampled.balanced_accuracy_interval(certain([0, 0, 1, 1], [0, 0, 0, 0], 2), Groups.single(4), 0.95) is None


def test_a_perfect_score_with_doubts_has_intervals_of_its_doubts_alone() -> None:
    test = certain([0, 0, 1, 1], [0, 0, 1, 1], 2)
    doubtful = Predictions(
        test.classes, test.actual, test.predicted, np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0, 1.0]])
    )
    found = intervals(doubtful, 0.95, 200, 0)
    assert {name for name in NAMES if found[name] is None} == {"macro_f1", "balanced_accuracy"}
    assert found["log_loss"].low < found["log_loss"].high


def test_the_seed_decides() -> None:
    one, same, other = (intervals(made(), 0.95, 100, seed) for seed in (1, 1, 2))
    assert one == same != other
