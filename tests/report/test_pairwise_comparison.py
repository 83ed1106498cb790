"""Every pair is read from either side, and what the test set leaves open is called that."""

import pandas as pd
import pytest

from stages.core.measure import Measure
from stages.pages.catalogues import named
from stages.pages.language import ENGLISH
from stages.report.pairwise_comparison import PairwiseComparisons, matrix, sentence
from stages.statistics.pairwise import COLUMNS
from tests.support import artefacts

PAIRS = pd.DataFrame(
    [
        ("a", "b", 9, 4, 0.052, 0.02, 0.084, 0.001, 0.003),
        ("a", "c", 6, 5, 0.01, -0.02, 0.04, 0.4, 0.4),
        ("b", "c", 4, 8, -0.042, -0.08, 0.004, 0.03, 0.06),
    ],
    columns=list(COLUMNS),
)
COMPARISONS = PairwiseComparisons(PAIRS, artefacts.MEASURE, 0.95)
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("first", "second", "outcome"), [("a", "b", "better"), ("b", "a", "worse"), ("a", "c", "open"), ("c", "b", "open")]
)
def test_a_pair_has_one_outcome_seen_from_either_side(first: str, second: str, outcome: str) -> None:
    assert COMPARISONS.between(first, second).outcome == outcome


def test_seen_from_the_other_side_difference_and_interval_turn_round() -> None:
    comparison = COMPARISONS.between("b", "a")
    assert (comparison.only_first, comparison.only_second) == (4, 9)
    assert (comparison.difference, comparison.low, comparison.high) == (-0.052, -0.084, -0.02)
    assert (comparison.first, comparison.second, comparison.p_holm) == ("b", "a", 0.003)


def test_significant_is_what_the_corrected_p_value_says() -> None:
    edge = PAIRS.assign(p_holm=[0.05, 0.0500001, 0.05])
    assert [
        PairwiseComparisons(edge, artefacts.MEASURE, 0.95).between(*pair).outcome
        for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    ] == [
        "better",
        "open",
        "worse",
    ]
    assert PairwiseComparisons(PAIRS, artefacts.MEASURE, 0.999).between("a", "b").outcome == "open"


def test_ahead_is_what_the_pair_alone_would_say() -> None:
    assert COMPARISONS.better_uncorrected("c", "b")
    assert not COMPARISONS.better("c", "b")
    assert not COMPARISONS.better_uncorrected("b", "c")
    assert not COMPARISONS.better_uncorrected("a", "c")


def test_no_backbone_is_better_than_itself_and_one_alone_has_no_pairs() -> None:
    assert not COMPARISONS.better("a", "a")
    alone = PairwiseComparisons(PAIRS[:0], artefacts.MEASURE, 0.95)
    assert len(alone) == 0
    (row,) = matrix(["a"], alone, ENGLISH)
    assert (row.cells, row.better, row.worse) == ([None], 0, 0)


def test_the_matrix_has_a_row_and_a_column_for_each_backbone_in_the_order_given() -> None:
    rows = matrix(["c", "a", "b"], COMPARISONS, ENGLISH)
    assert [row.backbone for row in rows] == ["c", "a", "b"]
    assert [[cell and cell.comparison.second for cell in row.cells] for row in rows] == [
        [None, "a", "b"],
        ["c", None, "b"],
        ["c", "a", None],
    ]
    assert [(row.better, row.worse) for row in rows] == [(0, 0), (1, 0), (0, 1)]
    points = [[cell and cell.points for cell in row.cells] for row in rows]
    assert points == [[None, f"{MINUS}1.0", "+4.2"], ["+1.0", None, "+5.2"], [f"{MINUS}4.2", f"{MINUS}5.2", None]]


def test_a_cell_says_in_words_which_backbone_is_better_with_the_figures() -> None:
    pairs = [COMPARISONS.between(*pair) for pair in (("a", "b"), ("b", "a"), ("b", "c"))]
    assert [str(sentence(pair, COMPARISONS, ENGLISH)) for pair in pairs] == [
        "a is better than b by 5.2 points (95 % interval 2.0 to 8.4, Holm-corrected p = 0.003)",
        "b is worse than a by 5.2 points (95 % interval 2.0 to 8.4, Holm-corrected p = 0.003)",
        (
            f"b and c do not differ significantly: {MINUS}4.2 points "
            f"(95 % interval {MINUS}8.0 to 0.4, Holm-corrected p = 0.060)"
        ),
    ]
    assert str(sentence(COMPARISONS.between("a", "b"), COMPARISONS, named("es"))) == (
        "a supera a b en 5,2 puntos (intervalo del 95 %: de 2,0 a 8,4; p = 0,003 con la corrección de Holm)"
    )


def by_cost(low: float, high: float, p_holm: float) -> PairwiseComparisons:
    row = ("a", "b", 9, 4, 0.19, low, high, p_holm, p_holm)
    return PairwiseComparisons(pd.DataFrame([row], columns=list(COLUMNS)), Measure("cost"), 0.95)


def test_by_cost_a_difference_is_significant_only_if_its_interval_excludes_0() -> None:
    across = by_cost(-0.909, 1.29, 0.003)
    assert across.between("a", "b").outcome == across.between("b", "a").outcome == "open"
    assert not across.better_uncorrected("a", "b")
    assert str(sentence(across.between("b", "a"), across, ENGLISH)) == (
        f"b and a do not differ significantly, since the interval includes 0: {MINUS}0.190 "
        f"(95 % interval {MINUS}1.290 to 0.909, Holm-corrected p = 0.003)"
    )
    touching = by_cost(-0.0004, 0.38, 0.003)
    assert touching.better("a", "b")
    assert touching.better_uncorrected("a", "b")
    assert by_cost(0.01, 0.38, 0.06).between("a", "b").outcome == "open"


def test_by_accuracy_the_exact_test_decides_alone() -> None:
    pairs = PAIRS.assign(low=-0.01, high=0.2)
    assert PairwiseComparisons(pairs, artefacts.MEASURE, 0.95).better("a", "b")
    assert PairwiseComparisons(pairs, Measure("recall:cat"), 0.95).better("a", "b")
