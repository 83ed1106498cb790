"""Images in groups are worth fewer images, by how alike those of a group are; images alone are worth themselves."""

import numpy as np
import pytest

from stages.core.intervals import wilson
from stages.statistics.groups import MIN_GROUPS, Groups, accuracy_interval, effective_images


def outcomes(groups: int, size: int, *, alike: bool, seed: int = 0) -> np.ndarray:
    """Return whether a classifier is right on the images of groups: all of a group alike, or each by chance."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.random(groups) < 0.8, size) if alike else draw.random(groups * size) < 0.8


def by_size(groups: int, size: int) -> Groups:
    return Groups(np.repeat(np.arange(groups), size))


def test_images_that_are_groups_of_their_own_have_wilsons_interval() -> None:
    right = outcomes(100, 1, alike=False)
    found = accuracy_interval(right, Groups.of([f"image {number}" for number in range(100)]), 0.95)
    assert found == wilson(right.mean(), 100, 0.95)


def test_images_that_are_all_alike_are_worth_one_a_group() -> None:
    right, groups = outcomes(200, 5, alike=True), by_size(200, 5)
    assert effective_images(groups, right - right.mean(), right, 0.95) == pytest.approx(200, rel=0.05)


def test_images_that_are_not_alike_are_worth_nearly_themselves() -> None:
    right, groups = outcomes(200, 5, alike=False), by_size(200, 5)
    assert 800 < effective_images(groups, right - right.mean(), right, 0.95) <= 1000


@pytest.mark.parametrize("right", [np.ones(60, bool), np.zeros(60, bool)])
def test_where_all_agree_images_may_well_be_alike(right: np.ndarray) -> None:
    assert effective_images(by_size(20, 3), right - right.mean(), right, 0.95) < 20


@pytest.mark.parametrize(("groups", "size", "accuracy"), [(15, 10, 0.8), (25, 4, 0.9), (40, 10, 0.9), (25, 10, 0.97)])
@pytest.mark.parametrize("alike", [0.1, 0.5])
def test_intervals_of_accuracies_hold_the_truth_as_often_as_they_say(
    groups: int, size: int, accuracy: float, alike: float
) -> None:
    draw, held, grouped = np.random.default_rng(groups), [], by_size(groups, size)
    scale = (1 - alike) / alike
    for _ in range(300):
        shares = draw.beta(accuracy * scale, (1 - accuracy) * scale, groups)
        low, high = accuracy_interval(draw.random(groups * size) < shares[grouped.codes], grouped, 0.95)
        held.append(low <= accuracy <= high)
    # Two standard errors below 95 %. Without regard to groups it was 58 to 91 %.
    assert np.mean(held) >= 0.925


def test_images_of_a_single_group_are_worth_less_than_one() -> None:
    right = np.arange(40) < 30
    assert effective_images(Groups.of(["a"] * 40), right - right.mean(), right, 0.95) < 1


def test_groups_are_few_below_a_number_unless_each_image_is_alone() -> None:
    assert by_size(MIN_GROUPS - 1, 5).few
    assert not by_size(MIN_GROUPS, 5).few
    assert not Groups.single(MIN_GROUPS - 1).few


def test_sums_are_by_group_whatever_the_order_of_the_images() -> None:
    groups = Groups.of(["b", "a", "b", "c"])
    assert groups.sizes.tolist() == [2, 1, 1]
    assert groups.sums([1, 10, 2, 100]).tolist() == [3, 10, 100]
    assert groups.sums([[1, 2], [3, 4], [5, 6], [7, 8]]).tolist() == [[6, 8], [3, 4], [7, 8]]
