"""Pages and texts from templates: escaping, and how numbers and names are written.

Names of classes, backbones and files are other people's text. A page shows them escaped (Jinja's
autoescape) and isolated from the direction of the text around them (`<bdi>`); Markdown shows them as code.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from stages.errors import one_line

# Stands where nothing is known.
_UNKNOWN = "\N{EN DASH}"


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder with `values`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=percent, figures=figures, millions=millions, code=code, share=share, sentence=sentence
    )
    return environment.get_template(template).render(**values)


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal; nothing known is a dash."""
    return _UNKNOWN if value is None else f"{100 * value:.1f} %"


def share(value: float) -> str:
    """Return a share as a percentage for a confidence: 0.95 is 95 %."""
    return f"{100 * value:g} %"


def figures(value: float | None) -> str:
    """Return a measured number with three significant digits and no exponent."""
    if value is None:
        return _UNKNOWN
    digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 2
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def millions(value: float | None) -> str:
    """Return a count in millions."""
    return _UNKNOWN if value is None else f"{figures(value / 1e6)} M"


def sentence(text: str) -> str:
    """Return `text` with a capital at its beginning; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def code(name: object) -> str:
    """Return a name as a Markdown code span that stays one cell of a table, whatever it holds.

    https://github.github.com/gfm/#code-spans: the fence is longer than any run of backticks inside.
    """
    text = one_line(str(name)).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"
