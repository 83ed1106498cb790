"""A share of the images is the same for every backbone, the same of each class, and a part of a larger share."""

from itertools import pairwise

import pandas as pd
import pytest

from stages.core.dataset.subsample import possible, subsample, subsamples


def images(counts: dict[str, int]) -> pd.DataFrame:
    rows = [(f"{label}/{number:03}.jpg", label) for label, count in counts.items() for number in range(count)]
    table = pd.DataFrame(rows, columns=["file", "label"])
    return table.assign(group=table["file"])


COUNTS = {"001": 100, "NA": 40, "tree": 3}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.1, [10, 4, 0]), (0.25, [25, 10, 1]), (0.5, [50, 20, 2]), (1.0, [100, 40, 3])]
)
def test_each_class_has_the_same_share(share: float, expected: list[int]) -> None:
    table = images(COUNTS)
    chosen = table[subsample(table, share, 3)]["label"].value_counts()
    assert chosen.reindex(list(COUNTS), fill_value=0).tolist() == expected


def test_shares_in_which_a_class_would_have_no_image_are_left_out() -> None:
    labels = images(COUNTS)["label"]
    assert possible(labels, [0.05, 0.1, 0.2, 0.5]) == [0.2, 0.5]
    assert possible(labels[labels != "tree"].astype("category"), [0.01, 0.05, 0.5]) == [0.05, 0.5]


def test_a_smaller_share_is_a_part_of_a_larger() -> None:
    shares = subsamples(images(COUNTS), (0.1, 0.25, 0.5), 3)
    assert all((larger | ~smaller).all() for smaller, larger in pairwise(shares))


def test_neither_the_order_nor_the_type_of_the_columns_counts_and_the_seed_does() -> None:
    table = images(COUNTS)
    chosen = set(table[subsample(table, 0.25, 3)]["file"])
    other = table.sample(frac=1, random_state=0).astype("category")
    assert set(other[subsample(other, 0.25, 3)]["file"]) == chosen
    assert set(table[subsample(table, 0.25, 4)]["file"]) != chosen


def test_draws_differ_and_the_first_is_that_of_a_single_one() -> None:
    table = images(COUNTS)
    draws = [frozenset(table[subsamples(table, [0.25], 3, draw)[0]]["file"]) for draw in range(3)]
    assert len(set(draws)) == 3
    assert draws[0] == set(table[subsample(table, 0.25, 3)]["file"])


def test_the_images_of_a_group_come_in_together() -> None:
    table = images({"a": 100})
    table["group"] = (table.index // 10).astype(str)
    assert table[subsample(table, 0.3, 3)]["group"].nunique() == 3


def test_an_image_that_comes_in_moves_few_others() -> None:
    table, more = images({"a": 100}), images({"a": 101})
    before, after = (set(found[subsample(found, 0.5, 3)]["file"]) for found in (table, more))
    assert len(before ^ after) <= 2
