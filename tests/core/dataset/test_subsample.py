"""A share of the images is the same for every backbone, the same of each class, and a part of a larger share."""

from itertools import pairwise

import pandas as pd
import pytest

from stages.core.dataset.subsample import subsample


def images(counts: dict[str, int]) -> pd.DataFrame:
    rows = [(f"{label}/{number:03}.jpg", label) for label, count in counts.items() for number in range(count)]
    return pd.DataFrame(rows, columns=["file", "label"])


COUNTS = {"001": 100, "NA": 40, "tree": 3}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.1, [10, 4, 1]), (0.25, [25, 10, 1]), (0.5, [50, 20, 2]), (1.0, [100, 40, 3])]
)
def test_each_class_has_the_same_share_and_one_image_at_the_least(share: float, expected: list[int]) -> None:
    table = images(COUNTS)
    assert table[subsample(table, share, 3)]["label"].value_counts().reindex(list(COUNTS)).tolist() == expected


def test_a_smaller_share_is_a_part_of_a_larger() -> None:
    table = images(COUNTS)
    shares = [subsample(table, share, 3) for share in (0.1, 0.25, 0.5)]
    assert all((larger | ~smaller).all() for smaller, larger in pairwise(shares))


def test_neither_the_order_nor_the_type_of_the_columns_counts_and_the_seed_does() -> None:
    table = images(COUNTS)
    chosen = set(table[subsample(table, 0.25, 3)]["file"])
    other = table.sample(frac=1, random_state=0).astype("category")
    assert set(other[subsample(other, 0.25, 3)]["file"]) == chosen
    assert set(table[subsample(table, 0.25, 4)]["file"]) != chosen


def test_an_image_that_comes_in_moves_few_others() -> None:
    table, more = images({"a": 100}), images({"a": 101})
    before, after = (set(found[subsample(found, 0.5, 3)]["file"]) for found in (table, more))
    assert len(before ^ after) <= 2
