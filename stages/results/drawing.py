"""How the pages' figures are drawn: inline SVG, the same bytes for the same numbers, readable in light and dark.

Text and axes take the colour of the page (`currentColor`) and its font. Text stays text, which keeps
the figures small and lets the browser show any script.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree as ET

from stages.errors import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stands for `currentColor`, which Matplotlib does not know.
INK = "#010203"
BLUE, ORANGE, PURPLE = "#2f7fc1", "#d9822b", "#9a8fb8"
_SVG = "{http://www.w3.org/2000/svg}"
_LONGEST_NAME = 24


@contextmanager
def style() -> Iterator[None]:
    """Draw with Matplotlib's own defaults, whatever the user's are, and ours over them."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                "font.family": "DejaVu Sans",
                "font.size": 9,
                "text.color": INK,
                "axes.labelcolor": INK,
                "axes.edgecolor": INK,
                "axes.linewidth": 0.6,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "xtick.color": INK,
                "ytick.color": INK,
                "grid.color": INK,
                "grid.alpha": 0.13,
                "grid.linewidth": 0.7,
                "lines.linewidth": 1.5,
                "text.parse_math": False,
                "axes.formatter.use_mathtext": False,
                "axes.unicode_minus": False,
            }
        )
        yield


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> "Figure":
    """Return an empty figure; `width` and `height` in inches of 72 points."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def percent(axis: Any) -> None:
    """Label an axis of shares in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def short(name: str) -> str:
    """Return a name that leaves room for the figure; the tables hold it in full."""
    name = one_line(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def svg(figure: "Figure", salt: str, label: str) -> str:
    """Return the figure as an `<svg>` element for HTML, with `label` for those who cannot see it."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = salt
    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # The browser has fonts for scripts that Matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(target, format="svg", transparent=True, metadata=nothing)
    return _inline(target.getvalue(), one_line(label))


def _inline(document: str, label: str) -> str:
    """Return Matplotlib's document without prologue, sizes and names that nothing refers to."""
    ET.register_namespace("", _SVG.strip("{}"))
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(document)  # noqa: S314 (written by Matplotlib a line ago)
    used = set(re.findall(r"#([\w-]+)", document))
    for parent in list(root.iter()):
        if parent.attrib.get("id") not in used:
            parent.attrib.pop("id", None)
        for child in [child for child in parent if child.tag in (f"{_SVG}metadata", f"{_SVG}style")]:
            parent.remove(child)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.attrib.update({"role": "img", "aria-label": label, "style": f"width: {width / 72 * 96:.0f}px"})
    text = ET.tostring(root, encoding="unicode")
    return re.sub(r"\n\s*", "\n", text).replace(INK, "currentColor")
