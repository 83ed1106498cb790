"""Members of archives and of remote folders: which are accepted, by name, kind and size alone.

A member's name never becomes the name of a file on this machine: accepted members are stored under numbers.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from stages.core.cost import UNLIMITED, Cost
from stages.core.errors import one_line
from stages.sources.disk_table import DiskTable
from stages.sources.encodings import is_escaped
from stages.sources.listing import NAME_BYTES, File, Reject, hidden_fault

# A folder, archive or remote folder with one of these at its top level is read as that table.
TABLES = ("labels.csv", "labels.parquet")
# The longest path on Linux, bytes.
_PATH_BYTES = 4096


@dataclass(frozen=True)
class Budget:
    """The most that an archive or a URL may hold, in bytes (one file, and all together), and take to fetch, seconds.

    Unpacking an archive may cost `unpacking`.
    """

    file: float
    total: float
    seconds: float = math.inf
    unpacking: Cost = UNLIMITED


class MemberFilter:
    """Checks members one by one; collects the accepted ones, and the rejects with their reasons."""

    def __init__(self, budget: Budget) -> None:
        self.files = DiskTable(File)
        self._budget = budget
        self._folders: set[str] = set()
        self._filled: set[str] = set()
        self._hidden: dict[str, str] = {}
        self._rejects: list[Reject] = []

    def folder(self, name: str) -> None:
        """Note a folder; it becomes a reject if it turns out to be empty."""
        path = _plain(name)
        if path and not _name_fault(name) and not _hidden(f"{path}/"):
            self._folders.add(path)

    def takes(self, name: str, size: int, location: Path, fault: str = "") -> bool:
        """Return whether the member `name` of `size` bytes is accepted, to be stored at `location`.

        `fault` is what is wrong with its kind, if anything.
        """
        path = _plain(name)
        self._filled.update(_above(path))
        if fault := _name_fault(name) or fault:
            self._rejects.append(Reject(one_line(name), fault))
        elif hidden := _hidden(path):
            hidden_path, reason = hidden
            self._hidden[hidden_path] = reason
        elif fault := self._fault(path, size):
            self._rejects.append(Reject(one_line(path), fault))
        else:
            self.files.add(File(location, path))
            return True
        return False

    def rejects(self) -> list[Reject]:
        """Return the rejects, empty folders included."""
        hidden = [Reject(one_line(path), reason) for path, reason in self._hidden.items()]
        empty = [Reject(one_line(f"{path}/"), "empty folder: nothing in it") for path in self._folders - self._filled]
        return self._rejects + hidden + empty

    def _fault(self, path: str, size: int) -> str:
        if self.files.find(path):
            return "listed twice: an earlier member has the same name"
        # Ingest never decodes a table: it may be larger than any image.
        if path.rpartition("/")[2] in TABLES:
            return ""
        if size > self._budget.file:
            return f"too large: {size / 1e6:.1f} MB, at most {self._budget.file / 1e6:g}"
        # Millions of them take no room in an archive, but much on a disk.
        return "" if size else "empty file: no bytes"


def _plain(name: str) -> str:
    """Return `name` with '/' between its parts, and none empty or '.': tar writes './tree/1.jpg'.

    PowerShell 5 and .NET before 4.6.1 divide by backslashes, as do uploads of Windows's paths to a bucket.
    """
    return "/".join(part for part in _parts(name) if part not in ("", "."))


def _parts(name: str) -> list[str]:
    # In other encodings than UTF-8 the byte of a backslash may be the second half of a letter.
    return (name if is_escaped(name) else name.replace("\\", "/")).split("/")


def _above(path: str) -> list[str]:
    """Return the folders that `path` lies in."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _hidden(path: str) -> tuple[str, str] | None:
    """Return `path` up to its first hidden name, a folder with a slash, and the reason; None without one."""
    parts = path.split("/")
    for depth, part in enumerate(parts, start=1):
        if fault := hidden_fault(part, is_folder=depth < len(parts)):
            return "/".join(parts[:depth]) + ("/" if depth < len(parts) else ""), fault
    return None


def _name_fault(name: str) -> str:
    """Return why a name is rejected: it would never be used as a path here, but it is malicious."""
    parts = _parts(name)
    if "\0" in name:
        return "unsafe name: holds a NUL"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "unsafe name: an absolute path"
    if ".." in parts:
        return "unsafe name: leads out of the archive"
    size = len(name.encode(errors="surrogateescape"))
    if size > _PATH_BYTES or any(len(part.encode(errors="surrogateescape")) > NAME_BYTES for part in parts):
        return f"unsafe name: longer than {NAME_BYTES} bytes, or {_PATH_BYTES} with its folders"
    return "unsafe name: empty" if not _plain(name) else ""
