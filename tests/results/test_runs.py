"""Backbones are ranked by one rule, and the tables for DVC hold what the stages wrote."""

import numpy as np
import pytest

from stages.errors import DataError, ParameterError
from stages.results import runs
from tests.results import artefacts

TWO = ("cat", "dog")


def scored(backbone: str, accuracy: float, log_loss: float = 1.0) -> runs.Run:
    found = artefacts.run(backbone, artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO), TWO)
    changed = found.metrics | {"accuracy": accuracy, "log_loss": log_loss}
    changed |= {"accuracy_low": accuracy - 0.05, "accuracy_high": accuracy + 0.05}
    return artefacts.run(backbone, artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO), TWO, metrics=changed)


def test_the_ranking_is_by_accuracy_then_log_loss_then_name() -> None:
    found = [scored("d", 0.5), scored("c", 0.8, 0.9), scored("b", 0.8, 0.4), scored("a", 0.8, 0.9)]
    assert [run.backbone for run in runs.ranked(found)] == ["b", "a", "c", "d"]


def test_rivals_are_those_whose_interval_overlaps_the_best_ones() -> None:
    ranking = runs.ranked([scored("a", 0.8), scored("b", 0.72), scored("c", 0.69)])
    assert [run.backbone for run in runs.rivals(ranking)] == ["b"]
    assert runs.rivals(ranking[:1]) == []


def test_the_summary_holds_a_row_for_each_backbone_and_the_best() -> None:
    found = runs.summary([scored("a", 0.7), scored("b", 0.8)])
    assert found["best"] == "b"
    assert set(found) == {"a", "b", "best"}
    assert tuple(found["a"]) == runs.SUMMARY


def test_no_backbone_may_take_the_place_of_the_best() -> None:
    with pytest.raises(ParameterError, match="a backbone named 'best'"):
        runs.summary([scored("best", 0.7)])


def test_backbones_scored_on_other_pictures_are_not_compared() -> None:
    one = artefacts.run("a", artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO), TWO)
    other = artefacts.run("b", artefacts.answers(["cat", "cat"], ["cat", "cat"], TWO), TWO)
    runs.check([one, one])
    with pytest.raises(DataError, match="'b' was scored on other test pictures than 'a'"):
        runs.check([one, other])


def test_learning_curves_are_long_with_the_backbone_first() -> None:
    found = runs.learning_curves([scored("a", 0.7), scored("b", 0.8)])
    assert list(found) == ["backbone", "phase", "epoch", "accuracy", "val_accuracy", "loss", "val_loss"]
    assert found.groupby("backbone").size().tolist() == [19, 19]
    assert set(found["phase"]) == {"head", "finetune"}


def test_accuracies_hold_the_interval() -> None:
    found = runs.accuracies([scored("a", 0.75)])
    assert found.to_numpy().tolist() == [["a", 0.75, pytest.approx(0.7), pytest.approx(0.8)]]


def test_confusion_counts_the_actual_class_in_rows() -> None:
    table = artefacts.answers(["cat", "cat", "cat", "dog"], ["cat", "dog", "dog", "dog"], TWO)
    found = artefacts.run("a", table, TWO)
    assert runs.counts(found).tolist() == [[1, 2], [0, 1]]
    assert runs.shares(runs.counts(found))[0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_long_confusion_has_the_diagonal_and_what_is_not_zero() -> None:
    classes = ("cat", "dog", "fox")
    found = runs.confusion([artefacts.run("a", artefacts.answers(["cat", "dog"], ["cat", "cat"], classes), classes)])
    assert found[["actual", "predicted", "pictures", "share"]].to_numpy().tolist() == [
        ["cat", "cat", 1, 1.0],
        ["dog", "cat", 1, 1.0],
        ["dog", "dog", 0, 0.0],
        ["fox", "fox", 0, 0.0],
    ]


def test_shares_of_a_class_without_pictures_are_zero() -> None:
    assert runs.shares(np.array([[0, 0], [1, 3]])).tolist() == [[0, 0], [0.25, 0.75]]
