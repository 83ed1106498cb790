"""What a source lists: files with their labels, and what is left out with the reason."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

# The splits that a source may bring along, by the names that people give them.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# The longest name of a file or folder that common file systems take, bytes.
NAME_BYTES = 255

# Control characters, lone surrogates (a name that is not UTF-8), and separators of lines and paragraphs
# (general categories of Unicode): they would break tables, pages and plots.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the source: where it can be read, and its path in the source, '/' between folders."""

    location: Path
    path: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be an image: where it is, its name relative to the source, its label.

    `split` is the part that the source itself puts it into (one of `train`, `validation`, `test`) and
    `group` what the source says it belongs with (a person, a session); both are empty where it says nothing.
    """

    location: Path
    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """What is left out, by its path relative to the source, and why: 'kind: detail'; its label where it has one."""

    path: str
    reason: str
    label: str = ""


def one_form(label: str) -> str:
    """Return a label in one form, whether it was typed on a Mac (decomposed) or elsewhere (composed)."""
    return unicodedata.normalize("NFC", label)


def label_fault(label: str) -> str:
    """Return why `label` can be no class, which is a folder under data/raw; nothing where it can."""
    if not label.strip():
        return "no class: the label is empty"
    if any(unicodedata.category(character) in _UNPRINTABLE for character in label):
        return "class name: holds characters that cannot be printed"
    if "/" in label:
        return "class name: holds a slash"
    if label.startswith("."):
        return "class name: begins with a dot"
    if len(label.encode()) > NAME_BYTES:
        return f"class name: longer than {NAME_BYTES} bytes"
    return ""
