"""The texts of code and templates, collected as a gettext extractor would."""

import ast
from collections.abc import Iterator
from pathlib import Path

from stages.pages.language import ENGLISH
from stages.pages.templates import environment
from stages.statistics.resampled import METHOD

ROOT = Path(__file__).parents[2]
ROOMS = [ROOT / "stages" / room for room in ("pages", "report", "exports", "predict")]
# Functions that translate: how many of their first arguments are texts.
CALLS = {"say": 1, "say_plural": 2, "gettext": 1, "ngettext": 2}
# Texts that stage evaluate writes, and that the report translates.
WRITTEN = {(METHOD,)}


def texts() -> set[tuple[str, ...]]:
    """Return all texts of the report: (text,), or (singular, plural)."""
    return {*_of_code(), *_of_templates(), *WRITTEN}


def _of_code() -> Iterator[tuple[str, ...]]:
    for path in [*(path for room in ROOMS for path in room.rglob("*.py")), ROOT / "stages/compare.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                first = node.args[: CALLS[node.func.attr]]
                if all(isinstance(text, ast.Constant) and isinstance(text.value, str) for text in first):
                    yield tuple(text.value for text in first)


def _of_templates() -> Iterator[tuple[str, ...]]:
    found = environment(ROOMS[0], ENGLISH)
    for path in (path for room in ROOMS for path in room.rglob("*.j2")):
        for _, call, text in found.extract_translations(path.read_text(encoding="utf-8")):
            strings = text if isinstance(text, tuple) else (text,)
            # What is no text is a variable, whose texts stand elsewhere.
            if all(strings[: CALLS[call]]):
                yield strings[: CALLS[call]]
