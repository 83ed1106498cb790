"""Who beats whom: the table of all pairs (`pairwise.all_pairs`), read from either side, as a matrix and in words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from stages.pages.language import Language, Name, Text, Value

Outcome = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Duel:
    """Two backbones on the same test images, seen from the first one's side.

    `difference` is the accuracy of the first minus that of the second, `low` and `high` are the ends of its interval,
    `p` is of McNemar's exact test and `p_holm` that, corrected for the number of pairs. `outcome`: the first is
    significantly better or worse, or the test set leaves it open.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    outcome: Outcome

    def turned(self) -> "Duel":
        """Return the same from the other one's side."""
        outcomes: dict[Outcome, Outcome] = {"better": "worse", "worse": "better", "open": "open"}
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            outcome=outcomes[self.outcome],
        )


class Duels:
    """The duels of all pairs at one confidence, such as 0.95: a pair differs where p_holm is at most 1 minus that."""

    def __init__(self, pairs: pd.DataFrame, confidence: float) -> None:
        self.confidence = confidence
        self._found: dict[tuple[str, str], Duel] = {}
        for row in pairs.to_dict("records"):
            values: dict[str, Any] = {str(key): value for key, value in row.items()}
            duel = Duel(**values, outcome=self._outcome(values["difference"], values["p_holm"]))
            self._found[duel.first, duel.second] = duel
            self._found[duel.second, duel.first] = duel.turned()

    def _outcome(self, difference: float, p_holm: float) -> Outcome:
        if p_holm > 1 - self.confidence:
            return "open"
        return "better" if difference > 0 else "worse"

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._found) // 2

    def between(self, first: str, second: str) -> Duel:
        """Return the duel of two backbones from the first one's side."""
        return self._found[first, second]

    def better(self, first: str, second: str) -> bool:
        """Say whether the first is significantly better than the second."""
        return first != second and self.between(first, second).outcome == "better"

    def ahead(self, first: str, second: str) -> bool:
        """Say whether the first would be significantly better than the second, were this the only pair."""
        duel = self.between(first, second)
        return duel.difference > 0 and duel.p <= 1 - self.confidence


@dataclass(frozen=True)
class Cell:
    """One field of the matrix: how the row's backbone does against the column's.

    `points` is the difference in percentage points with its sign, such as "+5.2"; `words` says all of it, for a
    tooltip and for those who do not see colours.
    """

    duel: Duel
    points: str
    words: Text


@dataclass(frozen=True)
class Row:
    """One backbone against all: a cell for each column, None for itself; how many it beats and is beaten by."""

    backbone: str
    cells: list[Cell | None]
    beats: int
    beaten: int


def matrix(ranking: Sequence[str], duels: Duels, language: Language) -> list[Row]:
    """Return a row for each backbone of `ranking`, with columns in the same order."""
    return [_row(backbone, ranking, duels, language) for backbone in ranking]


def _row(backbone: str, ranking: Sequence[str], duels: Duels, language: Language) -> Row:
    cells = [None if other == backbone else _cell(duels.between(backbone, other), duels, language) for other in ranking]
    outcomes = [cell.duel.outcome for cell in cells if cell]
    return Row(backbone, cells, outcomes.count("better"), outcomes.count("worse"))


def _cell(duel: Duel, duels: Duels, language: Language) -> Cell:
    return Cell(duel, signed(duel.difference, language), words(duel, duels, language))


def signed(difference: float, language: Language) -> str:
    """Return a difference in percentage points with its sign."""
    points = language.points(difference)
    return f"+{points}" if difference > 0 else points


def words(duel: Duel, duels: Duels, language: Language) -> Text:
    """Return one duel as a sentence without its full stop, with its figures."""
    better = duel.turned() if duel.outcome == "worse" else duel
    values: dict[str, Value] = {
        "first": Name(duel.first),
        "second": Name(duel.second),
        "points": signed(duel.difference, language) if duel.outcome == "open" else language.points(better.difference),
        "figures": interval(better, duels, language),
    }
    if duel.outcome == "better":
        return language.say("%(first)s beats %(second)s by %(points)s points (%(figures)s)", **values)
    if duel.outcome == "worse":
        return language.say("%(first)s is beaten by %(second)s by %(points)s points (%(figures)s)", **values)
    return language.say("%(first)s and %(second)s cannot be told apart: %(points)s points (%(figures)s)", **values)


def interval(duel: Duel, duels: Duels, language: Language) -> Text:
    """Return the interval of a duel's difference and its corrected p-value, as they stand in brackets."""
    return language.say(
        "%(confidence)s interval %(low)s to %(high)s, Holm-corrected %(p)s",
        confidence=language.share(duels.confidence),
        low=language.points(duel.low),
        high=language.points(duel.high),
        p=language.p_value(duel.p_holm),
    )
