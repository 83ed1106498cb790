"""Outcomes are counted as they are, and as if groups had been drawn several times or not at all."""

import numpy as np
import pandas as pd
import pytest

from stages.statistics.groups import Groups
from stages.statistics.outcomes import Outcomes, read_outcomes
from stages.statistics.pairwise import detectable, needed_images
from tests.support.studies import seeded


def outcomes(groups: Groups, images: int = 60, seed: int = 0) -> Outcomes:
    right = np.random.default_rng(seed).random((3, 1, images)) < np.array([0.9, 0.7, 0.5])[:, None, None]
    return Outcomes(("a", "b", "c"), tuple(right), groups)


GROUPS = [Groups.single(60), Groups(np.arange(60) % 20), Groups(np.sort(np.random.default_rng(1).integers(0, 9, 60)))]


@pytest.mark.parametrize("groups", GROUPS)
def test_counts_of_draws_are_those_of_the_drawn_images(groups: Groups) -> None:
    found = outcomes(groups)
    weights = np.random.default_rng(2).integers(0, 3, (4, len(groups))).astype(np.float64)
    counts = found.drawn([0, 0, 0], weights)
    for row, times in enumerate(weights):
        drawn = np.repeat(found.right, times[groups.codes].astype(int), axis=0)
        assert counts.images[row] == len(drawn)
        assert counts.right[row].tolist() == drawn.sum(axis=0).tolist()
        assert counts.only[row, 0, 2] == (drawn[:, 0] & ~drawn[:, 2]).sum()
        assert counts.only[row, 2, 0] == (drawn[:, 2] & ~drawn[:, 0]).sum()


def test_a_pair_has_the_counts_of_the_pair() -> None:
    found = outcomes(GROUPS[1])
    pair = found.of("c", "a")
    assert pair.counts.only[0, 0, 1] == found.counts.only[0, 2, 0]
    assert pair.counts.precision.effect[0, 0, 1] == pytest.approx(found.counts.precision.effect[0, 0, 2])


def test_images_alone_have_no_design_effect() -> None:
    precision = outcomes(GROUPS[0]).counts.precision
    assert (precision.effect == 1).all()
    assert np.isinf(precision.freedom).all()


def test_further_trainings_are_read_in_any_order_of_their_rows() -> None:
    files = ["cat/1", "cat/2", "dog/3"]
    table = pd.DataFrame({"file": files, "label": ["cat", "cat", "dog"], "predicted": ["cat", "dog", "dog"]})
    again = pd.concat([table.assign(repeat=2, predicted="dog"), table.assign(repeat=1, predicted="cat")])[::-1]
    found = read_outcomes({"a": table}, pd.Series(["x", "x", "y"], index=files), {"a": again})
    assert found.trainings[0].tolist() == [[True, False, True], [True, True, False], [False, False, True]]
    assert found.groups.sizes.tolist() == [2, 1]
    assert found.seeds.freedom.tolist() == [2]


@pytest.mark.parametrize("deviation", [0.0, 0.02, 0.05])
def test_the_variance_between_trainings_is_that_of_their_true_accuracies(deviation: float) -> None:
    variances = [study.seeds.variances for study in seeded(300, [0.85, 0.85], 4, deviation, studies=200)]
    # What each training makes of each image differs as well: by chance that moves accuracies by 1.3 points.
    assert np.mean(variances) == pytest.approx(deviation**2, abs=0.0002)


@pytest.mark.parametrize("size", [1, 5])
def test_what_these_images_do_not_detect_takes_more_of_them(size: int) -> None:
    pair = outcomes(Groups(np.arange(60) // size), seed=3).of("a", "b")
    least = detectable(pair, 0.05)
    assert needed_images(pair, 0.999 * least, 0.05) > 60


def test_the_images_that_a_difference_takes_come_in_groups_of_the_same_size() -> None:
    # No two of a group are wrong together: the images are worth as many, but the exact test counts 12 groups.
    right = np.ones((60, 2), dtype=bool)
    right[0, 1] = False
    pair = Outcomes(("a", "b"), tuple(right.T[:, None]), Groups(np.arange(60) // 5))
    assert detectable(pair, 0.05) == 6 / 12
    assert needed_images(pair, 0.3, 0.05) == pytest.approx(100, rel=0.05)
