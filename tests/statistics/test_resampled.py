"""Every resample is measured as the metrics measure a test set, and the intervals say something at every edge."""

import numpy as np
import pytest
from scipy import stats

from stages.core.intervals import wilson_interval
from stages.core.predictions import Predictions, of_split
from stages.statistics import metrics, resampled
from tests.support import artefacts

NAMES = ["accuracy", "macro_f1", "balanced_accuracy", "log_loss", "ece"]


def made(right: float = 0.7, seed: int = 0, per_class: int = 22) -> Predictions:
    return of_split(artefacts.predictions(artefacts.POSES, right, seed, per_class), "test", artefacts.POSES)


def certain(actual: list[int], predicted: list[int], classes: int) -> Predictions:
    names = tuple(f"class {number}" for number in range(classes))
    return Predictions(names, np.array(actual), np.array(predicted), np.eye(classes)[predicted])


def measured(test: Predictions, drawn: np.ndarray) -> list[float]:
    """Return the metrics of one resample by the functions for a single test set."""
    actual, predicted, probabilities = (part[drawn] for part in (test.actual, test.predicted, test.probabilities))
    bins = metrics.calibration(actual, predicted, probabilities, 10)
    return [
        metrics.accuracy(actual, predicted),
        metrics.macro_f1(actual, predicted),
        metrics.balanced_accuracy(actual, predicted),
        metrics.log_loss(actual, probabilities),
        metrics.expected_calibration_error(bins),
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
    drawn = np.random.default_rng(0).integers(0, len(test.actual), (20, len(test.actual)))
    found = resampled.metrics(test, 10, drawn)
    assert list(found) == NAMES
    for row, positions in enumerate(drawn):
        assert [found[name][row] for name in NAMES] == pytest.approx(measured(test, positions), abs=1e-12)


def test_intervals_hold_the_metric_and_narrow_with_more_images() -> None:
    few, many = (resampled.intervals(made(per_class=count), 10, 0.95, 400, 0) for count in (20, 200))
    for found, test in ((few, made(per_class=20)), (many, made(per_class=200))):
        values = measured(test, np.arange(len(test.actual)))
        for name, value in zip(NAMES, values, strict=True):
            assert found[name].low <= value <= found[name].high
    for name in NAMES:
        assert many[name].high - many[name].low < 0.6 * (few[name].high - few[name].low)


def test_the_interval_of_the_accuracy_comes_near_wilsons() -> None:
    test = made(per_class=100)
    found = resampled.intervals(test, 10, 0.95, 4000, 0)["accuracy"]
    right = int((test.actual == test.predicted).sum())
    assert found == pytest.approx(tuple(wilson_interval(right, len(test.actual), 0.95)), abs=0.01)


def test_classes_that_differ_in_difficulty_make_a_narrower_interval_than_images_without_classes() -> None:
    # One class of 50 all right, one all wrong but one: nothing but the second can vary.
    test = certain([0] * 50 + [1] * 50, [0] * 50 + [1] + [0] * 49, 2)
    found = resampled.intervals(test, 10, 0.95, 20_000, 0)["accuracy"]
    ends = (50 + stats.binom.ppf([0.025, 0.975], 50, 1 / 50)) / 100
    assert found == pytest.approx(tuple(ends), abs=1e-9)


def test_percentiles_miss_the_small_calibration_error_of_a_good_network_and_reflected_ends_do_not() -> None:
    draw, low = np.random.default_rng(0), []
    for _ in range(20):
        confidence = draw.uniform(0.5, 1, 200)
        predicted = np.zeros(200, np.int64)
        actual = (draw.random(200) > confidence).astype(np.int64)
        test = Predictions(("cat", "dog"), actual, predicted, np.column_stack([confidence, 1 - confidence]))
        low.append(resampled.intervals(test, 10, 0.95, 200, 0)["ece"].low)
    # What is claimed is what happens: the true error is 0.
    assert np.mean(np.array(low) <= 0.01) > 0.5


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = (resampled.intervals(made(), 10, confidence, 400, 0) for confidence in (0.8, 0.99))
    assert all(wide[name].low < narrow[name].low and narrow[name].high < wide[name].high for name in NAMES[:-1])


@pytest.mark.parametrize(
    "test",
    [
        certain([0, 0, 1, 1], [0, 0, 1, 1], 2),
        certain([0, 0, 1, 1], [0, 0, 0, 0], 2),
        certain([0, 0, 1, 1], [1, 1, 0, 0], 2),
        certain([1], [1], 2),
    ],
    ids=["perfect", "constant", "all wrong", "one image"],
)
def test_where_all_resamples_agree_there_is_no_interval(test: Predictions) -> None:
    assert resampled.intervals(test, 10, 0.95, 100, 0) == dict.fromkeys(NAMES)


def test_a_perfect_score_with_doubts_has_intervals_of_its_doubts_alone() -> None:
    test = certain([0, 0, 1, 1], [0, 0, 1, 1], 2)
    doubtful = Predictions(
        test.classes, test.actual, test.predicted, np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0, 1.0]])
    )
    found = resampled.intervals(doubtful, 10, 0.95, 200, 0)
    assert {name for name in NAMES if found[name] is None} == {"accuracy", "macro_f1", "balanced_accuracy"}
    assert found["log_loss"].low < found["log_loss"].high


def test_the_seed_decides() -> None:
    one, same, other = (resampled.intervals(made(), 10, 0.95, 100, seed) for seed in (1, 1, 2))
    assert one == same != other
