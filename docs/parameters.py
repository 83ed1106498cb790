"""The reference of params.yaml: every key with its default and its meaning, from the file and its comments.

    python -m docs.parameters

Writes docs/parameters.md. The lines below `backbones` are no keys but names of the user's choice: docs/guide.md
explains them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PARAMS = Path("params.yaml")
PAGE = Path(__file__).parent / "parameters.md"
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: (?P<value>[^#\s][^#]*?))?(?: +# (?P<meaning>.*))?")
_INDENT = 2
# A heading stands above the section that it is keyed by.
_HEADINGS = {
    "preset": "The run and the images",
    "weights": "Networks and training",
    "audit": "Results, exports and the gate",
}
_OPENING = """\
# Parameters

Every key of [`params.yaml`](../params.yaml) with its default. `python -m stages.check` validates the whole file before
anything runs and reports every mistake at once: what it found, what it expected, and what to do.

`finetune.head.dropout` stands for the key `dropout` of `head` in section `finetune`, as in
`dvc exp run -S finetune.head.dropout=0.3`. What a change reruns is in [the guide](guide.md#what-reruns). This page is
written by `make docs`: edit the comments of `params.yaml` instead.
"""


class Entry(NamedTuple):
    """A key of params.yaml: its dotted name, its default as it is written there ("" for a section), its comment."""

    key: str
    default: str
    meaning: str


def entries(text: str) -> Iterator[Entry]:
    """Yield sections and keys in the order of the file, and none of the lines below `backbones`."""
    path: list[str] = []
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if not found:
            continue
        path = [*path[: len(found["indent"]) // _INDENT], found["key"]]
        if path[0] != "backbones" or len(path) == 1:
            yield Entry(".".join(path), found["value"] or "", found["meaning"] or "")


def page(text: str) -> str:
    """Return the Markdown page about a params.yaml that holds `text`."""
    return _OPENING + "".join(part for entry in entries(text) for part in _lines(entry))


def _lines(entry: Entry) -> Iterator[str]:
    """Yield a heading where one is due, and the row of the table; a group of keys without a comment needs none."""
    if entry.key in _HEADINGS:
        yield f"\n## {_HEADINGS[entry.key]}\n\n| key | default | meaning |\n|---|---|---|\n"
    if entry.default:
        yield f"| `{entry.key}` | `{entry.default}` | {_cell(entry.meaning)} |\n"
    elif entry.meaning:
        yield f"| **`{entry.key}`** | | {_cell(entry.meaning)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PARAMS.read_text(encoding="utf-8")), encoding="utf-8")
