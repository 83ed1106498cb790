"""What a finished comparison says, for the terminal: `python -P flows/answer.py`.

Read from the summary that stage compare has written, in its language, so that it is the same when everything was
cached: the verdict, what it warns of, and where the page is. It imports nothing, and starts at once.
"""

import re
from pathlib import Path

SUMMARY, PAGE = Path("data/report/comparison.md"), Path("data/report/comparison.html")

_ITEM = "- "
# A code span, which may be fenced by several backticks and padded by a blank (CommonMark 6.1).
_CODE = re.compile(r"(`+) ?(.+?) ?\1(?!`)")


def answer() -> list[str]:
    """Return the verdict, each warning, and the path of the page, a line each; none without a summary."""
    if not SUMMARY.is_file():
        return []
    lines = [line for line in SUMMARY.read_text(encoding="utf-8").splitlines() if line]
    verdict = next((number for number, line in enumerate(lines) if line.startswith("**")), None)
    if verdict is None:
        return []
    return [_plain(lines[verdict].strip("*")), *map(_plain, _warnings(lines[verdict + 1 :])), str(PAGE)]


def _warnings(lines: list[str]) -> list[str]:
    """Return the items below the sentence that introduces warnings; those before it are notes on the verdict."""
    end = next((number for number, line in enumerate(lines) if line.startswith("|")), len(lines))
    start = next((number for number, line in enumerate(lines[:end]) if not line.startswith(_ITEM)), end)
    return [line.removeprefix(_ITEM) for line in lines[start + 1 : end]]


def _plain(text: str) -> str:
    """Return Markdown as plain text."""
    return _CODE.sub(r"\2", text)


if __name__ == "__main__":
    print("\n".join(answer()))
