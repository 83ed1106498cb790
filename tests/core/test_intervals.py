"""Intervals agree with published ones and say what a test set can tell apart."""

import pytest

from stages.core.intervals import (
    Interval,
    difference_over_folds,
    mean_over_folds,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_the_table_of_newcombe_1998(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    found = wilson(successes / trials, trials, 0.95)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_a_perfect_score_keeps_a_width_and_ends_at_one() -> None:
    found = wilson(1, 20, 0.95)
    assert found.high == 1.0
    assert round(found.low, 4) == 0.8389


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = wilson(0.8, 100, 0.8), wilson(0.8, 100, 0.99)
    assert wide.low < narrow.low < 0.8 < narrow.high < wide.high


def test_the_interval_over_folds_agrees_with_an_example_worked_by_hand() -> None:
    # Mean 0.80, deviations -2, 0, 0, +1, +1 points: s² = 6e-4 / 4 = 1.5e-4. Five folds that test a third of what
    # they train on: (1/5 + 1/3) 1.5e-4 = 8e-5, root 0.0089443. t(0.975; 4) = 2.776445 (any table of Student's t).
    found = mean_over_folds([0.78, 0.80, 0.80, 0.81, 0.81], 1 / 3, 0.95)
    assert found.low == pytest.approx(0.80 - 2.776445 * 0.0089443, abs=1e-6)
    assert found.high == pytest.approx(0.80 + 2.776445 * 0.0089443, abs=1e-6)


def test_the_interval_over_folds_is_wider_than_that_of_independent_numbers() -> None:
    shares = [0.78, 0.80, 0.80, 0.81, 0.81]
    plain = mean_over_folds(shares, 0.0, 0.95)
    corrected = mean_over_folds(shares, 1 / 3, 0.95)
    ratio = (corrected.high - corrected.low) / (plain.high - plain.low)
    assert ratio == pytest.approx((1 + 5 / 3) ** 0.5)


def test_equal_folds_have_no_width_and_no_end_lies_beyond_a_share() -> None:
    assert mean_over_folds([0.75, 0.75, 0.75], 1.0, 0.95) == Interval(0.75, 0.75)
    assert mean_over_folds([0.0, 0.5, 1.0], 1.0, 0.95) == Interval(0.0, 1.0)


def test_a_difference_over_folds_has_the_same_interval_and_may_be_negative() -> None:
    shares = [0.78, 0.80, 0.80, 0.81, 0.81]
    found = difference_over_folds([share - 0.8 for share in shares], 1 / 3, 0.95)
    assert found == pytest.approx([end - 0.8 for end in mean_over_folds(shares, 1 / 3, 0.95)])
    assert found.low < 0 < found.high
