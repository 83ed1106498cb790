"""What a finished comparison says, for the terminal: `python -P flows/answer.py`.

Read from the summary that stage compare has written, in its language, so that it is the same when everything was
cached: the verdict, how sure it is, what it warns of, what to do next, and where the page is. It imports the standard
library alone, and starts at once. How a single stage ended is said by `Outcome` in flows/dvc.py.
"""

import re
from pathlib import Path

SUMMARY, PAGE = Path("data/report/comparison.md"), Path("data/report/comparison.html")

_ITEM, _BOLD = "- ", "**"
# The first notes on the verdict are shown: mostly the score with its interval, and how often other test images choose
# the same; or why there is nothing to choose.
_NOTES = 2
# A code span, which may be fenced by several backticks and padded by a blank (CommonMark 6.1).
_CODE = re.compile(r"(`+) ?(.+?) ?\1(?!`)")


def answer() -> list[str]:
    """Return the verdict, its first notes, what it warns of, the next command, and the path of the page, a line each.

    There is none without a summary.
    """
    if not SUMMARY.is_file():
        return []
    lines = [line for line in SUMMARY.read_text(encoding="utf-8").splitlines() if line]
    verdict = next((number for number, line in enumerate(lines) if line.startswith(_BOLD)), None)
    if verdict is None:
        return []
    end = next((number for number, line in enumerate(lines) if line.startswith("|")), len(lines))
    return [*map(_plain, _said(lines[verdict:end])), str(PAGE)]


def _said(lines: list[str]) -> list[str]:
    """Return the verdict, the warning of its preset, the first notes on it, all other warnings, and what to do next.

    Below the bold lines stands what to do next, with notes on the verdict; and where there are warnings a sentence that
    introduces them.
    """
    bold = [line.strip("*") for line in lines if line.startswith(_BOLD)]
    paragraphs = [number for number, line in enumerate(lines) if not line.startswith((_BOLD, _ITEM))]
    first, second, *_ = [*paragraphs, len(lines), len(lines)]
    notes, warnings = lines[first + 1 : second][:_NOTES], lines[second + 1 :]
    return [*bold, *(line.removeprefix(_ITEM) for line in [*notes, *warnings]), *lines[first : first + 1]]


def _plain(text: str) -> str:
    """Return Markdown as plain text."""
    return _CODE.sub(r"\2", text)


if __name__ == "__main__":
    print("\n".join(answer()))
