"""What a source lists: files with their labels, and rejects with their reasons."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

# The splits that a source may contain, by the names that people give them.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# The longest name of a file or folder on common file systems, bytes.
NAME_BYTES = 255
# Folders, in lower case, that systems put among other people's files: thumbnails, recycle bins, snapshots. Those whose
# names begin with a dot are hidden anyway.
_SYSTEM_FOLDERS = {
    "__macosx",  # the Finder, in archives
    "network trash folder", "temporary items",  # file servers for macOS
    "$recycle.bin", "recycler", "system volume information",  # Windows
    "@eadir", "#recycle", "#snapshot", "@tmp",  # Synology
    "@recycle", "@recently-snapshot",  # QNAP
    "lost+found",  # ext4
    "__pycache__",  # Python
}  # fmt: skip
# Files, in lower case, that they put there.
_SYSTEM_FILES = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",  # Windows
    "icon\r",  # the Finder
}  # fmt: skip

# Control characters, lone surrogates (a name that is not UTF-8), and separators of lines and paragraphs
# (general categories of Unicode): they break tables, pages and plots.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the source: where it can be read, and its path in the source, '/' between folders."""

    location: Path
    path: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be an image: where it is, its name relative to the source, its label.

    `split` is where the source itself puts it (one of `train`, `validation`, `test`) and `group` what the
    source says it belongs to (a person, a session); both are empty if the source does not say.
    """

    location: Path
    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry left out: its path relative to the source, the reason as 'kind: detail', and its label, if any."""

    path: str
    reason: str
    label: str = ""


def hidden_fault(name: str, *, is_folder: bool) -> str:
    """Return why a file or folder of this name is not among the images, or an empty string."""
    if name.startswith("."):
        return "hidden: the name begins with a dot"
    if name.lower() in (_SYSTEM_FOLDERS if is_folder else _SYSTEM_FILES):
        return f"hidden: {'a folder of the system, not of images' if is_folder else 'a file of the system'}"
    return ""


def normalize_label(label: str) -> str:
    """Return a label in Unicode's composed form (NFC): file systems of macOS store it decomposed."""
    return unicodedata.normalize("NFC", label)


def label_fault(label: str) -> str:
    """Return why `label` cannot be a class, which is a folder below data/raw, or an empty string."""
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
