"""One language: sentences with names and numbers in them, plurals, and how numbers and lists are written.

As with gettext, the English text is the key of its translation: in code that of a call of `say` or `say_plural`, in a
template that of `gettext` or `{% trans %}` (Jinja's i18n extension). It is written there word for word, so that
tests/pages/test_catalogues.py finds it and fails where a catalogue, such as es.po, has no translation.

Other people's text (names of classes, backbones and files) enters a sentence as `Name` or `Names`. It is never
translated, and each kind of output writes it so that it stays text (`pages.html`, `pages.markdown`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

# Written where a value is unknown.
UNKNOWN = "\N{EN DASH}"
# Ratios from here on are written without a decimal.
_WHOLE_FROM = 10
# A smaller p-value is written as less than this.
_LEAST_P = 0.001
# Decimals of a p-value in a table.
_P_DIGITS = 4


@dataclass(frozen=True)
class Name:
    """Other people's text in a sentence of ours."""

    text: str


@dataclass(frozen=True)
class Names:
    """Several of them, one at least; a sentence lists them as its language does."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """A sentence, or a part of one, in one language; `values` stand at the places `%(key)s` of `message`."""

    language: "Language"
    message: str
    values: "Mapping[str, Value]"

    def written(self, own: Callable[[str], str], name: Callable[[str], str]) -> str:
        """Return the whole for one kind of output: `own` writes our text there, `name` other people's."""
        return own(self.message) % {key: self._written(value, own, name) for key, value in self.values.items()}

    def __str__(self) -> str:
        """Return the whole where nothing is markup, such as a log."""
        return self.written(str, str)

    def _written(self, value: "Value", own: Callable[[str], str], name: Callable[[str], str]) -> str:
        if isinstance(value, Text):
            return value.written(own, name)
        if isinstance(value, Name):
            return name(value.text)
        if isinstance(value, Names):
            return self.language.listed(value.texts, name)
        return own(str(value))


Value = str | int | Name | Names | Text


# Each is itself alone: one of the same texts would be compared text by text.
@dataclass(frozen=True, eq=False)
class Language:
    """A language: its texts by the English ones, those of a number by the English singular, and its figures.

    `conjunction` is the word before the last of a list, which may depend on it. Numbers are grouped by `thousands` from
    `grouped_from` on. What no catalogue has stays English.
    """

    code: str
    messages: Mapping[str, str] = field(default_factory=dict, repr=False)
    plurals: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    conjunction: Callable[[str], str] = lambda _: "and"
    decimal: str = "."
    thousands: str = ","
    grouped_from: int = 1000

    def gettext(self, message: str) -> str:
        """Return the translation of `message`."""
        return self.messages.get(message, message)

    def ngettext(self, one: str, several: str, count: int) -> str:
        """Return the translation of `one` where `count` is 1, else of `several`."""
        return self.plurals.get(one, (one, several))[count != 1]

    def say(self, message: str, **values: Value) -> Text:
        """Return `message`, which must be written there word for word, in this language."""
        return Text(self, self.gettext(message), values)

    def say_plural(self, one: str, several: str, count: int, **values: Value) -> Text:
        """Return `one` or `several` in this language, depending on `count`, which is `%(count)s` in it."""
        return Text(self, self.ngettext(one, several, count), {"count": self.number(count), **values})

    def listed(self, names: tuple[str, ...], written: Callable[[str], str] = str) -> str:
        """Return one name or more as a list within a sentence, each as `written` writes it."""
        *others, last = map(written, names)
        return f"{', '.join(others)} {self.conjunction(names[-1])} {last}" if others else last

    def number(self, value: float | None, digits: int = 0) -> str:
        """Return a number with `digits` decimals; None is a dash."""
        if value is None:
            return UNKNOWN
        # Rounded first: what rounds to nothing has no sign.
        rounded = round(value, digits) + 0.0
        grouped = "," if abs(rounded) >= self.grouped_from else ""
        text = f"{rounded:{grouped}.{digits}f}"
        return text.translate(str.maketrans(",.-", f"{self.thousands}{self.decimal}\N{MINUS SIGN}"))

    def percent(self, share: float | None, digits: int = 1) -> str:
        """Return a fraction as a percentage."""
        return UNKNOWN if share is None else f"{self.number(100 * share, digits)} %"

    def share(self, value: float) -> str:
        """Return a fraction as a percentage with the decimals it needs, for a confidence: 0.95 is 95 %."""
        return f"{100 * value:g} %".replace(".", self.decimal)

    def points(self, difference: float) -> str:
        """Return a difference of two fractions as a number of percentage points with one decimal."""
        return self.number(100 * difference, 1)

    def figures(self, value: float | None) -> str:
        """Return a measured number with three significant digits and no exponent."""
        if value is None:
            return UNKNOWN
        digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 2
        return self.number(value, min(max(digits, 0), 6))

    def about(self, count: float) -> str:
        """Return an estimated number of images, rounded up to two significant digits: 24,416 is 25,000."""
        step = 10 ** max(0, int(np.floor(np.log10(max(count, 1)))) - 1)
        return self.number(step * math.ceil(count / step))

    def millions(self, value: float | None) -> str:
        """Return a count in millions."""
        return UNKNOWN if value is None else f"{self.figures(value / 1e6)} M"

    def factor(self, ratio: float) -> str:
        """Return how many times larger something is with two digits, or as a whole number: 9.04 is 9, 2.36 is 2.4."""
        whole = ratio >= _WHOLE_FROM or round(ratio, 1) == round(ratio)
        return self.number(ratio, 0 if whole else 1)

    def p_number(self, p: float) -> str:
        """Return a p-value for a table, with four decimals or as less than the smallest of these: `< 0.0001`."""
        least = 10**-_P_DIGITS
        return f"< {self.number(least, _P_DIGITS)}" if p < least else self.number(p, _P_DIGITS)

    def p_value(self, p: float) -> str:
        """Return a p-value, such as `p = 0.012` or `p < 0.001`."""
        return f"p < {self.number(_LEAST_P, 3)}" if p < _LEAST_P else f"p = {self.number(p, 3)}"


ENGLISH = Language("en")
