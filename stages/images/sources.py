"""Where pictures come from: one function for each kind of source, each with the same result.

A source lists files and gives each a label. What it leaves out it lists too, with the reason.
"""

import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.errors import DataError, one_line

# Control characters, lone surrogates (a name that is not UTF-8), and separators of lines and paragraphs
# (general categories of Unicode): they would break tables, pages and plots.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


@dataclass(frozen=True)
class Found:
    """A file that may be a picture: where it is, its name relative to the source, its label.

    `split` is the part that the source itself puts it into (one of `train`, `validation`, `test`) and
    `group` what the source says it belongs with (a person, a session); both are empty where it says nothing.
    """

    location: Path
    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Reject:
    """What is left out, by its path relative to the source, and why: 'kind: detail'; its label where it has one."""

    path: str
    reason: str
    label: str = ""


def read_source(source: str) -> tuple[list[Found], list[Reject]]:
    """Return what lies in the source that the user named. Raise DataError when it cannot be read."""
    location = Path(source)
    if not location.exists():
        raise DataError(f"data.source = '{source}' does not exist", "a folder of pictures", "correct the path")
    if not location.is_dir():
        raise DataError(f"data.source = '{source}' is a file", "a folder of pictures", "name the folder that holds it")
    return read_folder(location)


def read_folder(root: Path) -> tuple[list[Found], list[Reject]]:
    """Return the files below `root`, sorted by path; the label is the folder that holds the file.

    Hidden names are left out, and links to folders, which may lead in circles.
    """
    found: list[Found] = []
    rejects: list[Reject] = []
    folders = [""]
    while folders:
        for item in _entries(root, folders.pop()):
            if isinstance(item, str):
                folders.append(item)
            elif isinstance(item, Found):
                found.append(item)
            else:
                rejects.append(item)
    return sorted(found, key=lambda item: item.path), sorted(rejects, key=lambda item: item.path)


def _entries(root: Path, inside: str) -> Iterator[str | Found | Reject]:
    """Yield what is directly in the folder `inside`: folders to read as names, files, what is left out."""
    try:
        names = sorted(entry.name for entry in (root / inside).iterdir())
    except OSError as error:
        yield Reject(one_line(f"{inside}/"), f"unreadable: {error.strerror}")
        return
    if not names:
        yield Reject(one_line(f"{inside}/"), "empty folder: nothing in it")
    for name in names:
        yield _entry(root, inside, f"{inside}/{name}" if inside else name)


def _entry(root: Path, inside: str, path: str) -> str | Found | Reject:
    try:
        mode = (root / path).stat().st_mode
    except OSError as error:
        return Reject(one_line(path), f"unreadable: {error.strerror}")
    is_folder = stat.S_ISDIR(mode)
    shown = one_line(f"{path}/" if is_folder else path)
    if Path(path).name.startswith("."):
        return Reject(shown, "hidden: the name begins with a dot")
    if is_folder:
        return Reject(shown, "link to a folder: not followed") if (root / path).is_symlink() else path
    if not stat.S_ISREG(mode):
        return Reject(shown, "not a file: a pipe, socket or device")
    return _labelled(root, inside, path)


def _labelled(root: Path, inside: str, path: str) -> Found | Reject:
    if not inside:
        return Reject(one_line(path), "no class: lies in no class folder")
    # One class whether the name was typed on a Mac (decomposed) or elsewhere (composed).
    label = unicodedata.normalize("NFC", Path(inside).name)
    if any(unicodedata.category(character) in _UNPRINTABLE for character in label):
        return Reject(one_line(path), "class name: the folder's name holds characters that cannot be printed")
    return Found(root / path, one_line(path), label)
