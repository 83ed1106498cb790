"""Shares of the training pictures: which are drawn, how often they return, and that they are the same for all."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from stages.models.inputs import drawn

SHARES = (0.1, 0.25, 0.5, 0.9)


def index(classes: dict[str, int], views: int = 2) -> pd.DataFrame:
    """Return the rows of a training split with so many pictures of each class, as `read_index` gives them."""
    rows = [
        ("train", f"{name}/{number:04}.jpg", name, view)
        for name, count in classes.items()
        for number in range(count)
        for view in range(views)
    ]
    table = pd.DataFrame(rows, columns=["split", "file", "label", "view"])
    table.insert(1, "row", range(len(table)))
    return table.astype(dict.fromkeys(("split", "file", "label"), "category"))


def pictures(rows: pd.DataFrame) -> set[str]:
    return set(rows["file"])


@pytest.mark.parametrize("share", SHARES)
def test_a_share_is_that_of_every_class(share: float) -> None:
    classes = {"cat": 200, "dog": 40}
    found = drawn(index(classes), share, 20).drop_duplicates("file")["label"].value_counts()
    assert found.to_dict() == {name: round(share * count) for name, count in classes.items()}


def test_a_smaller_share_is_a_part_of_a_larger() -> None:
    rows = index({"cat": 50, "dog": 30})
    found = [pictures(drawn(rows, share, 20)) for share in SHARES]
    assert all(smaller < larger for smaller, larger in pairwise(found))


def test_a_class_keeps_one_picture_at_least() -> None:
    found = drawn(index({"cat": 30, "dog": 2}), 0.1, 20)
    assert found.drop_duplicates("file")["label"].value_counts().to_dict() == {"cat": 3, "dog": 1}


def test_views_of_a_picture_stay_together() -> None:
    found = drawn(index({"cat": 20, "dog": 20}, views=3), 0.25, 20)
    assert (found.groupby("file", observed=True)["view"].nunique() == 3).all()


@pytest.mark.parametrize("share", SHARES)
def test_an_epoch_is_as_long_as_that_of_all_pictures_and_shows_all_equally_often(share: float) -> None:
    rows = index({"cat": 37, "dog": 23})
    found = drawn(rows, share, 20)
    assert len(found) == len(rows)
    times = found["row"].value_counts()
    assert times.max() - times.min() <= 1
    by_class = found["label"].value_counts(normalize=True)
    assert by_class["cat"] == pytest.approx(37 / 60, abs=0.06)


def test_the_draw_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = index({"cat": 50, "dog": 30})
    assert pictures(drawn(rows, 0.25, 20)) == pictures(drawn(rows.sample(frac=1, random_state=1), 0.25, 20))


def test_a_picture_that_comes_in_moves_few_others() -> None:
    before = pictures(drawn(index({"cat": 100}), 0.25, 20))
    after = pictures(drawn(index({"cat": 101}), 0.25, 20))
    assert len(before - after) <= 1


def test_another_seed_draws_other_pictures() -> None:
    rows = index({"cat": 100})
    assert pictures(drawn(rows, 0.25, 20)) != pictures(drawn(rows, 0.25, 21))


def test_an_index_of_one_picture_is_drawn_whole() -> None:
    assert np.array_equal(drawn(index({"cat": 1}), 0.1, 20)["row"], [0, 1])
