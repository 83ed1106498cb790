"""All pairs: intervals and tests agree with published examples; the edges say something."""

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.statistics import pairwise
from tests.support import artefacts


def table(labels: list[str], predicted: list[str]) -> pd.DataFrame:
    """Return predictions for test images."""
    files = [f"{label}/{number}.jpg" for number, label in enumerate(labels)]
    return pd.DataFrame({"split": "test", "file": files, "label": labels, "predicted": predicted})


def right(both: int, only_first: int, only_second: int, neither: int) -> pd.DataFrame:
    """Return which of two backbones is right on each image of one class, as `pairwise.correct` does."""
    counts = (both, only_first, only_second, neither)
    index = pd.MultiIndex.from_product([range(sum(counts)), ["cat"]], names=["file", "label"])
    sides = {"one": (True, True, False, False), "other": (True, False, True, False)}
    return pd.DataFrame({name: np.repeat(side, counts) for name, side in sides.items()}, index=index)


def interval(found: pd.DataFrame) -> tuple[float, float]:
    return tuple(pairwise.differences(found, 0.95, 20_000, seed=0)["one", "other"])


# Differences --------------------------------------------------------------------------------------------


def test_the_interval_agrees_with_agresti_2002() -> None:
    """Approval of a prime minister twice, Agresti 2002, "Categorical data analysis", section 10.1: -0.04 ± 0.0187."""
    low, high = interval(right(794, 150, 86, 570))
    assert (low, high) == pytest.approx((0.0400 - 1.96 * 0.0095, 0.0400 + 1.96 * 0.0095), abs=0.001)


@pytest.mark.parametrize(("classes", "images"), [(5, 100), (37, 100), (100, 200)])
def test_the_interval_holds_the_true_difference_with_any_number_of_classes(classes: int, images: int) -> None:
    draw, held = np.random.default_rng(0), []
    for _ in range(120):
        labels = [f"{number}" for number in draw.integers(0, classes, images)]
        only_one, only_other = (draw.multinomial(1, (0.12, 0.08, 0.8), images)[:, :2] == 1).T
        index = pd.MultiIndex.from_arrays([range(images), labels], names=["file", "label"])
        found = pd.DataFrame({"one": ~only_other, "other": ~only_one}, index=index)
        low, high = pairwise.differences(found, 0.95, 200, seed=0)["one", "other"]
        held.append(low <= 0.04 <= high)
    # Three standard errors of 120 studies are 6 points. Drawn class by class it was 87 % with 100 classes.
    assert np.mean(held) >= 0.89


def test_what_is_hard_for_both_cancels_out() -> None:
    # Each is right about half the images, 40 of them the same: far closer than two unpaired halves would be.
    low, high = interval(right(40, 2, 0, 38))
    assert 0 <= low <= 0.025 < high < 0.07


def test_two_that_are_right_about_the_same_images_may_still_differ_elsewhere() -> None:
    # 1 - 0.05^(1/100): what a hundred images never showed.
    assert interval(right(80, 0, 0, 20)) == pytest.approx((-0.029513, 0.029513), abs=1e-6)


def test_ends_stay_possible_where_one_is_always_right_and_the_other_never() -> None:
    low, high = interval(right(0, 20, 0, 0))
    assert (low, high) == (pytest.approx(0.05 ** (1 / 20)), 1.0)


def test_constant_predictions_of_two_classes_are_compared() -> None:
    labels = ["cat", "cat", "dog", "dog", "dog"]
    tables = {"cats": table(labels, ["cat"] * 5), "dogs": table(labels, ["dog"] * 5)}
    row = pairwise.all_pairs(tables, 0.95, 200, 0).iloc[0]
    assert row["difference"] == pytest.approx(-0.2)
    assert row["low"] < -0.2 < row["high"]
    assert row["p"] == row["p_holm"] == 1


# The table ----------------------------------------------------------------------------------------------


def nine() -> dict[str, pd.DataFrame]:
    return {
        name: artefacts.predictions(artefacts.POSES, share, seed)
        for seed, (name, (share, *_)) in enumerate(artefacts.NINE.items())
    }


def test_there_is_a_row_for_each_pair_in_the_order_of_the_backbones() -> None:
    tables = nine()
    found = pairwise.all_pairs(tables, 0.95, 200, 0)
    names = list(tables)
    assert list(found) == list(pairwise.COLUMNS)
    assert found[["first", "second"]].to_numpy().tolist() == [
        [first, second] for place, first in enumerate(names) for second in names[place + 1 :]
    ]
    tests = {name: each[each["split"] == "test"] for name, each in tables.items()}
    accuracies = {name: (each["label"] == each["predicted"]).mean() for name, each in tests.items()}
    for row in found.itertuples():
        assert row.difference == pytest.approx(accuracies[row.first] - accuracies[row.second])
        assert row.low <= row.difference <= row.high
        assert row.p <= row.p_holm <= 1


def test_the_order_of_rows_in_a_table_does_not_matter() -> None:
    tables = nine()
    shuffled = {name: each.sample(frac=1, random_state=1) for name, each in tables.items() if name != "vgg16"}
    pd.testing.assert_frame_equal(
        pairwise.all_pairs(tables, 0.95, 200, 0),
        pairwise.all_pairs({"vgg16": tables["vgg16"]} | shuffled, 0.95, 200, 0),
    )


def test_validation_images_are_left_out() -> None:
    both = artefacts.predictions(artefacts.POSES, 0.8, 1)
    worse = both.assign(predicted=both["predicted"].where(both["split"] == "test", "plank"))
    row = pairwise.all_pairs({"one": both, "other": worse}, 0.95, 200, 0).iloc[0]
    assert (row["difference"], row["p"]) == (0, 1)


def test_a_single_backbone_has_no_pair() -> None:
    found = pairwise.all_pairs({"vgg16": nine()["vgg16"]}, 0.95, 200, 0)
    assert found.empty
    assert list(found) == list(pairwise.COLUMNS)


def test_a_single_image_shows_nothing() -> None:
    tables = {"one": table(["cat"], ["cat"]), "other": table(["cat"], ["dog"])}
    row = pairwise.all_pairs(tables, 0.95, 200, 0).iloc[0]
    assert (row["difference"], row["p"], row["high"]) == (1, 1, 1)
    assert row["low"] == pytest.approx(0.05)


@pytest.mark.parametrize("other", [table(["cat"], ["cat"]), table(["cat", "cat"], ["cat", "cat"])])
def test_backbones_that_were_tested_on_other_images_are_not_compared(other: pd.DataFrame) -> None:
    first = table(["cat", "dog"], ["cat", "cat"])
    with pytest.raises(DataError, match="'other' was tested on other images than 'one'; expected the same"):
        pairwise.all_pairs({"one": first, "other": other}, 0.95, 200, 0)


def test_names_of_classes_are_compared_as_text() -> None:
    found = pairwise.correct({"one": table(["NA", "001", "<b>"], ["NA", "1", "<b>"])})
    assert found["one"].tolist() == [True, False, True]


# Correction ----------------------------------------------------------------------------------------------


def test_holm_agrees_with_an_example_worked_by_hand() -> None:
    # In order 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and none below the one before.
    assert pairwise.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_changes_nothing_and_of_none_is_none() -> None:
    assert pairwise.holm([0.3]) == [0.3]
    assert pairwise.holm([]) == []


def test_a_corrected_value_is_no_probability_above_one() -> None:
    assert pairwise.holm([0.5, 0.9, 1.0]) == [1.0, 1.0, 1.0]
