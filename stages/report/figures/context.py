"""What the comparison's figures have in common: which backbones there are, how they are told apart, their axes.

Marks carry the `place` of their backbone in the ranking. Those in the parameter `hidden`, which the page sets as its
reader chooses backbones, are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.pages.language import Language, Name
from stages.pages.templates import printable
from stages.pages.vega import OTHER, RIGHT, WRONG, chart
from stages.report.runs import Run

if TYPE_CHECKING:
    import altair as alt

Row = dict[str, Any]
WHOLE, TENTHS, COUNT = ".0%", ".1%", ",d"


@dataclass(frozen=True)
class Scene:
    """The ranking, the backbone to pick out, if any, and the language."""

    ranking: Sequence[Run]
    chosen: str | None
    language: Language

    def place(self, run: Run) -> int:
        """Return a backbone's place in the ranking, from 1 on."""
        return 1 + [other.backbone for other in self.ranking].index(run.backbone)

    def row(self, run: Run, **values: Any) -> Row:
        """Return what a mark of a backbone carries: `values` and who it is."""
        kind = "chosen" if run.backbone == self.chosen else "untaught" if run.untaught else "other"
        return {"backbone": printable(run.backbone), "place": self.place(run), "kind": kind} | values

    def say(self, message: str, **names: str) -> str:
        """Return a sentence of ours in the language, with other people's `names` in it."""
        return str(self.language.say(message, **{key: Name(printable(name)) for key, name in names.items()}))

    def hover(self, *fields: "alt.Tooltip") -> "list[alt.Tooltip]":
        """Return what a mark says under the pointer: its backbone, then `fields`."""
        import altair as alt

        return [alt.Tooltip("backbone:N", title=self.say("backbone")), *fields]

    def ends(self) -> "list[alt.Tooltip]":
        """Return what is said of an interval."""
        return [told("low", self.say("from")), told("high", self.say("to"))]


def told(field: str, title: str, number: str = TENTHS) -> "alt.Tooltip":
    """Return what is said of a number under the pointer, a share unless `number` is another format of d3's."""
    import altair as alt

    return alt.Tooltip(f"{field}:Q", title=title, format=number)


def chosen(rows: list[Row]) -> "alt.Chart":
    """Return a chart of rows, less those of backbones that the reader has hidden; a part of `choosable`."""
    return chart(rows).transform_filter("indexof(hidden, datum.place) < 0")


def choosable(whole: "alt.LayerChart") -> "alt.LayerChart":
    """Let the page say which backbones are hidden."""
    import altair as alt

    return whole.add_params(alt.param("hidden", value=[]))


def in_rows(rows: list[Row]) -> "alt.Chart":
    """Return a chart with a row for each backbone, in the order of `rows`."""
    import altair as alt

    return chosen(rows).encode(y=alt.Y("backbone:N").sort(None).title(None), color=colour())


def across(field: str, title: str) -> "alt.X":
    """Return the horizontal axis of a share."""
    import altair as alt

    return alt.X(f"{field}:Q").title(title).scale(zero=False).axis(format=WHOLE, tickCount=6)


def up(field: str, title: str) -> "alt.Y":
    """Return the vertical axis of a share."""
    import altair as alt

    return alt.Y(f"{field}:Q").title(title).scale(zero=False).axis(format=WHOLE, tickCount=6)


def colour() -> "alt.Color":
    """Return the colours: one for the chosen backbone, one for what was trained from nothing, one for the others."""
    import altair as alt

    kinds = alt.Scale(domain=["chosen", "untaught", "other"], range=[RIGHT, WRONG, OTHER])
    return alt.Color("kind:N", scale=kinds, legend=None)
