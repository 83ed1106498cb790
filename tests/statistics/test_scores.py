"""Measures other than the accuracy: limits hold, tests tell equal ones apart no more often than promised."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.core.measure import Measure
from stages.core.predictions import Predictions
from stages.statistics.contest import read_contest
from stages.statistics.decision import choose, resampled, shortfalls
from stages.statistics.groups import Groups
from stages.statistics.pairwise import all_pairs, detectable, difference, needed_images, p_value
from stages.statistics.scores import Scores, Summed
from tests.support.studies import measured

COSTS = {"c": {"a": 10.0, "b": 5.0}}
MEASURES = [Measure("balanced_accuracy"), Measure("macro_f1"), Measure("log_loss"), Measure("cost", COSTS)]
CLASSES = ("a", "b", "c")


def drawn(images: int, seed: int) -> Predictions:
    draw = np.random.default_rng(seed)
    actual = np.arange(images) % 3
    probabilities = draw.dirichlet(np.ones(3), images)
    return Predictions(CLASSES, actual, probabilities.argmax(axis=1), probabilities)


def scores(measure: Measure, groups: Groups, *found: Predictions) -> Scores:
    trainings = tuple((Summed.of(measure.parts(each), groups),) for each in found)
    return Scores(measure, CLASSES[: len(found)], trainings, groups, measure.largest(CLASSES))


def without(found: Predictions, rows: np.ndarray) -> Predictions:
    return Predictions(CLASSES, found.actual[~rows], found.predicted[~rows], found.probabilities[~rows])


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_values_are_those_of_the_measure_and_leaving_out_a_group_changes_them_as_it_says(measure: Measure) -> None:
    # In the last group is the only image of the third class.
    found, groups = drawn(12, 0), Groups(np.repeat(np.arange(4), 3))
    found = replace(found, actual=np.array([0, 1, 1, 0, 0, 1, 0, 1, 0, 2, 1, 0]))
    contest = scores(measure, groups, found)
    assert contest.measured.tolist() == pytest.approx([measure.value(found)])
    left = [measure.sign * measure.value(without(found, groups.codes == group)) for group in range(4)]
    influence = contest.trainings[0][0].influence(np.ones((1, 4)))[0]
    assert contest.counts.scores[0, 0] - influence == pytest.approx(left)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_draw_has_the_value_of_its_images(measure: Measure) -> None:
    found, weights = drawn(12, 1), np.array([[3.0, 0, 1, 2]])
    rows = np.repeat(np.arange(12), np.repeat(weights[0].astype(int), 3))
    copied = Predictions(CLASSES, found.actual[rows], found.predicted[rows], found.probabilities[rows])
    sums = scores(measure, Groups(np.repeat(np.arange(4), 3)), found).drawn([0], weights)
    assert measure.sign * sums.scores[0, 0] == pytest.approx(measure.value(copied))


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_the_test_of_few_groups_agrees_with_trying_all_exchanges(measure: Measure, alternative: str) -> None:
    one, other, codes = drawn(12, 2), drawn(12, 3), np.repeat(np.arange(6), 2)
    differences = []
    for swapped in product((False, True), repeat=6):
        rows = np.array(swapped)[codes]
        sides = []
        for first, second in ((one, other), (other, one)):
            predicted = np.where(rows, second.predicted, first.predicted)
            probabilities = np.where(rows[:, None], second.probabilities, first.probabilities)
            sides.append(measure.sign * measure.value(Predictions(CLASSES, first.actual, predicted, probabilities)))
        differences.append(sides[0] - sides[1])
    found, tried = p_value(scores(measure, Groups(codes), one, other), alternative), np.array(differences)
    seen = tried[0] - 1e-9
    assert found == pytest.approx(
        (np.abs(tried) >= abs(tried[0]) - 1e-9).mean() if alternative == "two-sided" else (tried >= seen).mean()
    )


@pytest.mark.parametrize(("groups", "size"), [(80, 1), (20, 5)])
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_equal_ones_are_told_apart_no_more_often_than_promised(measure: Measure, groups: int, size: int) -> None:
    found = [p_value(study) for study in measured(measure, groups, size, (0.0, 0.0), studies=150, seed=1)]
    # Two standard errors above 5 %.
    assert np.mean(np.array(found) <= 0.05) <= 0.086


@pytest.mark.parametrize(("groups", "size"), [(80, 1), (20, 5)])
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_limits_and_intervals_hold_the_truth_as_often_as_they_say(measure: Measure, groups: int, size: int) -> None:
    (large,) = measured(measure, 100_000, 1, (0.0, 1.0), studies=1, seed=0)
    true, limits, values = difference(large), [], []
    for study in measured(measure, groups, size, (0.0, 1.0), studies=200, seed=2):
        upper = study.counts.upper_limits(0.95)[0]
        limits += [true <= upper[0, 1], -true <= upper[1, 0]]
        low, high = study.interval(0, float(study.measured[0]), 0.95)
        values.append(low <= large.measured[0] <= high)
    # Two standard errors below 95 %; macro F1 of few images is biased, which differences are not.
    assert np.mean(limits) >= 0.928
    assert np.mean(values) >= (0.88 if measure.name == "macro_f1" else 0.919)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_better_one_is_found_with_enough_images(measure: Measure) -> None:
    (study,) = measured(measure, 4000, 1, (0.0, -2.0), studies=1, seed=3)
    row = all_pairs(study, 0.95).iloc[0]
    assert row["low"] * row["high"] > 0
    assert row["p"] < 0.001
    assert abs(difference(study)) > detectable(study, 0.05)
    assert needed_images(study, abs(difference(study)), 0.05) < 4000


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_the_images_that_a_difference_takes_detect_it_if_they_are_like_these(measure: Measure, size: int) -> None:
    def repeated(times: int) -> Scores:
        found = [drawn(60, seed) for seed in (0, 1)]
        parts = [(np.tile(each.actual, times), np.tile(each.probabilities, (times, 1))) for each in found]
        groups = Groups(np.arange(60 * times) // size)
        return scores(measure, groups, *(Predictions(CLASSES, one, of.argmax(axis=1), of) for one, of in parts))

    for times in (2, 5, 10):
        least = detectable(repeated(times), 0.05)
        # One left out weighs a little more where there are few.
        assert needed_images(repeated(1), least, 0.05) == pytest.approx(60 * times, rel=0.08)


@pytest.mark.parametrize("highest", [1.0, 10.0, 100.0])
def test_what_these_images_do_not_detect_takes_more_of_them(highest: float) -> None:
    # With a high cost that no image has shown there are few degrees of freedom.
    contest = scores(Measure("cost", {"c": {"a": highest}}), Groups.single(60), drawn(60, 0), drawn(60, 1))
    least = detectable(contest, 0.05)
    assert needed_images(contest, 0.999 * least, 0.05) > 60 >= needed_images(contest, least, 0.05)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_two_that_answer_alike_may_still_differ_on_other_images(measure: Measure) -> None:
    same = drawn(60, 4)
    contest = scores(measure, Groups.single(60), same, same)
    assert p_value(contest) == 1
    # The same probabilities on each image are those of the same network.
    assert (contest.counts.upper_limits(0.95)[0, 0, 1] > 0.02) == (measure.name != "log_loss")


def sure(right: np.ndarray, confidence: np.ndarray) -> Predictions:
    """Return predictions of `a` with this confidence, which are right where the image is of `a`."""
    actual = np.where(right, 0, 1)
    return Predictions(
        CLASSES, actual, np.zeros_like(actual), np.stack([confidence, 1 - confidence, 0 * confidence], 1)
    )


def test_one_that_does_better_on_all_images_does_so_whatever_its_average_gain_is() -> None:
    sharp = sure(np.ones(200, dtype=bool), np.linspace(0.6, 0.9, 200))
    blunt = sure(np.ones(200, dtype=bool), np.linspace(0.55, 0.6, 200))
    assert scores(Measure("log_loss"), Groups.single(200), sharp, blunt).only == (200, 0)
    assert scores(Measure("log_loss"), Groups(np.repeat(np.arange(50), 4)), blunt, sharp).only == (0, 50)


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "cost"])
def test_what_only_one_is_right_on_is_what_it_does_better_on(name: str) -> None:
    actual = np.arange(90) % 3
    answers = [actual.copy(), actual.copy()]
    # The first misses 5 images, the second 20 others, and both miss 6.
    for predicted, rows in zip(answers, (np.r_[0:5, 40:46], np.r_[10:30, 40:46]), strict=True):
        predicted[rows] = (predicted[rows] + 1) % 3
    found = [Predictions(CLASSES, actual, predicted, np.eye(3)[predicted]) for predicted in answers]
    assert scores(Measure(name), Groups.single(90), *found).only == (20, 5)


def test_the_decision_takes_the_cheapest_that_is_shown_to_be_within_the_margin_by_any_measure() -> None:
    (study,) = measured(Measure("log_loss"), 4000, 1, (0.02, 0.0, -2.0), studies=1, seed=5)
    order = np.array([2, 0, 1])
    assert choose(study.counts, order, 0.05, 0.95)[0] == 0
    assert choose(study.counts, order, 5.0, 0.95)[0] == 2
    worst = shortfalls(study.counts, 0.95)[0]
    assert worst[2] > 0.1 > worst[1] > worst[0] - 0.05
    found = resampled(study, [2, 0, 1], 0.05, 0.95, 40, 0)
    assert found.shares["0"] + found.shares["1"] == 1
    assert found.value == pytest.approx(study.measured[:2].mean(), abs=0.03)
    assert found.interval.low < found.value < found.interval.high


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_resamples_without_an_image_of_a_rare_class_are_decided_too(measure: Measure) -> None:
    found = [drawn(30, seed) for seed in (0, 1)]
    rare = [replace(each, actual=np.array([2] + [0, 1] * 14 + [0])) for each in found]
    contest = scores(measure, Groups.single(30), *rare)
    shares = resampled(contest, [0, 1], None, 0.95, 200, 0)
    assert sum(shares.shares.values()) == pytest.approx(1)
    assert np.isfinite(shares.value)


def test_trainings_that_differ_widen_the_limits() -> None:
    measure, groups = Measure("log_loss"), Groups.single(90)
    one, other = drawn(90, 0), drawn(90, 1)
    sharper = replace(one, probabilities=one.probabilities**3 / (one.probabilities**3).sum(axis=1, keepdims=True))
    once = scores(measure, groups, one, other)
    first = tuple(Summed.of(measure.parts(each), groups) for each in (one, sharper))
    again = replace(once, trainings=(first, once.trainings[1]))
    assert not once.seeds.any
    assert again.seeds.any
    assert again.counts.upper_limits(0.95)[0, 0, 1] > once.counts.upper_limits(0.95)[0, 0, 1]
    assert p_value(again) > p_value(once)


# From tables --------------------------------------------------------------------------------------------


def table(found: Predictions) -> pd.DataFrame:
    names = np.array(CLASSES, dtype=object)
    rows = pd.DataFrame(
        {
            "file": [f"{number}.jpg" for number in range(len(found.actual))],
            "label": names[found.actual],
            "predicted": names[found.predicted],
        }
    )
    return rows.join(pd.DataFrame(found.probabilities, columns=[f"p:{name}" for name in CLASSES]))


def read(measure: Measure, *found: pd.DataFrame):
    files = found[0]["file"]
    tables = dict(zip(CLASSES, found, strict=False))
    return read_contest(measure, tables, pd.Series(files.to_numpy(), index=files), {}, dict.fromkeys(tables, 1.0))


@pytest.mark.parametrize("measure", [*MEASURES, Measure("accuracy"), Measure("recall:b")], ids=lambda one: one.name)
def test_tables_of_predictions_are_compared_by_each_measure(measure: Measure) -> None:
    found = [drawn(60, seed) for seed in (0, 1)]
    contest = read(measure, *(table(each) for each in found))
    assert contest.measured.tolist() == pytest.approx([measure.value(each) for each in found], abs=1e-6)
    assert contest.images == (20 if measure.label else 60)


def test_a_class_that_one_of_them_does_not_know_has_no_probability_for_it() -> None:
    known, unknown = drawn(30, 0), table(drawn(30, 1)).drop(columns="p:c")
    unknown[["p:a", "p:b"]] = 0.5
    contest = read(Measure("log_loss"), table(known), unknown)
    assert contest.measured[1] == pytest.approx((2 * np.log(2) + 36.04) / 3, abs=0.01)


def test_the_recall_of_a_class_without_test_images_is_one_line() -> None:
    with pytest.raises(DataError, match="recall:fox without an image of 'fox' to judge by"):
        read(Measure("recall:fox"), table(drawn(30, 0)))
