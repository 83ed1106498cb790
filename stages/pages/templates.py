"""Pages and texts from templates: languages, escaping, and how names are written.

Names of classes, backbones and files are other people's text. A page shows them escaped (Jinja's
autoescape) and isolated from the direction of the text around them (`<bdi>`); Markdown shows them as code.
"""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from stages.core.errors import one_line
from stages.pages.language import ENGLISH, Language, Text

_FOLDER = Path(__file__).parent
# Joins characters into one, as in emoji of several parts: not printable, and harmless.
_JOINER = "\N{ZERO WIDTH JOINER}"
# Bidirectional classes of characters that turn the direction of what stands beside them (Unicode's annex 9).
_TURNING = {"R", "AL", "AN"}


@cache
def environment(folder: Path, language: Language) -> Environment:
    """Return the environment of a folder's templates and its sections', which may include those of this folder.

    They write `language` where they say `{% trans %}`.
    """
    found = Environment(
        loader=FileSystemLoader([folder, folder / "sections", _FOLDER]),
        extensions=["jinja2.ext.i18n"],
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.policies["ext.i18n.trimmed"] = True
    # Jinja adds this method to environments that have the extension.
    found.install_gettext_callables(language.gettext, language.ngettext, newstyle=True)  # type: ignore[attr-defined]
    found.globals["language"] = language
    numbers = ("number", "percent", "share", "points", "figures", "millions", "p_number")
    found.filters |= {name: getattr(language, name) for name in numbers}
    found.filters |= {"code": code, "span": span, "sentence": sentence, "html": html, "markdown": markdown}
    return found


def render(template: Path, language: Language = ENGLISH, **values: Any) -> str:
    """Fill a template with `values`."""
    return environment(template.parent, language).get_template(template.name).render(**values)


def html(text: Text | str) -> Markup:
    """Return a sentence for a page; names are bold, and isolated from the direction of the text around them.

    A text without names, such as a number, may be a plain string.
    """
    if isinstance(text, str):
        return escape(text)
    return Markup(text.written(lambda own: str(escape(own)), lambda name: f"<b><bdi>{escape(name)}</bdi></b>"))  # noqa: S704 (escaped)


def markdown(text: Text | str) -> str:
    """Return a sentence for Markdown, outside of tables; names are code."""
    return text if isinstance(text, str) else text.written(str, span)


def sentence(text: Text | str) -> str:
    """Return `text` with a capital at its beginning; the rest stays as it is, markup stays markup."""
    found = text if isinstance(text, str) else str(text)
    return found[:1].upper() + found[1:]


def code(name: object) -> str:
    """Return a name as a Markdown code span in a table: it stays one cell, whatever it holds."""
    return span(name).replace("|", "\\|")


def span(name: object) -> str:
    """Return a name as a Markdown code span in one line.

    https://github.github.com/gfm/#code-spans: the fence is longer than any run of backticks inside. What is read
    from right to left is isolated, or numbers beside it would change places.
    """
    text = printable(str(name))
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    turning = any(unicodedata.bidirectional(character) in _TURNING for character in text)
    before, after = ("\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}") if turning else ("", "")
    return f"{before}{fence}{padding}{text}{padding}{fence}{after}"


def printable(name: str) -> str:
    """Return a name without control characters; what joins several into one, as in emoji, stays."""
    return _JOINER.join(map(one_line, name.split(_JOINER)))
