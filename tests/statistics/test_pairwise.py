"""All pairs: intervals and tests agree with published examples; the edges say something."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.statistics.groups import Groups
from stages.statistics.outcomes import Outcomes, read_outcomes
from stages.statistics.pairwise import COLUMNS, all_pairs, difference_interval, holm, p_value
from tests.support import artefacts
from tests.support.studies import grouped, seeded, smallest_p


def table(labels: list[str], predicted: list[str]) -> pd.DataFrame:
    """Return predictions for images."""
    files = [f"{label}/{number}.jpg" for number, label in enumerate(labels)]
    return pd.DataFrame({"file": files, "label": labels, "predicted": predicted})


def right(both: int, only_first: int, only_second: int, neither: int) -> Outcomes:
    """Return which of two is right on each image, which are groups of their own."""
    counts = (both, only_first, only_second, neither)
    sides = [np.repeat(side, counts)[None] for side in ((True, True, False, False), (True, False, True, False))]
    return Outcomes(("one", "other"), tuple(sides), Groups.single(sum(counts)))


def read(tables: dict[str, pd.DataFrame]) -> Outcomes:
    """Return the outcomes of tables of predictions."""
    return read_outcomes(tables, artefacts.groups_of(next(iter(tables.values()))))


# Differences --------------------------------------------------------------------------------------------


def test_the_interval_agrees_with_agresti_2002() -> None:
    """Approval of a prime minister twice, Agresti 2002, "Categorical data analysis", section 10.1: -0.04 ± 0.0187."""
    low, high = difference_interval(right(794, 150, 86, 570), 0.95)
    assert (low, high) == pytest.approx((0.0400 - 1.96 * 0.0095, 0.0400 + 1.96 * 0.0095), abs=0.001)


def test_what_is_hard_for_both_cancels_out() -> None:
    # Each is right about half the images, 40 of them the same: far closer than two unpaired halves would be.
    low, high = difference_interval(right(40, 2, 0, 38), 0.95)
    assert -0.03 <= low <= 0.025 < high < 0.09


def test_two_that_are_right_about_the_same_images_may_still_differ_elsewhere() -> None:
    z = NormalDist().inv_cdf(0.975)
    limit = z**2 / (100 + z**2)
    assert difference_interval(right(80, 0, 0, 20), 0.95) == pytest.approx((-limit, limit), abs=1e-6)


def test_ends_stay_possible_where_one_is_always_right_and_the_other_never() -> None:
    low, high = difference_interval(right(0, 20, 0, 0), 0.95)
    assert 0.6 < low < 0.9
    assert high == 1


def test_constant_predictions_of_two_classes_are_compared() -> None:
    labels = ["cat", "cat", "dog", "dog", "dog"]
    tables = {"cats": table(labels, ["cat"] * 5), "dogs": table(labels, ["dog"] * 5)}
    row = all_pairs(read(tables), 0.95).iloc[0]
    assert row["difference"] == pytest.approx(-0.2)
    assert row["low"] < -0.2 < row["high"]
    assert row["p"] == row["p_holm"] == pytest.approx(1)


# Groups and seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "size"), [(15, 10), (40, 4)])
def test_equally_good_ones_are_told_apart_by_groups_of_images_no_more_often_than_promised(
    groups: int, size: int
) -> None:
    found = list(grouped(groups, size, backbones=2, studies=300, seed=groups))
    intervals = [difference_interval(study, 0.95) for study in found]
    # Two standard errors above 5 %. By images it was 20 and 8 %.
    assert np.mean([p_value(study) <= 0.05 for study in found]) <= 0.075
    assert np.mean([low <= 0 <= high for low, high in intervals]) >= 0.93


@pytest.mark.parametrize("images", [100, 400])
def test_equally_good_ones_whose_trainings_differ_are_told_apart_no_more_often_than_promised(images: int) -> None:
    smallest = list(map(smallest_p, seeded(images, [0.9] * 9, trainings=3, deviation=0.02, studies=60)))
    # Of 36 pairs, two standard errors above 5 %. Without the seeds' variance it was 39 to 68 % by 400 images.
    assert np.mean(np.array(smallest) <= 0.05) <= 0.11


def test_trainings_that_all_come_out_the_same_change_nothing() -> None:
    once = right(70, 12, 3, 15)
    again = Outcomes(once.names, tuple(np.repeat(found, 3, axis=0) for found in once.trainings), once.groups)
    pd.testing.assert_frame_equal(all_pairs(once, 0.95), all_pairs(again, 0.95))


def test_trainings_that_differ_widen_the_interval_about_the_same_difference() -> None:
    once = right(70, 12, 3, 15)
    first, second = once.trainings
    worse = first & (np.arange(100) > 9)
    again = Outcomes(once.names, (np.concatenate([first, worse, first]), second), once.groups)
    narrow, wide = (all_pairs(found, 0.95).iloc[0] for found in (once, again))
    assert narrow["difference"] == wide["difference"]
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert wide["p"] > narrow["p"] + 0.01


# The table ----------------------------------------------------------------------------------------------


def nine() -> dict[str, pd.DataFrame]:
    return {
        name: artefacts.predictions(artefacts.POSES, share, seed).query("split == 'test'")
        for seed, (name, (share, *_)) in enumerate(artefacts.NINE.items())
    }


def test_there_is_a_row_for_each_pair_in_the_order_of_the_backbones() -> None:
    tables = nine()
    found = all_pairs(read(tables), 0.95)
    names = list(tables)
    assert list(found) == list(COLUMNS)
    assert found[["first", "second"]].to_numpy().tolist() == [
        [first, second] for place, first in enumerate(names) for second in names[place + 1 :]
    ]
    accuracies = {name: (each["label"] == each["predicted"]).mean() for name, each in tables.items()}
    for row in found.itertuples():
        assert row.difference == pytest.approx(accuracies[row.first] - accuracies[row.second])
        assert row.low <= row.difference <= row.high
        assert row.p <= row.p_holm <= 1


def test_the_order_of_rows_in_a_table_does_not_matter() -> None:
    tables = nine()
    shuffled = {name: each.sample(frac=1, random_state=1) for name, each in tables.items() if name != "vgg16"}
    pd.testing.assert_frame_equal(
        all_pairs(read(tables), 0.95),
        all_pairs(read({"vgg16": tables["vgg16"]} | shuffled), 0.95),
    )


def test_a_single_backbone_has_no_pair() -> None:
    found = all_pairs(read({"vgg16": nine()["vgg16"]}), 0.95)
    assert found.empty
    assert list(found) == list(COLUMNS)


def test_a_single_image_shows_nothing() -> None:
    tables = {"one": table(["cat"], ["cat"]), "other": table(["cat"], ["dog"])}
    row = all_pairs(read(tables), 0.95).iloc[0]
    assert (row["difference"], row["p"], row["high"]) == (1, 1, 1)
    assert row["low"] < 0


@pytest.mark.parametrize("other", [table(["cat"], ["cat"]), table(["cat", "cat"], ["cat", "cat"])])
def test_backbones_that_were_tested_on_other_images_are_not_compared(other: pd.DataFrame) -> None:
    first = table(["cat", "dog"], ["cat", "cat"])
    with pytest.raises(DataError, match="'other' was tested on other images than 'one'; expected the same"):
        read({"one": first, "other": other})


def test_names_of_classes_are_compared_as_text() -> None:
    found = read({"one": table(["NA", "001", "<b>"], ["NA", "1", "<b>"])})
    assert found.right[:, 0].tolist() == [True, False, True]


# Correction ----------------------------------------------------------------------------------------------


def test_holm_agrees_with_an_example_worked_by_hand() -> None:
    # In order 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and none below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_changes_nothing_and_of_none_is_none() -> None:
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


def test_a_corrected_value_is_no_probability_above_one() -> None:
    assert holm([0.5, 0.9, 1.0]) == [1.0, 1.0, 1.0]
