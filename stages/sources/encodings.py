"""Names and tables that do not say how their text is encoded: UTF-8 where it is that, or else the likeliest code page.

A code page is a guess: the caller says so, lest a wrong one go unnoticed.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

# Code pages; of two that fit equally well the first is taken. Zip programs of DOS and Windows write the OEM code page
# (APPNOTE 6.3.10, appendix D, knows cp437 alone), other programs of Windows, and tar, the ANSI one or Latin-1.
OEM_PAGES = (
    "cp437", "cp850", "cp1252", "cp932", "cp866", "gbk", "big5", "cp949", "cp852", "cp1250", "cp1251", "mac_roman"
)  # fmt: skip
ANSI_PAGES = (
    "cp1252", "cp932", "cp1251", "gbk", "big5", "cp949", "cp1250", "mac_roman", "cp437", "cp850", "cp866", "cp852"
)  # fmt: skip
# Texts by which the code page is chosen.
_SAMPLE = 1000
# The first words of Unicode's names of letters, by the writing that they occur in together.
_WRITINGS = {
    "LATIN": "Latin",
    "CYRILLIC": "Cyrillic",
    "HANGUL": "Hangul",
    "CJK": "Han",
    "HIRAGANA": "Han",
    "KATAKANA": "Han",
    "KATAKANA-HIRAGANA": "Han",
    "IDEOGRAPHIC": "Han",
    "FULLWIDTH": "Han",
}
_WORD = re.compile(r"[^\W\d_]+")


def encoding_of(texts: Collection[bytes], pages: Sequence[str]) -> str:
    """Return the encoding of all `texts`: UTF-8 if they are that, or else the likeliest of `pages`.

    It is one for all of them, so that equal names stay equal. One of the `pages` has to fit any text.
    """
    if all(map(is_utf8, texts)):
        return "utf-8"
    sample = list(islice((text for text in texts if not text.isascii()), _SAMPLE))
    fitting = (page for page in pages if _fits(texts, page))
    return min(fitting, key=lambda page: sum(_oddness(text.decode(page)) for text in sample))


def is_utf8(text: bytes) -> bool:
    """Return whether `text` is valid UTF-8."""
    return _fits([text], "utf-8")


def is_escaped(name: str) -> bool:
    """Return whether the name of a file holds bytes that are not UTF-8, as Python has them (PEP 383)."""
    return not name.isascii() and any("\udc80" <= char <= "\udcff" for char in name)


def _fits(texts: Iterable[bytes], encoding: str) -> bool:
    try:
        for text in texts:
            text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _oddness(text: str) -> int:
    """Return how far a text is from what people write: symbols, mixed writings, capitals inside a word."""
    symbols = sum(not (char.isascii() or char.isalpha()) for char in text)
    return 2 * symbols + sum(points for word in _WORD.findall(text) if not word.isascii() for points in _faults(word))


def _faults(word: str) -> Iterator[int]:
    writings = [_writing(char) for char in word]
    yield len(set(writings)) - 1 + 2 * writings.count("")
    yield not (word.islower() or word.isupper() or word[1:].islower() or "Latin" not in writings)
    # A European word has more plain letters than others; Japanese read as Western text has not.
    yield set(writings) == {"Latin"} and 2 * sum(not char.isascii() for char in word) > len(word)


def _writing(char: str) -> str:
    """Return the writing of a letter, or an empty string for one that hardly occurs in a name."""
    return _WRITINGS.get(unicodedata.name(char, "").partition(" ")[0], "")
