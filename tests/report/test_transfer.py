"""The gain by transfer learning is measured against a backbone that was trained from scratch."""

from collections.abc import Sequence
from typing import Any

import pytest

from stages.pages.language import ENGLISH
from stages.report.transfer import Transfer, transfer
from tests.support.contest import evidence

SHARES = (0.1, 0.5, 1.0)


def found(
    wrong: dict[str, Sequence[int]], accuracies: dict[str, Sequence[float]] | None = None, **weights: str
) -> Transfer | None:
    """Return what these backbones say; `accuracies` are those with each of `SHARES` of 300 images, or 200."""
    case = evidence(wrong, weights={"scratch": "none"} | weights)
    for run in case.runs:
        values = (accuracies or {}).get(run.backbone, ())
        run.metrics["shares"] = [
            {
                "share": share,
                "training_images": round((200 if run.from_scratch else 300) * share),
                "validation_images": 100 if run.from_scratch else 0,
                "accuracy": value,
            }
            for share, value in zip(SHARES, values, strict=bool(values))
        ]
        run.timings.update(head_seconds=4.0, finetune_seconds=30.5 if run.from_scratch else 0.0)
    return transfer(case.ranking, case.comparisons, ENGLISH)


def sentences(*arguments: Any, **weights: str) -> list[str]:
    result = found(*arguments, **weights)
    assert result
    return [str(text) for text in result.sentences]


def test_pretrained_backbones_that_are_better_are_counted_and_the_best_of_them_told_with_its_lead() -> None:
    assert sentences({"a": range(10), "b": range(12), "c": range(38), "scratch": range(40)})[0] == (
        "Transfer learning helped: 2 of 3 pretrained backbones are significantly better than scratch, which was "
        "trained on these images alone; a by 30.0 points (95 % interval 19.3 to 41.9, Holm-corrected p < 0.001)."
    )
    assert "1 of 1 pretrained backbones is significantly better" in sentences({"a": (), "scratch": range(40)})[0]


@pytest.mark.parametrize(("wrong", "said"), [(range(12), "could not be shown to help"), (range(40), "did not help")])
def test_no_better_backbone_is_no_help_shown_and_only_worse_ones_are_none(wrong: range, said: str) -> None:
    assert f"Transfer learning {said}" in sentences({"a": wrong, "scratch": range(10)})[0]


def test_training_times_are_told_beside_each_other() -> None:
    assert sentences({"a": (), "scratch": range(40)})[1] == (
        "Training took 4.00 s for a, on features that are computed once, and 34.5 s for scratch."
    )
    assert sentences({"a": (), "b": (), "scratch": range(40)})[1] == (
        "Training took from 4.00 to 4.00 s for 2 pretrained backbones, on features that are computed once, and 34.5 s "
        "for scratch."
    )


WRONG = {"a": range(10), "scratch": range(40)}


def test_how_both_do_with_the_fewest_images_is_told_with_all_that_they_use() -> None:
    (said,) = sentences(WRONG, {"a": (0.5, 0.7, 0.9), "scratch": (0.3, 0.5, 0.6)})[2:]
    assert said == (
        "With 10 % of the training images the linear head of a (30 images) is right on 50.0 % of the test images, "
        "scratch (20 images, and 100 more to stop by) on 30.0 %."
    )


def test_a_share_that_only_one_was_trained_on_is_not_told() -> None:
    case = evidence(WRONG, weights={"scratch": "none"})
    case.runs[0].metrics["shares"] = case.runs[0].metrics["shares"][1:]
    result = transfer(case.ranking, case.comparisons, ENGLISH)
    assert result
    assert str(result.sentences[-1]).startswith("With 25 % of the training images")
    case.runs[0].metrics["shares"] = []
    result = transfer(case.ranking, case.comparisons, ENGLISH)
    assert result
    assert not any("of the training images" in str(text) for text in result.sentences)


def test_without_shares_nothing_is_said_of_them() -> None:
    result = found(WRONG)
    assert result
    assert len(result.sentences) == 2
    assert result.shares == []
    assert [row.accuracies for row in result.rows] == [[], []]


def test_a_row_for_each_backbone_the_best_first_compares_it_with_that_from_scratch() -> None:
    accuracies = {"a": (0.5, 0.7, 0.9), "scratch": (0.3, 0.5, 0.6)}
    result = found(WRONG, accuracies)
    assert result
    assert result.from_scratch.backbone == "scratch"
    assert result.shares == [0.1, 0.5, 1.0]
    first, second = result.rows
    assert first.comparison
    assert (first.run.backbone, first.comparison.outcome, first.run.training_seconds) == ("a", "better", 4.0)
    assert first.comparison.difference == pytest.approx(0.3)
    assert (second.run.backbone, second.comparison, second.run.training_seconds) == ("scratch", None, 34.5)
    assert [row.accuracies for row in result.rows] == [list(accuracies["a"]), list(accuracies["scratch"])]


def test_random_weights_transfer_nothing() -> None:
    assert sentences({"a": (), "b": (), "scratch": range(40)}, a="random", b="random") == [
        "Nothing was transferred: a and b began with random weights."
    ]
    # Beside learnt ones they are no evidence for or against it.
    said = sentences({"a": (), "b": range(39), "scratch": range(40)}, a="random")
    assert "could not be shown to help" in said[0]


def test_of_linear_heads_no_time_is_told() -> None:
    solved = evidence({"a": (), "b": (), "scratch": range(40)}, weights={"scratch": "none"}, kept={"a": "linear"})
    for run in solved.runs:
        run.timings.update(head_seconds=0.0, finetune_seconds={"a": 0.0, "b": 7.0, "scratch": 30.0}[run.backbone])
        run.metrics["shares"] = []
    ranking = solved.ranking
    result = transfer(ranking, solved.comparisons, ENGLISH)
    assert result
    assert str(result.sentences[1]).startswith("Training took 7.00 s for b, on features")
    solved.runs[1].timings["finetune_seconds"] = 0.0
    result = transfer(ranking, solved.comparisons, ENGLISH)
    assert result
    assert str(result.sentences[1]) == (
        "Of the pretrained backbones only linear heads were fitted, on features that are computed once; training took "
        "30.0 s for scratch."
    )


@pytest.mark.parametrize("wrong", [range(12), range(40)])
def test_no_help_is_never_said_of_frozen_networks_without_saying_so(wrong: range) -> None:
    case = evidence(
        {"a": wrong, "b": wrong, "c": wrong, "scratch": range(10)},
        weights={"scratch": "none"},
        kept={"a": "linear", "c": "unfrozen"},
    )
    result = transfer(case.ranking, case.comparisons, ENGLISH)
    assert result
    assert str(result.sentences[1]) == (
        "No blocks of a and b were unfrozen: phase 2 (finetune.unfreeze.blocks) was not tried there, and may help."
    )
    case.runs[0].provenance["unfrozen"] = {"blocks": 9, "of": 18, "epochs": 4, "stopped": ""}
    result = transfer(case.ranking, case.comparisons, ENGLISH)
    assert result
    assert [str(text) for text in result.sentences[1:3]] == [
        "No blocks of b were unfrozen: phase 2 (finetune.unfreeze.blocks) was not tried there, and may help.",
        "Phase 2 was tried on a and lost on validation: the frozen network was kept.",
    ]


def test_where_transfer_learning_helped_or_all_was_unfrozen_frozen_networks_need_no_word() -> None:
    assert not any("unfrozen" in text for text in sentences({"a": (), "scratch": range(40)}))
    case = evidence({"a": range(40), "scratch": ()}, weights={"scratch": "none"}, kept={"a": "unfrozen"})
    result = transfer(case.ranking, case.comparisons, ENGLISH)
    assert result
    assert not any("unfrozen" in str(text) for text in result.sentences)


def test_without_both_kinds_there_is_nothing_to_compare() -> None:
    assert found({"a": (), "b": range(9)}) is None
    assert found({"scratch": ()}) is None


def test_of_several_backbones_from_scratch_the_better_one_is_compared_with() -> None:
    result = found({"a": (), "scratch": range(40), "other": range(30)}, other="none")
    assert result
    assert result.from_scratch.backbone == "other"
    assert [row.comparison and row.comparison.second for row in result.rows] == ["other", None, "other"]
