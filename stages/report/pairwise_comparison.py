"""Pairwise comparisons: the table of all pairs (`pairwise.all_pairs`) read from either side, a matrix and text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from stages.core.measure import Measure
from stages.pages.language import Language, Name, Text, Value
from stages.report.measure_text import amount, figure

Outcome = Literal["better", "worse", "open"]
# An end of an interval that is no farther across 0 reads as 0.
_ROUNDING = 0.0005


@dataclass(frozen=True)
class Comparison:
    """Two backbones on the same test images, seen from the first one's side.

    `only_first` and `only_second` count the images that only that one gets right, or groups that it does better on
    (`Contest.only`). `difference` is by how much the first is better, such as its accuracy minus that of the second,
    `low` and `high` are the ends of its interval, `p` is its probability by chance and `p_holm` that, corrected for the
    number of pairs. `outcome`: the first is significantly better or worse, or the test set leaves it open.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    outcome: Outcome

    def reversed(self) -> "Comparison":
        """Return the same seen from the second one's side."""
        outcomes: dict[Outcome, Outcome] = {"better": "worse", "worse": "better", "open": "open"}
        return replace(
            self,
            first=self.second,
            second=self.first,
            only_first=self.only_second,
            only_second=self.only_first,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            outcome=outcomes[self.outcome],
        )


class PairwiseComparisons:
    """The comparisons of all pairs by a measure, at one confidence: by 0.95 a pair differs where p_holm <= 0.05.

    By a measure that is no share of right answers its interval must exclude 0 as well: the test knows only what the
    images have shown, the interval allows for what one more may add, such as the highest cost. That both are asked
    for makes false claims rarer.
    """

    def __init__(self, pairs: pd.DataFrame, measure: Measure, confidence: float) -> None:
        self.table, self.measure, self.confidence = pairs, measure, confidence
        self._found: dict[tuple[str, str], Comparison] = {}
        for row in pairs.to_dict("records"):
            values: dict[str, Any] = {str(key): value for key, value in row.items()}
            comparison = Comparison(**values, outcome="open")
            comparison = replace(comparison, outcome=self._outcome(comparison, comparison.p_holm))
            self._found[comparison.first, comparison.second] = comparison
            self._found[comparison.second, comparison.first] = comparison.reversed()

    def _outcome(self, comparison: Comparison, p: float) -> Outcome:
        if p > 1 - self.confidence or self.limited(comparison):
            return "open"
        return "better" if comparison.difference > 0 else "worse"

    def limited(self, comparison: Comparison) -> bool:
        """Return whether the interval includes 0, by a measure for which it decides as well."""
        return not self.measure.of_outcomes and comparison.low < -_ROUNDING and comparison.high > _ROUNDING

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._found) // 2

    def between(self, first: str, second: str) -> Comparison:
        """Return the comparison of two backbones, seen from the first one's side."""
        return self._found[first, second]

    def better(self, first: str, second: str) -> bool:
        """Return whether the first is significantly better than the second."""
        return first != second and self.between(first, second).outcome == "better"

    def better_uncorrected(self, first: str, second: str) -> bool:
        """Return whether the first would be significantly better than the second if this were the only pair."""
        comparison = self.between(first, second)
        return self._outcome(comparison, comparison.p) == "better"


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: the row's backbone against the column's.

    `points` is the difference with its sign, such as "+5.2" points; `sentence` has all its numbers, for a
    tooltip and for readers who do not see colours.
    """

    comparison: Comparison
    points: str
    sentence: Text


@dataclass(frozen=True)
class Row:
    """One backbone against all others: a cell for each column, None for itself.

    `better` counts the backbones that it is significantly better than, `worse` those that are better than it.
    """

    backbone: str
    cells: list[Cell | None]
    better: int
    worse: int


def matrix(ranking: Sequence[str], comparisons: PairwiseComparisons, language: Language) -> list[Row]:
    """Return a row for each backbone of `ranking`, with columns in the same order."""
    return [_row(backbone, ranking, comparisons, language) for backbone in ranking]


def _row(backbone: str, ranking: Sequence[str], comparisons: PairwiseComparisons, language: Language) -> Row:
    cells = [
        None if other == backbone else _cell(comparisons.between(backbone, other), comparisons, language)
        for other in ranking
    ]
    outcomes = [cell.comparison.outcome for cell in cells if cell]
    return Row(backbone, cells, outcomes.count("better"), outcomes.count("worse"))


def _cell(comparison: Comparison, comparisons: PairwiseComparisons, language: Language) -> Cell:
    points = signed(comparison.difference, comparisons.measure, language)
    return Cell(comparison, points, sentence(comparison, comparisons, language))


def signed(difference: float, measure: Measure, language: Language) -> str:
    """Return a difference with its sign, without its unit."""
    return f"{'+' if difference > 0 else ''}{figure(measure, difference, language)}"


def sentence(comparison: Comparison, comparisons: PairwiseComparisons, language: Language) -> Text:
    """Return one comparison as a sentence without its full stop, with its numbers."""
    better = comparison.reversed() if comparison.outcome == "worse" else comparison
    values: dict[str, Value] = {
        "first": Name(comparison.first),
        "second": Name(comparison.second),
        "amount": amount(comparisons.measure, better.difference, language),
        "figures": interval(better, comparisons, language),
    }
    if comparison.outcome == "better":
        return language.say("%(first)s is better than %(second)s by %(amount)s (%(figures)s)", **values)
    if comparison.outcome == "worse":
        return language.say("%(first)s is worse than %(second)s by %(amount)s (%(figures)s)", **values)
    values["sign"] = "+" if comparison.difference > 0 else ""
    if comparison.p_holm <= 1 - comparisons.confidence:
        return language.say(
            "%(first)s and %(second)s do not differ significantly, since the interval includes 0: %(sign)s%(amount)s "
            "(%(figures)s)",
            **values,
        )
    return language.say(
        "%(first)s and %(second)s do not differ significantly: %(sign)s%(amount)s (%(figures)s)", **values
    )


def interval(comparison: Comparison, comparisons: PairwiseComparisons, language: Language) -> Text:
    """Return the interval of a difference and its corrected p-value, to be put in brackets."""
    return language.say(
        "%(confidence)s interval %(low)s to %(high)s, Holm-corrected %(p)s",
        confidence=language.share(comparisons.confidence),
        low=figure(comparisons.measure, comparison.low, language),
        high=figure(comparisons.measure, comparison.high, language),
        p=language.p_value(comparison.p_holm),
    )
