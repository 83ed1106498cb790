"""How the pages' figures are drawn: by Vega-Lite, once here and, where scripts run, again in the browser.

A figure is written in Altair. Vega draws it here, so that a page shows it where no script may run and on paper; with
`script` in the page the browser draws it again, as wide as there is room, and with tooltips. Text and axes
take the colour of the page (`currentColor`), marks those that its style sheet names: one drawing for light and dark.
The same numbers give the same bytes: here text is measured in a font that the library brings along.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt
import vl_convert
from altair.utils import schemapi
from markupsafe import Markup

from stages.pages.language import ENGLISH, Language

# Altair checks each part when it is made, too; `figure` has it check the whole.
schemapi.disable_debug_mode()

# Custom properties of page.html.j2.
RIGHT, WRONG, OTHER, TRAINING, PAGE = (f"var(--{name})" for name in ("right", "wrong", "other", "training", "page"))
INK = "currentColor"
DOTTED = [2, 3]
# Names of rows longer than this end in an ellipsis, pixels; the tables hold them in full.
_LONGEST_LABEL = 150
_FONT = "Liberation Sans"
_AS_WIDE = {"type": "fit-x", "contains": "padding"}


@dataclass(frozen=True)
class Figure:
    """One figure: its name in the page, what it shows for those who cannot see it, and how to draw it.

    `specification` is Vega-Lite's, without width and `config`; `drawing` is an `<svg>` element.
    """

    name: str
    label: str
    specification: dict[str, Any]
    drawing: Markup


def figure(
    name: str, label: object, drawn: alt.LayerChart | alt.Chart, width: int, language: Language = ENGLISH
) -> Figure:
    """Return a figure that is `width` pixels wide where no script runs."""
    specification = drawn.properties(description=str(label), width="container", autosize=_AS_WIDE).to_dict()
    del specification["config"]
    svg = vl_convert.vegalite_to_svg(specification | {"width": width, "config": config(language)})
    return Figure(name, str(label), specification, _inline(name, svg))


def chart(rows: list[dict[str, Any]]) -> alt.Chart:
    """Return a chart that holds `rows` as they are."""
    return alt.Chart(alt.InlineData(values=rows))


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """Return one chart of several over one another."""
    return alt.LayerChart(layer=list(charts))


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times each power of ten around a range of positive numbers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in (1, 2, 5)]


@cache
def script() -> str:
    """Return the program that draws figures in a browser: Vega, Vega-Lite and their embedding."""
    # Its stub forgets that there is a default.
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return bundle


def config(language: Language) -> dict[str, Any]:
    """Return what all figures have in common."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "font": _FONT,
        "background": "transparent",
        "view": {"stroke": None},
        "axis": text
        | {
            "labelLimit": _LONGEST_LABEL,
            "gridColor": INK,
            "gridOpacity": 0.13,
            "domainColor": INK,
            "domainOpacity": 0.4,
            "tickColor": INK,
            "tickOpacity": 0.4,
            "titlePadding": 8,
        },
        "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
        "legend": text | {"orient": "top", "title": None, "labelLimit": _LONGEST_LABEL, "symbolType": "circle"},
        "mark": {"color": INK},
        "rule": {"color": INK},
        "locale": {"number": _numbers(language)},
    }


def _numbers(language: Language) -> dict[str, Any]:
    """Return how numbers are written, for Vega (https://d3js.org/d3-format#formatLocale)."""
    return {
        "decimal": language.decimal,
        "thousands": language.thousands,
        "grouping": [3],
        "currency": ["", ""],
        "percent": "\N{NO-BREAK SPACE}%",
    }


def _inline(name: str, svg: str) -> Markup:
    """Return Vega's drawing for a page: as wide as there is room, its identifiers its own and in their order.

    Vega counts them on from figure to figure.
    """
    scaled = re.sub(r'^(<svg [^>]*?) width="(\d+)" height="\d+"', r'\1 style="width: \2px"', svg, count=1)
    known = dict.fromkeys(re.findall(r'id="((?:clip|gradient_)\d+)"', scaled))
    own = {identifier: f"{name}-{number}" for number, identifier in enumerate(known)}
    return Markup(  # noqa: S704 (Vega escapes what it draws)
        re.sub(r'(?:(?<=id=")|(?<=\(#))((?:clip|gradient_)\d+)', lambda found: own[found[1]], scaled)
    )
