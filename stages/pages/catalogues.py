"""The languages that a report can be in, and how their catalogues are read."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from stages.pages.language import ENGLISH, Language

_SPANISH = Path(__file__).with_name("es.po")
_LINE = re.compile(r'(?:(msgid|msgid_plural|msgstr(?:\[[01]\])?) )?"(.*)"')


def named(code: str) -> Language:
    """Return the language of this code, "en" or "es"."""
    return ENGLISH if code == "en" else _spanish()


@cache
def _spanish() -> Language:
    """Return Spanish, with numbers as the Real Academia Española writes them (Ortografía, 2010).

    Decimals follow a comma; from five figures on thousands are apart.
    """
    messages, plurals = read(_SPANISH.read_text(encoding="utf-8"))
    return Language("es", messages, plurals, _spanish_and, ",", "\N{NO-BREAK SPACE}", 10_000)


def _spanish_and(following: str) -> str:
    """Return "e" before the sound of an i, else "y" (Diccionario panhispánico de dudas, "y")."""
    return "e" if re.match(r"h?[ií](?![aeo])", following, re.IGNORECASE) else "y"


def read(catalogue: str) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Return the messages, and those with a plural by their singular, of a catalogue in gettext's text form.

    https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html, without contexts. Python reads the binary form
    alone, which would have to be made and kept beside this one by a tool that nothing else here needs.
    """
    messages, plurals = {}, {}
    for entry in _entries(catalogue):
        if "msgid_plural" in entry:
            plurals[entry["msgid"]] = (entry["msgstr[0]"], entry["msgstr[1]"])
        else:
            messages[entry["msgid"]] = entry["msgstr"]
    return messages, plurals


def _entries(catalogue: str) -> Iterator[dict[str, str]]:
    """Yield each entry's strings by their keyword; the first one, of no message, is the catalogue's header."""
    entry: dict[str, str] = {}
    keyword = ""
    for number, line in enumerate(catalogue.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found:
            raise ValueError(f"line {number} of a catalogue is no string: {line}")
        if found[1] == "msgid" and entry:
            yield entry
            entry = {}
        keyword = found[1] or keyword
        entry[keyword] = entry.get(keyword, "") + json.loads(f'"{found[2]}"')
    yield entry
