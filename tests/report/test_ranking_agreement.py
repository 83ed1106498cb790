"""How well the ranking before training predicted the result is said with its uncertainty, and what it is by."""

import math

import pytest

from stages.pages.language import ENGLISH
from stages.report.ranking_agreement import RankingAgreement, ranking_agreement, tau
from tests.support import artefacts
from tests.support.contest import evidence

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
