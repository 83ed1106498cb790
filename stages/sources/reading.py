"""Reading `data.source`: one function for each kind of source, each with the same result.

A source lists files with their labels, and rejects with their reasons.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from stages.core.cost import Cost
from stages.core.decoding import Limits, UnusableError
from stages.core.errors import DataError, require_machine
from stages.core.files import scratch_folder
from stages.core.settings.data import DataParams
from stages.sources.archives import is_archive, unpacked
from stages.sources.disk_table import DiskTable, Listing
from stages.sources.folders import files_below, labelled, read_folder
from stages.sources.listing import File, Found, Reject
from stages.sources.members import TABLES, Budget
from stages.sources.remote import fetched
from stages.sources.tables import Locate, is_table, locate_below, read_table

# Where a source is fetched and unpacked.
SCRATCH = Path(".cache/source")

# Tables of Excel, LibreOffice and Numbers, most of them zip archives.
_WORKBOOKS = {".xlsx", ".xlsm", ".xls", ".ods", ".numbers"}

log = logging.getLogger(__name__)


def budget(params: DataParams) -> Budget:
    """Return the most that an archive or a URL may hold."""
    unpacking = Cost(params.max_unpack_minutes * 60, params.max_unpack_memory_gigabytes * 1e9)
    return Budget(
        params.max_megabytes * 1e6, params.max_unpacked_gigabytes * 1e9, params.max_fetch_minutes * 60, unpacking
    )


def cost(params: DataParams) -> Cost:
    """Return the most that reading one image may cost."""
    return Cost(params.max_seconds, params.max_memory_gigabytes * 1e9)


def limits(params: DataParams) -> Limits:
    """Return the limits that an image's header is checked against."""
    return Limits(params.min_pixels, params.max_megapixels * 1e6)


@contextmanager
def opened(source: str, checksum: str | None, budget: Budget) -> Iterator[Listing]:
    """Provide the content of the source; files fetched or unpacked for it are removed at the end.

    Raises DataError when it cannot be read, or does not match `checksum` ('sha256:...' or 'md5:...').
    """
    with scratch_folder(SCRATCH.name) as scratch:
        found, rejects = read_source(source, checksum, budget, scratch)
        _require_distinct(found)
        yield found, rejects


def local_path(source: str, expected: str = "a folder, an archive or a table of images") -> Path | None:
    """Return the path that `source` names on this machine, or None for a URL.

    Raises DataError, which says what was `expected`, unless it is a readable file or folder.
    """
    name = source.removeprefix("file://")
    if "://" in name:
        return None
    path = Path(name)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except (OSError, ValueError) as error:
        # A NUL in the path is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        is_missing = isinstance(error, FileNotFoundError)
        raise DataError(
            f"data.source = '{source}' " + ("does not exist" if is_missing else f"cannot be read ({reason})"),
            expected,
            "correct the path" if is_missing else "correct the path, or its permissions",
        ) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(
            f"data.source = '{source}' is a pipe, socket or device",
            expected,
            "correct the path",
        )
    return path


def read_file(location: Path, params: DataParams) -> bytes:
    """Return the content of a file. Raise UnusableError when it is empty, too large or unreadable."""
    try:
        size = location.stat().st_size
        if size > params.max_megabytes * 1e6:
            raise UnusableError(f"too large: {size / 1e6:.1f} MB, at most {params.max_megabytes:g}")
        data = location.read_bytes()
    except OSError as error:
        require_machine(error)
        raise UnusableError(f"unreadable: {error.strerror}") from error
    if not data:
        raise UnusableError("empty file: no bytes")
    return data


def read_source(source: str, checksum: str | None, budget: Budget, scratch: Path) -> Listing:
    """Return the content of the source; files fetched or unpacked for it are in `scratch`."""
    place = local_path(source) or fetched(source, scratch, budget)
    if isinstance(place, Path) and place.is_file():
        _verify(place, checksum, source)
        return _read_file(place, source, budget, scratch)
    if checksum:
        raise DataError(
            f"data.checksum is set, but data.source = '{source}' is not one file", "data.checksum: null", "empty it"
        )
    return _read_local_folder(place, source) if isinstance(place, Path) else _read_files(*place, source)


def _read_file(file: Path, source: str, budget: Budget, scratch: Path) -> Listing:
    """Read a single file: an archive, or a table that lies on this machine beside its images."""
    if file.suffix.lower() in _WORKBOOKS:
        raise DataError(
            f"data.source = '{source}' is a workbook", "a table in CSV or Parquet", "save it as CSV (UTF-8)"
        )
    if is_archive(file):
        members = scratch / "members"
        members.mkdir()
        return _read_files(*unpacked(file, source, members, budget), source)
    if file.is_relative_to(scratch):
        raise DataError(
            f"data.source = '{source}' is not an archive ({file.stat().st_size} bytes were received)",
            "a zip or tar archive of class folders, or of a table labels.csv and its images",
            "pack them together: a table alone, or a page that lists files, has no images",
        )
    if not is_table(file):
        raise DataError(
            f"data.source = '{source}' is a file of unknown kind",
            "a folder, a zip or tar archive, or a table named *.csv or *.parquet",
            "name the folder that holds the images",
        )
    log.warning(
        "DVC tracks only the table '%s': name the folder with the table in it as %s to have its images tracked too",
        source,
        " or ".join(TABLES),
    )
    return _read_beside(file, source)


def _read_local_folder(folder: Path, source: str) -> Listing:
    table = _table_among([name for name in TABLES if _is_file(folder / name)], source)
    return _read_beside(folder / table, source) if table else read_folder(folder)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        # A folder without permission to enter is reported when it is read.
        return False


def _read_beside(table: Path, source: str) -> Listing:
    """Read a table whose images lie below its folder, or have absolute paths."""
    return _read_table(table, source, locate_below(table.parent), files_below(table.parent)[0])


def _read_files(files: DiskTable[File], left_out: list[Reject], source: str) -> Listing:
    """Read what was unpacked or fetched: by the table at its top level, or by its folders."""
    top = _top(files)
    tables = {name: file.location for name in TABLES if (file := files.find(top + name))}
    if table := _table_among(list(tables), source):
        found, rejects = _read_table(tables[table], source, partial(_located, files, top), files)
    else:
        found, rejects = labelled(files, top)
    return found, left_out + rejects


def _located(files: DiskTable[File], top: str, path: str) -> Path | str:
    """Return where the image of a row is; its path is relative to the folder `top` of the table."""
    file = files.find(os.path.normpath(top + path))
    return file.location if file else "missing file: not in the archive, or left out of it"


def _read_table(table: Path, source: str, locate: Locate, beside: DiskTable[File]) -> Listing:
    """Read `table`; log how many of the files `beside` it, itself included, it does not list."""
    listed = DiskTable(File)

    def note(location: Path) -> None:
        listed.add(File(location, os.path.normpath(location)))

    def noted(path: str) -> Path | str:
        location = locate(path)
        if isinstance(location, Path):
            note(location)
        return location

    note(table)
    listing = read_table(table, source, noted)
    if others := sum(not listed.find(os.path.normpath(file.location)) for file in beside):
        log.info("%d files beside the table of '%s' are not listed in it, and are not part of the data", others, source)
    return listing


def _table_among(names: list[str], source: str) -> str:
    """Return the table at the top level of a source, or an empty string without one."""
    if len(names) > 1:
        raise DataError(f"data.source = '{source}' holds {' and '.join(names)}", "one of them", "remove the other")
    return names[0] if names else ""


def _top(files: DiskTable[File]) -> str:
    """Return the folder, with a slash, that holds all files, if it has classes, splits or a table in it."""
    top = ""
    while only := _only_folder(files, top):
        top += f"{only}/"
    return top


def _only_folder(files: DiskTable[File], top: str) -> str:
    """Return the folder below `top` that holds all files, or an empty string unless it has folders or a table in it."""
    only, holds_more = "", False
    for file in files:
        folder, *inside = file.path.removeprefix(top).split("/")
        if not inside or folder != (only or folder):
            return ""
        only = folder
        holds_more = holds_more or len(inside) > 1 or inside[0] in TABLES
    return only if holds_more else ""


def _verify(file: Path, checksum: str | None, source: str) -> None:
    """Raise DataError unless a file has the checksum that the user expects, if any."""
    if not checksum:
        return
    kind, _, expected = checksum.lower().partition(":")
    with file.open("rb") as opened_file:
        found = hashlib.file_digest(opened_file, kind).hexdigest()
    if found != expected:
        raise DataError(
            f"data.source = '{source}' has {kind} {found}",
            f"{kind} {expected}, as data.checksum says",
            "the file is damaged or not the expected one: fetch it again, or correct data.checksum",
        )


def _require_distinct(found: DiskTable[Found]) -> None:
    """Raise DataError for two classes that would share a folder on case-insensitive file systems."""
    labels: dict[str, str] = {}
    for label in found.distinct("label"):
        other = labels.setdefault(label.lower().strip(), label)
        if other != label:
            raise DataError(
                f"the classes '{other}' and '{label}' differ only in case or in blanks around them",
                "names that differ otherwise",
                "give both the same name, or another one",
            )
