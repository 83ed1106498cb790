"""The decision is drawn again as it was made, and the accuracy of what it chose is free of the luck of being chosen."""

from dataclasses import replace

import numpy as np
import pytest

from stages.statistics.decision import resampled
from stages.statistics.groups import Groups
from stages.statistics.outcomes import Outcomes
from tests.support.studies import grouped, independent, studies


@pytest.mark.parametrize(("accuracy", "images", "backbones"), [(0.75, 100, 9), (0.9, 100, 9), (0.9, 400, 2)])
def test_the_accuracy_of_what_was_chosen_is_right_on_average_and_its_interval_as_often_as_it_says(
    accuracy: float, images: int, backbones: int
) -> None:
    naive, corrected, held = [], [], []
    for right in np.concatenate(list(studies([accuracy] * backbones, images, 150, seed=3))):
        found = resampled(independent(right), range(backbones), None, 0.95, 60, 0)
        naive.append(right.mean(axis=0).max() - accuracy)
        corrected.append(found.value - accuracy)
        held.append(found.interval.low <= accuracy <= found.interval.high)
    # The best of nine by 100 images looks 3 to 5 points better than it is.
    assert abs(np.mean(corrected)) < 0.006
    assert np.mean(naive) > np.mean(corrected) + (0.02 if backbones > 2 else 0.002)
    assert np.mean(held) >= 0.91


def test_a_clear_winner_is_chosen_again_and_again_and_one_of_two_equal_ones_in_about_half() -> None:
    numbers = np.arange(200)
    clear = resampled(independent(np.stack([numbers > 10, numbers > 90], axis=1)), [1, 0], 0.02, 0.95, 100, 0)
    assert clear.shares == {"0": 1, "1": 0}
    assert clear.value == pytest.approx(0.945, abs=0.01)
    equal = resampled(independent(np.stack([numbers > 20, numbers < 179], axis=1)), [0, 1], 0.0, 0.95, 400, 0)
    assert equal.shares["0"] == pytest.approx(0.5, abs=0.12)


def test_the_cheaper_one_is_chosen_again_where_the_margin_allows_it() -> None:
    numbers = np.arange(400)
    found = independent(np.stack([numbers > 20, numbers > 22], axis=1))
    assert resampled(found, [1, 0], 0.1, 0.95, 60, 0).shares == {"0": 0, "1": 1}
    assert resampled(found, [1, 0], 0.0, 0.95, 60, 0).shares["0"] > 0.5


def test_groups_are_drawn_as_a_whole_so_that_fewer_of_them_make_the_choice_less_certain() -> None:
    numbers = np.arange(400)
    right = np.stack([numbers // 20 != 3, numbers // 20 > 1], axis=1)
    single, grouped_by_20 = Groups.single(400), Groups(numbers // 20)
    alone, alike = (
        resampled(replace(independent(right), groups=groups), [0, 1], None, 0.95, 300, 0)
        for groups in (single, grouped_by_20)
    )
    assert alone.shares["0"] > 0.97
    assert alike.shares["0"] < 0.9
    assert alike.interval.high - alike.interval.low > 1.5 * (alone.interval.high - alone.interval.low)


def test_trainings_are_drawn_as_well() -> None:
    numbers = np.arange(300)
    better, worse, other = (numbers >= wrong for wrong in (15, 60, 30))
    found = Outcomes(("a", "b"), (np.stack([better, worse]), other[None]), Groups.single(300))
    # Either training of the first in half of the draws, of which one is better than the second and one worse.
    assert resampled(found, [0, 1], None, 0.95, 500, 0).shares["a"] == pytest.approx(0.5, abs=0.2)


def test_a_single_classifier_is_always_chosen() -> None:
    found = resampled(independent(np.arange(50)[:, None] > 4), [0], 0.02, 0.95, 50, 0)
    assert found.shares == {"0": 1}
    assert found.value == pytest.approx(0.9, abs=0.02)


def test_the_same_seed_draws_the_same() -> None:
    (study,) = grouped(20, 5, 3, 1, seed=0)
    one, same, other = (resampled(study, range(3), 0.02, 0.95, 50, seed) for seed in (1, 1, 2))
    assert one.value == same.value != other.value


def test_groups_of_different_sizes_count_by_their_images() -> None:
    codes = np.concatenate([np.zeros(300, int), np.arange(1, 101)])
    right = np.concatenate([np.arange(300) % 2 == 0, np.arange(100) % 20 > 0])[:, None]
    found = resampled(replace(independent(right), groups=Groups(codes)), [0], None, 0.95, 400, 0)
    assert found.value == pytest.approx(right.mean(), abs=0.03)


@pytest.mark.parametrize("groups", [Groups.of(["a"] * 40), Groups.single(1)])
def test_where_no_image_is_ever_left_out_the_accuracy_of_selection_is_unknown(groups: Groups) -> None:
    study = replace(independent(np.ones((len(groups.codes), 2), bool)), groups=groups)
    found = resampled(study, [0, 1], 0.02, 0.95, 20, 0)
    assert (found.shares["0"], found.value, found.interval) == (1, None, None)


def test_trainings_are_drawn_even_if_they_are_equally_good() -> None:
    numbers = np.arange(300)
    one, other = numbers >= 30, numbers < 270
    shares = [
        resampled(
            Outcomes(("a", "b"), (np.stack([one, other]), one[None]), Groups.single(300)), [0, 1], None, 0.95, 250, seed
        ).shares["a"]
        for seed in range(4)
    ]
    assert np.ptp(shares) < 0.25
