"""Backbones are ranked by one rule, and the tables for DVC hold what the stages wrote."""

import numpy as np
import pytest

from stages.core.errors import DataError
from stages.core.intervals import Interval
from stages.core.measure import Measure
from stages.core.settings.report import backbones_of
from stages.report import runs
from stages.statistics.decision import Resampled
from tests.support import artefacts

TWO = ("cat", "dog")


def scored(backbone: str, accuracy: float, log_loss: float = 1.0) -> runs.Run:
    found = artefacts.run(backbone, artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO), TWO)
    changed = found.metrics | {"accuracy": accuracy, "log_loss": log_loss}
    changed |= {"accuracy_low": accuracy - 0.05, "accuracy_high": accuracy + 0.05}
    changed["measure"] = found.metrics["measure"] | {"value": accuracy}
    return artefacts.run(backbone, artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO), TWO, metrics=changed)


def test_the_ranking_is_by_accuracy_then_log_loss_then_name() -> None:
    found = [scored("d", 0.5), scored("c", 0.8, 0.9), scored("b", 0.8, 0.4), scored("a", 0.8, 0.9)]
    assert [run.backbone for run in runs.ranked(found, artefacts.MEASURE)] == ["b", "a", "c", "d"]


def test_the_summary_holds_a_row_for_each_backbone_the_best_and_the_recommended_one() -> None:
    found = runs.summary(
        [scored("b", 0.8), scored("a", 0.7)],
        "a",
        Resampled({"b": 0.3, "a": 0.7}, 0.69, Interval(0.6, 0.75)),
        artefacts.MEASURE,
    )
    assert (found["best"], found["recommended"], found["measure"]) == ("b", "a", "accuracy")
    assert set(found) == {"a", "b", "best", "recommended", "measure"}
    assert tuple(found["b"]) == (*runs.SUMMARY, "val_accuracy", "val_log_loss", "selected_in_resamples")
    assert [found[name]["selected_in_resamples"] for name in "ba"] == [0.3, 0.7]
    of_selection = {key: value for key, value in found["a"].items() if key not in found["b"]}
    assert of_selection == {
        "accuracy_of_selection": 0.69, "accuracy_of_selection_low": 0.6, "accuracy_of_selection_high": 0.75
    }  # fmt: skip


def test_the_costs_that_decide_are_in_the_summary_and_other_ones_are_not_compared() -> None:
    table = artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO)
    measure, other = (Measure("cost", {"dog": {"cat": cost}}) for cost in (5.0, 6.0))
    found = artefacts.run("a", table, TWO, measure=measure)
    runs.check([found], measure)
    with pytest.raises(DataError, match=r"'a' was scored by other costs; expected those of report\.costs; run 'dvc"):
        runs.check([found], other)
    summary = runs.summary([found], "a", Resampled({"a": 1.0}, None, None), measure)
    assert summary["costs"] == {"dog": {"cat": 5.0}}
    assert backbones_of(summary) == ["a"]


def test_an_accuracy_of_selection_that_is_unknown_is_left_out() -> None:
    found = runs.summary([scored("a", 0.7)], "a", Resampled({"a": 1.0}, None, None), artefacts.MEASURE)
    assert not any(key.startswith("accuracy_of") for key in found["a"])


def test_a_preset_is_stated_unless_it_is_the_full_one() -> None:
    found = [scored("a", 0.7)], "a", Resampled({"a": 1.0}, None, None), artefacts.MEASURE
    assert runs.summary(*found, "quick")["preset"] == "quick"
    assert "preset" not in runs.summary(*found, "full")


def test_backbones_scored_on_other_images_are_not_compared() -> None:
    one = artefacts.run("a", artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO), TWO)
    other = artefacts.run("b", artefacts.answers(["cat", "cat"], ["cat", "cat"], TWO), TWO)
    runs.check([one, one], artefacts.MEASURE)
    with pytest.raises(DataError, match="'b' was scored on other test images than 'a'"):
        runs.check([one, other], artefacts.MEASURE)


def folded(backbone: str, accuracies: list[float], log_loss: float = 1.0) -> runs.Run:
    """Return a backbone that is right in three folds as often as `accuracies` say."""
    table = artefacts.answers(["cat", "dog", "dog"], ["cat", "dog", "dog"], TWO)
    found = artefacts.run(backbone, table, TWO, count=3)
    mean = sum(accuracies) / 3
    folds = found.folds | {"accuracy": accuracies, "accuracy_mean": mean, "log_loss_mean": log_loss}
    folds |= {"accuracy_mean_low": mean - 0.05, "accuracy_mean_high": mean + 0.05}
    return artefacts.run(backbone, table, TWO, metrics=found.metrics | {"folds": folds})


def test_the_ranking_over_folds_is_by_mean_accuracy_then_log_loss_then_name() -> None:
    found = [
        folded("d", [0.4, 0.5, 0.6]),
        folded("c", [0.8] * 3, 0.9),
        folded("b", [0.8] * 3, 0.4),
        folded("a", [0.8] * 3, 0.9),
    ]
    assert [run.backbone for run in runs.ranked_over_folds(found)] == ["b", "a", "c", "d"]
    assert runs.ranked_over_folds([scored("a", 0.7)]) == []


def test_the_summary_holds_mean_and_spread_only_where_there_are_folds() -> None:
    resampled = Resampled({"a": 1.0}, 0.6, Interval(0.5, 0.7))
    found = runs.summary([folded("a", [0.5, 0.6, 0.7])], None, resampled, artefacts.MEASURE)["a"]
    assert [key for key in found if key.startswith("folds_")] == ["folds_accuracy_mean", "folds_accuracy_sd"]
    assert found["folds_accuracy_mean"] == pytest.approx(0.6)


def test_backbones_with_other_folds_are_not_compared() -> None:
    table = artefacts.answers(["cat", "dog", "dog"], ["cat", "cat", "dog"], TWO)
    three, same, none = (artefacts.run(name, table, TWO, count=count) for name, count in (("a", 3), ("b", 3), ("c", 0)))
    moved = artefacts.run(
        "d", table.assign(file=table["file"].map({"0.jpg": "1.jpg", "1.jpg": "0.jpg", "2.jpg": "2.jpg"})), TWO, count=3
    )
    runs.check([three, same], artefacts.MEASURE)
    for other in (none, moved):
        with pytest.raises(DataError, match=f"'{other.backbone}' has other folds than 'a'; expected the same for all"):
            runs.check([three, other], artefacts.MEASURE)


def test_accuracies_in_each_fold_are_long() -> None:
    found = runs.fold_accuracies([folded("a", [0.5, 0.6, 0.7]), folded("b", [0.1, 0.2, 0.3])])
    assert found.to_numpy().tolist() == [
        ["a", 0, 0.5],
        ["a", 1, 0.6],
        ["a", 2, 0.7],
        ["b", 0, 0.1],
        ["b", 1, 0.2],
        ["b", 2, 0.3],
    ]


def test_learning_curves_are_long_with_the_backbone_first() -> None:
    found = runs.learning_curves([scored("a", 0.7), scored("b", 0.8)])
    assert list(found) == ["backbone", "phase", "epoch", "accuracy", "val_accuracy", "loss", "val_loss"]
    assert found.groupby("backbone").size().tolist() == [19, 19]
    assert set(found["phase"]) == {"head", "finetune"}


def test_what_was_not_trained_in_epochs_has_no_learning_curve() -> None:
    table = artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO)
    linear = artefacts.run("c", table, TWO, provenance=artefacts.provenance("c", TWO, 1000, "imagenet", "linear"))
    assert set(runs.learning_curves([scored("a", 0.7), linear])["backbone"]) == {"a"}
    empty = runs.learning_curves([linear])
    assert list(empty) == ["backbone", "phase", "epoch", "accuracy", "val_accuracy", "loss", "val_loss"]
    assert empty.empty


def test_a_network_is_frozen_unless_some_of_it_was_trained() -> None:
    table = artefacts.answers(["cat", "dog"], ["cat", "cat"], TWO)
    found = {
        kept: artefacts.run("a", table, TWO, provenance=artefacts.provenance("a", TWO, 1000, "imagenet", kept))
        for kept in ("linear", "dense", "unfrozen", "whole")
    }
    assert [kept for kept, run in found.items() if run.frozen] == ["linear", "dense"]
    assert all(kept in run.heads for kept, run in found.items())


def test_accuracies_hold_the_interval() -> None:
    found = runs.accuracies([scored("a", 0.75)])
    assert found.to_numpy().tolist() == [["a", 0.75, pytest.approx(0.7), pytest.approx(0.8)]]


def test_recalls_leave_out_a_class_without_images() -> None:
    classes = ("cat", "dog", "fox")
    found = artefacts.run("a", artefacts.answers(["cat", "cat", "dog"], ["cat", "dog", "fox"], classes), classes)
    assert runs.recalls([found]).to_numpy().tolist() == [["a", "cat", 0.5, 2], ["a", "dog", 0.0, 1]]


def test_training_shares_and_calibrations_are_long() -> None:
    found = artefacts.nine()[:2]
    shares = runs.training_shares(found)
    assert shares.groupby("backbone")["share"].apply(list).tolist() == [[0.1, 0.25, 0.5, 1.0]] * 2
    calibrations = runs.calibrations(found)
    assert calibrations.groupby(["backbone", "of"])["images"].sum().tolist() == [110] * 4
    assert calibrations.notna().all(axis=None)


def test_confusion_counts_the_actual_class_in_rows() -> None:
    table = artefacts.answers(["cat", "cat", "cat", "dog"], ["cat", "dog", "dog", "dog"], TWO)
    found = artefacts.run("a", table, TWO)
    assert runs.counts(found).tolist() == [[1, 2], [0, 1]]
    assert runs.shares(runs.counts(found))[0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_long_confusion_has_the_diagonal_and_what_is_not_zero() -> None:
    classes = ("cat", "dog", "fox")
    found = runs.confusion([artefacts.run("a", artefacts.answers(["cat", "dog"], ["cat", "cat"], classes), classes)])
    assert found[["actual", "predicted", "images", "share"]].to_numpy().tolist() == [
        ["cat", "cat", 1, 1.0],
        ["dog", "cat", 1, 1.0],
        ["dog", "dog", 0, 0.0],
        ["fox", "fox", 0, 0.0],
    ]


def test_shares_of_a_class_without_images_are_zero() -> None:
    assert runs.shares(np.array([[0, 0], [1, 3]])).tolist() == [[0, 0], [0.25, 0.75]]
