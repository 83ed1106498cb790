"""A table of predictions becomes arrays, or an error that says what is wrong with it."""

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.core.predictions import of_folds, of_repeats, of_split, unseen


def table(**changes: object) -> pd.DataFrame:
    columns = {
        "split": ["validation", "test", "test"],
        "file": ["a", "b", "c"],
        "label": ["cat", "dog", "cat"],
        "predicted": ["cat", "dog", "dog"],
        "p:cat": [0.9, 0.3, 0.400000004],
        "p:dog": [0.1, 0.7, 0.6],
    }
    return pd.DataFrame(columns | changes)


def test_only_the_rows_of_the_split_are_taken() -> None:
    found = of_split(table(), "test", ("cat", "dog"))
    assert found.actual.tolist() == [1, 0]
    assert found.predicted.tolist() == [1, 1]
    assert found.probabilities[0].tolist() == [0.3, 0.7]


def test_rounded_probabilities_sum_to_one_again() -> None:
    assert of_split(table(), "test", ("cat", "dog")).probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": ["cat", "cow", "cat"]}, "predictions hold label 'cow'; expected one of the classes cat, dog"),
        ({"predicted": ["cat", "dog", "cow"]}, "predictions hold predicted 'cow'"),
        ({"split": ["validation"] * 3}, "predictions hold no test images"),
        ({"p:cow": [0.0] * 3}, "predictions hold probabilities for 3 classes; expected one column for each of cat"),
        ({"p:cat": [0.9, np.nan, 0.4]}, "training may have diverged"),
        ({"p:cat": ["0.9", "", "0.4"]}, "training may have diverged"),
        ({"p:cat": [0.9, 0.5, 0.4]}, "do not sum to 1"),
        ({"p:cat": [0.9, -0.7, 0.4], "p:dog": [0.1, 1.7, 0.6]}, "missing, negative"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        of_split(table(**changes), "test", ("cat", "dog"))


def test_predictions_outside_the_test_split_are_out_of_sample() -> None:
    found = unseen(table(split=["validation", "test", "train"]), ("cat", "dog"))
    assert found.actual.tolist() == [0, 0]
    assert found.predicted.tolist() == [0, 1]


def test_each_fold_holds_its_rows_from_fold_0_on() -> None:
    found = of_folds(table(fold=[2, 0, 1]), ("cat", "dog"))
    assert [fold.actual.tolist() for fold in found] == [[1], [0], [0]]
    assert [fold.predicted.tolist() for fold in found] == [[1], [1], [0]]


def test_an_empty_table_has_no_folds() -> None:
    assert of_folds(table(fold=[0, 1, 2])[:0], ("cat", "dog")) == []


def test_a_fold_without_images_or_with_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="predictions hold no fold 1 images; expected at least one fold 1 image"):
        of_folds(table(fold=[0, 2, 2]), ("cat", "dog"))
    with pytest.raises(DataError, match="predictions hold fold 2 probabilities that are missing, negative"):
        of_folds(table(fold=[0, 1, 2], **{"p:cat": [0.9, 0.3, np.nan]}), ("cat", "dog"))


def test_each_repeat_holds_its_test_images_in_order() -> None:
    found = of_repeats(table(split=["test"] * 3, repeat=[2, 1, 1]), ("cat", "dog"))
    assert [repeat.actual.tolist() for repeat in found] == [[1, 0], [0]]
    assert of_repeats(table(repeat=[1, 1, 1]), ("cat", "dog"))[0].actual.tolist() == [1, 0]


def test_an_empty_table_has_no_repeats() -> None:
    assert of_repeats(table(repeat=1)[:0], ("cat", "dog")) == []


def test_repeats_that_cannot_be_scored_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="predictions hold no repeat 1 images"):
        of_repeats(table(split=["validation"] * 3, repeat=1), ("cat", "dog"))
    with pytest.raises(DataError, match="predictions hold repeat 1 probabilities that are missing"):
        of_repeats(table(split="test", repeat=1, **{"p:cat": [0.9, 0.3, np.nan]}), ("cat", "dog"))
