"""What twice the training images would bring is foreseen where that can be, and else said to be unknown."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from stages.statistics.groups import Groups
from stages.statistics.learning_curve import CONFIDENCE, Curve, Luck, Outlook, fitted, mean_interval, outlook
from tests.support.learning import ERRATIC, FLAT, LAWS, Study, study


def judged(found: Study, seed: int = 0, size: int = 1) -> Outlook:
    """Return what is said of a study whose test images come in groups of `size`."""
    groups = Groups(np.arange(found.right.shape[2]) // size)
    return outlook(Curve.of(found.right, found.images, groups), found.total, found.accuracy, seed)


def studies(law: Callable[[float], float], total: int, tested: int, count: int) -> Iterator[tuple[Study, Outlook]]:
    for seed in range(count):
        found = study(law, total, tested, seed)
        yield found, judged(found, seed)


def holds(found: Study, forecast: Outlook) -> bool:
    """Return whether the interval holds what twice the images brought."""
    assert forecast.twice
    return forecast.twice.low <= found.twice <= forecast.twice.high


def test_the_interval_at_twice_the_images_holds_what_they_bring_about_as_often_as_it_says() -> None:
    held = [[holds(found, forecast) for found, forecast in studies(law, 300, 300, 40)] for law in LAWS.values()]
    # The standard error is 3 points over all laws, 6 for one of them.
    assert CONFIDENCE - 0.05 < np.mean(held) < CONFIDENCE + 0.12
    assert min(np.mean(each) for each in held) > CONFIDENCE - 0.15


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_what_follows_a_law_is_mostly_foreseen(law: Callable[[float], float]) -> None:
    said = [forecast.unknown is None for _, forecast in studies(law, 1000, 1000, 20)]
    assert np.mean(said) > 0.6


@pytest.mark.parametrize("law", FLAT.values(), ids=FLAT)
def test_nothing_is_said_of_a_flat_curve(law: Callable[[float], float]) -> None:
    assert np.mean([forecast.unknown == "flat" for _, forecast in studies(law, 300, 300, 20)]) > 0.8


@pytest.mark.parametrize("law", ERRATIC.values(), ids=ERRATIC)
def test_nothing_is_said_of_an_erratic_curve_whose_end_its_first_half_had_not_foreseen(
    law: Callable[[float], float],
) -> None:
    assert np.mean([forecast.unknown == "missed" for _, forecast in studies(law, 300, 300, 20)]) > 0.9


def test_nothing_is_said_where_the_interval_is_too_wide_to_be_of_use() -> None:
    unknown = [forecast.unknown for _, forecast in studies(LAWS["logarithm"], 100, 30, 20)]
    assert unknown.count("wide") > 10


@pytest.mark.parametrize(("draws", "points"), [(2, 10), (10, 6)])
def test_too_few_draws_or_points_foresee_nothing(draws: int, points: int) -> None:
    found = study(LAWS["power law"], 300, 300, 0, draws)
    right, images = found.right[:, -points:], found.images[-points:]
    curve = Curve.of(right, images, Groups.single(300))
    assert outlook(curve, 300, found.accuracy, 0) == Outlook("few")


def test_forecasts_are_of_twice_the_images_from_all_and_of_all_from_half() -> None:
    forecast = judged(study(LAWS["power law"], 1000, 2000, 0))
    assert forecast.twice
    assert forecast.backtest
    assert (forecast.twice.known, forecast.twice.images) == (1000, 2000)
    assert (forecast.backtest.known, forecast.backtest.images) == (500, 1000)
    assert forecast.twice.accuracy == pytest.approx(0.9 - 0.15 * 2**-0.5, abs=0.03)


def test_the_line_goes_from_the_accuracy_with_all_images_to_the_forecast() -> None:
    found = study(LAWS["nearly perfect"], 1000, 1000, 1)
    forecast = judged(found)
    assert forecast.unknown is None
    assert forecast.twice
    assert forecast.line[0] == pytest.approx((1000, found.accuracy))
    assert forecast.line[-1] == pytest.approx((2000, forecast.twice.accuracy))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("shift", [-0.04, 0, 0.04])
def test_twice_the_images_never_promise_a_fall_however_lucky_the_head_on_all_was(
    law: Callable[[float], float], shift: float
) -> None:
    for seed in range(5):
        found = study(law, 300, 100, seed)
        accuracy = min(1.0, found.accuracy + shift)
        forecast = judged(replace(found, accuracy=accuracy), seed)
        assert forecast.twice
        assert accuracy <= forecast.twice.accuracy <= 1
        assert forecast.twice.low <= forecast.twice.accuracy <= forecast.twice.high


def test_nothing_is_said_of_a_curve_that_rises_only_at_first() -> None:
    images = np.array([50.0, 100, 200, 300, 500, 700, 900])
    means = np.array([0.78, 0.84, 0.83, 0.82, 0.81, 0.8, 0.79])
    draws = np.array([-0.003, 0, 0.003])[:, None] + means
    assert outlook(Curve(images, draws, np.zeros((7, 7))), 1000, 0.79, 0).unknown == "level"


def test_test_images_in_groups_are_worth_no_more_than_their_groups() -> None:
    found = study(LAWS["power law"], 300, 300, 0)
    # Each test image three times over is no more than once.
    copied = replace(found, right=found.right.repeat(3, axis=2))
    once, grouped = judged(found).twice, judged(copied, size=3).twice
    assert once
    assert grouped
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    alike, alone = (
        Curve.of(copied.right, found.images, groups).over_tests
        for groups in (Groups(np.arange(900) // 3), Groups.single(900))
    )
    np.testing.assert_allclose(alike, 3 * alone, rtol=0.01)


# The level that the slow power law nears is above 1.
KNOWN = {name: law for name, law in LAWS.items() if name != "slow power law"}


@pytest.mark.parametrize("law", KNOWN.values(), ids=KNOWN)
def test_a_law_without_noise_is_found_again(law: Callable[[float], float]) -> None:
    images = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    accuracies = np.array([[law(each) for each in images]])
    curve = Curve(100 * images, accuracies, np.zeros((7, 7)))
    assert fitted(curve, np.array([100.0, 200.0])) == pytest.approx([law(1), law(2)], abs=0.003)


def test_no_accuracy_is_foreseen_above_1() -> None:
    curve = Curve(np.arange(1.0, 9), np.linspace(0.6, 0.98, 8)[None], np.zeros((8, 8)))
    assert fitted(curve, np.array([100.0]))[0] <= 1


def test_luck_is_told_from_draws_that_are_more_alike_the_larger_they_are() -> None:
    images = np.array([50.0, 100, 200, 400])
    luck = Luck.of(0.3 * (1 / images - 1 / 500) + 1e-4, images, 500)
    assert (luck.shared, luck.own) == pytest.approx((0.3, 1e-4))
    # What the known half of the images is worth counts in both: half of the variance remains. That of its own each has.
    assert luck.of_more(500, 1000) == pytest.approx(0.3 / 1000 + 2e-4)


def test_the_interval_of_one_head_is_wilsons() -> None:
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662, 15 of 148 is 0.0624 to 0.1605."""
    for right, images, ends in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605))):
        found = mean_interval(np.arange(images)[None] < right, Groups.single(images), 0.95)
        assert found == pytest.approx(ends, abs=5e-5)


def test_the_interval_of_a_mean_is_wider_the_more_its_draws_differ() -> None:
    alike, apart = np.zeros((4, 100), bool), np.zeros((4, 100), bool)
    alike[:, :50] = True
    for draw, right in enumerate((30, 45, 55, 70)):
        apart[draw, :right] = True
    one, several = (mean_interval(each, Groups.single(100), 0.95) for each in (alike, apart))
    assert one == mean_interval(alike[:1], Groups.single(100), 0.95)
    assert several.high - several.low > 1.2 * (one.high - one.low)
