"""What the comparison's figures have in common: the backbones, their colours, axes and tooltips.

Marks carry the `place` of their backbone in the ranking. Those in the parameter `hidden`, which the page sets when
its reader deselects backbones, are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from stages.pages.language import Language, Name
from stages.pages.templates import printable
from stages.pages.vega import OTHER, RIGHT, WRONG, chart
from stages.report.runs import Run

Row = dict[str, Any]
WHOLE, TENTHS, COUNT = ".0%", ".1%", ",d"


@dataclass(frozen=True)
class FigureContext:
    """The ranking, the backbone to highlight, if any, and the language."""

    ranking: Sequence[Run]
    chosen: str | None
    language: Language

    def place(self, run: Run) -> int:
        """Return a backbone's place in the ranking, from 1 on."""
        return 1 + [other.backbone for other in self.ranking].index(run.backbone)

    def row(self, run: Run, **values: Any) -> Row:
        """Return the data of a backbone's mark: `values` and which backbone it is."""
        kind = "chosen" if run.backbone == self.chosen else "from_scratch" if run.from_scratch else "other"
        return {"backbone": printable(run.backbone), "place": self.place(run), "kind": kind} | values

    def say(self, message: str, **names: str) -> str:
        """Return a sentence of ours in the language, with other people's `names` in it."""
        return str(self.language.say(message, **{key: Name(printable(name)) for key, name in names.items()}))

    def tooltip(self, *fields: alt.Tooltip) -> list[alt.Tooltip]:
        """Return the tooltip of a mark: its backbone, then `fields`."""
        return [alt.Tooltip("backbone:N", title=self.say("backbone")), *fields]

    def interval_tooltips(self) -> list[alt.Tooltip]:
        """Return the ends of an interval for a tooltip."""
        return [number_tooltip("low", self.say("from")), number_tooltip("high", self.say("to"))]


def number_tooltip(field: str, title: str, number: str = TENTHS) -> alt.Tooltip:
    """Return a number for a tooltip: a fraction as a percentage, unless `number` is another of d3's formats."""
    return alt.Tooltip(f"{field}:Q", title=title, format=number)


def visible(rows: list[Row]) -> alt.Chart:
    """Return a chart of rows without those of backbones that the reader has hidden; to be put into `filterable`."""
    return chart(rows).transform_filter("indexof(hidden, datum.place) < 0")


def filterable(whole: alt.LayerChart) -> alt.LayerChart:
    """Return `whole` with the parameter by which the page hides backbones."""
    return whole.add_params(alt.param("hidden", value=[]))


def row_per_backbone(rows: list[Row]) -> alt.Chart:
    """Return a chart with a row for each backbone, in the order of `rows`."""
    return visible(rows).encode(y=alt.Y("backbone:N").sort(None).title(None), color=colour())


def share_x(field: str, title: str) -> alt.X:
    """Return the horizontal axis of a fraction, in percent."""
    return alt.X(f"{field}:Q").title(title).scale(zero=False).axis(format=WHOLE, tickCount=6)


def share_y(field: str, title: str) -> alt.Y:
    """Return the vertical axis of a fraction, in percent."""
    return alt.Y(f"{field}:Q").title(title).scale(zero=False).axis(format=WHOLE, tickCount=6)


def colour() -> alt.Color:
    """Return the colours: one for the chosen backbone, one for those trained from scratch, one for the others."""
    kinds = alt.Scale(domain=["chosen", "from_scratch", "other"], range=[RIGHT, WRONG, OTHER])
    return alt.Color("kind:N", scale=kinds, legend=None)
