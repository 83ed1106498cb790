"""How well the ranking before training predicted the result is said with its uncertainty, and what it is by."""

import math
from typing import Any

import pytest

from stages.core.builders.families import FAMILY_OF, SCRATCH
from stages.core.params import read
from stages.pages.language import ENGLISH
from stages.report.published import Published, published
from stages.report.ranking_agreement import RankingAgreement, ranking_agreement, tau
from tests.support import artefacts
from tests.support.contest import evidence
from tests.support.features import ROOT

WRONG = {"a": range(20), "b": range(10), "c": range(30), "d": range(40)}


def before(order: str, wrong: dict[str, range] | None = None) -> RankingAgreement:
    """Return what is said where a ranking had this order."""
    errors = wrong or WRONG
    kept = {name: "dense" for name in errors if name != "scratch"}
    found = evidence(errors, kept=kept, weights={"scratch": "none"})
    return ranking_agreement(artefacts.ranking(order), found.ranking, artefacts.MEASURE, ENGLISH)


def said(found: RankingAgreement) -> list[str]:
    return list(map(str, found.sentences))


def test_tau_is_that_of_an_example_worked_by_hand() -> None:
    # Of six pairs five are in the same order: (5 - 1) / 6; two orders of 24 agree as far in either direction by chance.
    statistic, p = tau([4, 3, 2, 1], [4, 3, 1, 2]) or (0, 0)
    assert (statistic, p) == (pytest.approx(4 / 6), pytest.approx(2 * 4 / 24))
    # One pair of three is tied in the second: (2 - 0) / sqrt(3 * 2).
    assert (tau([3, 2, 1], [2, 1, 1]) or (0, 0))[0] == pytest.approx(2 / math.sqrt(6))
    assert tau([1, 2, 3], [1, 1, 1]) is None


def test_both_scores_are_compared_with_the_test_accuracy() -> None:
    found = before("abcd")
    assert said(found)[0] == (
        "Kendall's tau-b over 4 backbones: 0.67 between probe accuracy and test accuracy (p = 0.333), "
        "0.67 between LogME and test accuracy (p = 0.333)."
    )
    assert "With so few backbones it is uncertain" in said(found)[1]
    assert len(found.sentences) == 2


def sized(builders: dict[str, str], parameters: list[int], **changes: Any) -> list[str]:
    """Return what is said of backbones a, b, ... of these builders and sizes, ranked before training as they are."""
    ranking = evidence({name: WRONG[name] for name in builders}).ranking
    by_name = {run.backbone: run for run in ranking}
    for (name, builder), size in zip(builders.items(), parameters, strict=True):
        by_name[name].provenance.update({"builder": builder, "parameters": size} | changes)
    return said(ranking_agreement(artefacts.ranking("".join(builders)), ranking, artefacts.MEASURE, ENGLISH))


KNOWN = {"a": "VGG16", "b": "ConvNeXtTiny", "c": "ResNet50", "d": "MobileNetV3Small"}


def test_size_and_published_accuracy_which_cost_nothing_are_compared_as_well() -> None:
    # Test accuracies fall from b, a, c to d; sizes agree in all six pairs, published accuracies in five of them.
    found = sized(KNOWN, [3, 4, 2, 1])
    size, accuracy = found[2:4]
    assert size == "Without looking at any image: 1.00 between the number of parameters and test accuracy (p = 0.083)."
    assert accuracy == (
        "0.67 between published ImageNet accuracy and test accuracy (p = 0.333) over the 4 backbones with published "
        "weights; over these, probe accuracy has 0.67."
    )


@pytest.mark.parametrize("changes", [{"arguments": {"alpha": 0.5}}, {"weights": {"source": "own.h5"}}])
def test_what_is_published_of_other_weights_or_arguments_says_nothing_of_these(changes: dict[str, Any]) -> None:
    found = sized(KNOWN, [3, 4, 2, 1], **changes)
    assert [text for text in found if "published" in text] == []


def test_each_builder_of_keras_has_published_figures() -> None:
    figures = read(ROOT / "stages/report/published.yaml")
    assert set(figures) == set(FAMILY_OF) - {SCRATCH}
    run = evidence({"a": range(3)}).ranking[0]
    for builder, row in figures.items():
        run.provenance["builder"] = builder
        assert published(run) == Published(**row)


def test_rows_have_the_ranks_before_and_after() -> None:
    rows = before("abcd").rows
    assert [(row.backbone, row.rank, row.rank_by_logme, row.final_rank) for row in rows] == [
        ("a", 1, 1, 2),
        ("b", 2, 2, 1),
        ("c", 3, 3, 3),
        ("d", 4, 4, 4),
    ]
    assert (rows[1].value, rows[1].final) == (pytest.approx(0.86), pytest.approx(0.9))
    assert list(before(["a", "scratch"], {"a": range(20), "scratch": range(30)}).before) == ["a"]


def test_a_backbone_without_frozen_features_is_named_and_left_out_of_tau() -> None:
    found = before(["a", "b", "c", "scratch"], {**WRONG, "scratch": range(50)})
    assert "over 3 backbones" in said(found)[0]
    assert said(found)[-1] == (
        "Without frozen features there is nothing to rank by before training, so tau leaves out scratch."
    )
    assert found.rows[-1].rank is None
    assert found.rows[-1].final_rank == 5


def test_where_the_linear_head_was_kept_only_the_images_differ() -> None:
    ranking = evidence(WRONG, kept={"c": "dense", "d": "unfrozen"}).ranking
    found = ranking_agreement(artefacts.ranking("abcd"), ranking, artefacts.MEASURE, ENGLISH)
    assert said(found)[-1] == (
        "The ranking before training is by linear heads, which b and a kept: there only the images differ before and "
        "after."
    )
    assert not any("linear head" in text for text in said(before("abcd")))


def test_of_two_backbones_nothing_is_said() -> None:
    (text,) = said(before("ab", {"a": range(3), "b": range(5)}))
    assert text.endswith("fewer than 3 backbones were ranked.")


def test_equal_scores_say_nothing() -> None:
    (text,) = said(before("abc", dict.fromkeys("abc", range(5))))
    assert text.endswith("all scores are equal.")
