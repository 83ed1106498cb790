"""What of a source DVC could not hash, told from names and kinds of files alone: DVC itself names few of them.

DVC hashes every file of a folder before `ingest` sees any. It follows links to files, but none to folders.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import DataError, require_machine
from stages.sources.encodings import is_escaped
from stages.sources.listing import NAME_BYTES

# Linux's PATH_MAX, in bytes with the NUL at the end: no longer path can be opened.
_LONGEST_PATH = 4096
# DVC needs time and stack for each level; no collection of images is nested like this.
_DEEPEST = 100
# Files of a kind that get a line of their own.
_NAMED = 10


@dataclass(frozen=True)
class _Obstacle:
    """What is wrong with a file that DVC stops at, what it should be instead, and what to do about it."""

    what: str
    expected: str
    remedy: str


_NAME = _Obstacle(
    "has a name that is not UTF-8",
    "names that DVC can record",
    "rename it, all such files at once with `convmv -f latin1 -t utf8 -r --notest FOLDER`",
)
_BROKEN = _Obstacle("is a link that leads nowhere", "links that lead to files", "remove it, or restore what it names")
_LOOP = _Obstacle("is a link that leads back to itself", "links that lead to files", "remove it")
_SPECIAL = _Obstacle("is a pipe, socket or device", "files, which DVC can read to their end", "remove it")
_UNREADABLE = _Obstacle("cannot be read", "files that you may read", "correct its permissions, or move it away")
_NESTED = _Obstacle(
    f"lies in more than {_DEEPEST} folders, or its path is too long", "folders that DVC can walk", "move it further up"
)
_IGNORES = _Obstacle("stops DVC", "no such file among the images", "remove it, or move it to the folder of the project")
_OTHER_PROJECT = _Obstacle(
    "makes the folder that it lies in another DVC project, in which DVC notices no changes",
    "images that belong to no other project",
    "remove it, or move the images out of that project",
)
# Why a file cannot be looked at, by the system's error number.
_BY_ERROR = {errno.ELOOP: _LOOP, errno.EACCES: _UNREADABLE}


def obstacles(source: Path) -> list[DataError]:
    """Return what would stop DVC at `source`, a file or folder, or hide changes from it; a line for each file.

    Of many files of a kind the last line gives the number. No file is opened.
    """
    found: dict[_Obstacle, list[str]] = {}
    for path, obstacle in _below(source):
        found.setdefault(obstacle, []).append(path)
    return [fault for obstacle, paths in found.items() for fault in _faults(source, obstacle, sorted(paths))]


def _faults(source: Path, obstacle: _Obstacle, paths: list[str]) -> Iterator[DataError]:
    place = f"data.source = '{source}'"
    for path in paths[:_NAMED]:
        inside = os.fsencode(os.path.relpath(path, source)).decode(errors="backslashreplace")
        named = place if path == str(source) else f"'{inside}' in {place}"
        yield DataError(f"{named} {obstacle.what}", obstacle.expected, obstacle.remedy)
    if (more := len(paths) - _NAMED) > 0:
        yield DataError(f"{more} more in {place}: each {obstacle.what}", obstacle.expected, obstacle.remedy)


def _below(source: Path) -> Iterator[tuple[str, _Obstacle]]:
    """Yield the path of each obstacle at and below `source`, and what it is."""
    obstacle = _of_target(str(source))
    if not obstacle and not os.access(source, os.R_OK):
        obstacle = _UNREADABLE
    if obstacle:
        yield str(source), obstacle
        return
    by_name = {".dvcignore": _IGNORES}
    if source.resolve().is_relative_to(Path.cwd()):
        by_name[".dvc"] = _OTHER_PROJECT
    folders = [(str(source), 0)] if source.is_dir() else []
    while folders:
        folder, depth = folders.pop()
        for entry in _entries(folder):
            if obstacle := by_name.get(entry.name) or _of_entry(entry, depth):
                yield entry.path, obstacle
            elif entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, depth + 1))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; none of an unreadable one, which DVC passes over and `ingest` rejects."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        require_machine(error)
        return []


def _of_entry(entry: os.DirEntry[str], depth: int) -> _Obstacle | None:
    if is_escaped(entry.name):
        return _NAME
    if entry.is_dir(follow_symlinks=False):
        return _of_folder(entry.path, depth)
    if entry.is_file(follow_symlinks=False) and os.access(entry.path, os.R_OK):
        return None
    return _of_target(entry.path)


def _of_folder(path: str, depth: int) -> _Obstacle | None:
    if depth >= _DEEPEST or len(os.fsencode(Path(path).absolute())) + NAME_BYTES >= _LONGEST_PATH:
        return _NESTED
    return _UNREADABLE if os.access(path, os.R_OK) and not os.access(path, os.X_OK) else None


def _of_target(path: str) -> _Obstacle | None:
    """Return what DVC would stop at in a path that may be a link; a link to a folder is not followed."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        # What is gone by now, unlike a link, stops nobody.
        return _BY_ERROR.get(error.errno or 0, _BROKEN) if os.path.lexists(path) else None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return _SPECIAL
    return None if stat.S_ISDIR(mode) or os.access(path, os.R_OK) else _UNREADABLE
