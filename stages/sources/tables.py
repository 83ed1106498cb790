"""Tables of images: CSV or Parquet with the columns path, label and, optionally, split and group."""

import codecs
import csv
import logging
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path

from stages.core.addresses import redacted
from stages.core.errors import DataError, one_line
from stages.core.params import nearest
from stages.sources.disk_table import DiskTable, Listing
from stages.sources.encodings import ANSI_PAGES, encoding_of, is_utf8
from stages.sources.listing import SPLITS, Found, Reject, label_fault, normalize_label

NEEDED = ("path", "label")
OPTIONAL = ("split", "group")

# The first bytes of a Parquet file (Apache Parquet, File Format).
_PARQUET = b"PAR1"
# What may divide the columns: Excel writes semicolons where the comma is the decimal mark, tabs as "Unicode text".
_DELIMITERS = (",", ";", "\t", "|")
# Encodings by the bytes that a table begins with: marks of the byte order.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Lines by which the encoding of other tables is guessed, and characters of one of them that a warning shows.
_SAMPLE, _SHOWN = 1000, 60
# A first line that is no header: Excel's choice of delimiter, PowerShell's type of the rows.
_PREAMBLE = re.compile(r"(?i)sep=.\s*$|#TYPE ")
# A URL in place of a path (RFC 3986, 3.1).
_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")
# Names of other columns, in small letters without marks, that mean one of ours. An image's URL is no path.
_MEANING = {
    "path": re.compile("(path|file|image|img|picture|photo)s?(path|file|name|id|index)*"),
    "label": re.compile(
        "(label|class|target|categor(y|ie)|finding|diagnos[ei]s|pose|species|breed)(e?s)?(label|name|id)?s?"
    ),
    "group": re.compile(
        "(group|patient|subject|person|participant|individual|identity|donor|animal|case|study|series|session|visit|exam|"
        "site|hospital|cent(er|re)|location|slide|specimen|video|clip|sequence|scene|camera)s?"
        "(id|uid|no|nr|number|name|code|key|index)?"
    ),
}
# More rows than any folder of images has files.
_MAX_ROWS = 2_000_000

log = logging.getLogger(__name__)

# Returns where the file of a row is, or why there is none.
Locate = Callable[[str], Path | str]
Texts = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table, by its number. `path` is equal for rows that name the same file."""

    number: int
    path: str
    shown: str
    location: Path
    label: str
    split: str
    group: str


def is_table(path: Path) -> bool:
    """Return whether a file is a table: Parquet by content or name, CSV by name."""
    return _is_parquet(path) or path.suffix.lower() in {".csv", ".parquet"}


def read_table(table: Path, source: str, locate: Locate) -> Listing:
    """Return the rows of `table` whose images `locate` finds, and a reject for each of the others.

    Raises DataError when it is not a table, lacks a column or names an unknown split.
    """
    rows = DiskTable(_Row)
    rejects: list[Reject] = []
    number = 0
    for number, texts in enumerate(_texts(table, source), start=1):
        item = _row(texts, number, source, locate)
        if isinstance(item, _Row):
            rows.add(item)
        else:
            rejects.append(item)
    if not number:
        raise DataError(f"the table of data.source = '{source}' has no rows", "one row per image", "add them")
    found, doubles = _once(rows)
    return found, rejects + doubles


def locate_below(folder: Path) -> Locate:
    """Return a function that finds a row's file by its path, absolute or relative to `folder`."""

    def locate(path: str) -> Path | str:
        location = folder / path
        try:
            mode = location.stat().st_mode
        except PermissionError as error:
            return f"unreadable: {error.strerror}"
        except OSError as error:
            return f"missing file: {error.strerror}"
        if stat.S_ISDIR(mode):
            return "not a file: a folder"
        return location if stat.S_ISREG(mode) else "not a file: a pipe, socket or device"

    return locate


def _row(texts: Texts | str, number: int, source: str, locate: Locate) -> _Row | Reject:
    """Return a row of the table, or why it is left out."""
    if isinstance(texts, str):
        return Reject(f"row {number}", texts)
    path, label = texts["path"], normalize_label(texts["label"].strip())
    split = _split(texts.get("split", ""), number, source)
    shown = one_line(path) or f"row {number}"
    if not path.strip() or "\0" in path:
        return Reject(
            shown, "missing file: its path holds a NUL" if "\0" in path else "missing file: the path is empty"
        )
    location = _located(path, locate)
    if isinstance(location, str):
        _require_path(path, number, source)
        return Reject(shown, location)
    if fault := label_fault(label):
        return Reject(shown, fault)
    group = one_line(texts.get("group", "").strip())
    return _Row(number, os.path.normpath(location), shown, location, label, split, group)


def _require_path(path: str, number: int, source: str) -> None:
    """Raise DataError when a row names an address: all rows would be missing files, with no word of the reason."""
    if _ADDRESS.match(path):
        raise DataError(
            f"row {number} of the table of data.source = '{source}' names the address '{path.strip()}'",
            "the path of a file, relative to the table or absolute",
            "download the images, and name the files: addresses in a table are not fetched",
        )


def _located(path: str, locate: Locate) -> Path | str:
    """Return where the file of a row is, by its path as it stands or as another system would write it."""
    first = locate(path)
    slashes = path.strip().replace("\\", "/")
    others = (path.strip(), slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes))
    locations = (first, *map(locate, others)) if isinstance(first, str) else (first,)
    return next((location for location in locations if isinstance(location, Path)), first)


def _split(text: str, number: int, source: str) -> str:
    name = text.strip().lower()
    if name and name not in SPLITS:
        raise DataError(
            f"row {number} of the table of data.source = '{source}' has the split '{text}'",
            f"one of {', '.join(SPLITS)}, or an empty cell",
            nearest(name, list(SPLITS)) or "correct it, or empty it",
        )
    return SPLITS[name] if name else ""


def _once(rows: DiskTable[_Row]) -> Listing:
    """Return each file once; one with two labels is left out under both."""
    found = DiskTable(Found)
    rejects: list[Reject] = []
    for _, same in groupby(rows, key=lambda row: row.path):
        first, *others = same
        labels = list(dict.fromkeys(row.label for row in (first, *others)))
        if len(labels) > 1:
            names = " and ".join(f"'{label}'" for label in labels)
            reason = f"two labels: the table has it under {names}"
            rejects += [Reject(row.shown, reason) for row in (first, *others)]
        else:
            found.add(Found(first.location, first.shown, first.label, first.split, first.group), first.number)
            rejects += [Reject(row.shown, "listed twice: an earlier row names the same file") for row in others]
    return found, rejects


# Reading ------------------------------------------------------------------------------------------------


def _texts(table: Path, source: str) -> Iterator[Texts | str]:
    """Yield the known columns of each row as text, or the fault of the row."""
    try:
        yield from (_parquet_rows if _is_parquet(table) else _csv_rows)(table, source)
    except DataError:
        raise
    except Exception as error:  # pyarrow and csv raise nearly anything for other files.
        raise DataError(
            f"the table of data.source = '{source}' cannot be read ({error or type(error).__name__})",
            "a table in CSV or Parquet",
            "save it again, as CSV in UTF-8",
        ) from error


def _is_parquet(table: Path) -> bool:
    with table.open("rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _csv_rows(table: Path, source: str) -> Iterator[Texts | str]:
    with table.open(encoding=_encoding(table, source), newline="") as file:
        first = next(file, "")
        if _PREAMBLE.match(first):
            first = next(file, "")
        delimiter = _delimiter(first)
        reader = _reader(chain([first], file), delimiter)
        header = _stripped(next(reader, []))
        known = _columns(header, source)
        for number, fields in enumerate(filter(None, reader), start=1):
            _require_few(number, source)
            if len(fields) == len(header):
                yield {name: fields[header.index(name)] for name in known}
            else:
                yield f"broken row: {len(fields)} fields, the header has {len(header)}"


def _encoding(table: Path, source: str) -> str:
    """Return the encoding of a CSV table; log it if it is a guess."""
    with table.open("rb") as file:
        head = file.read(4)
        for mark, encoding in _MARKS.items():
            if head.startswith(mark):
                return encoding
        if b"\0" in head[:2]:
            return "utf-16-be" if head.startswith(b"\0") else "utf-16-le"
        file.seek(0)
        if all(map(is_utf8, file)):
            return "utf-8"
        file.seek(0)
        sample = list(islice((line for line in file if not is_utf8(line)), _SAMPLE))
    encoding = encoding_of(sample, ANSI_PAGES)
    log.warning(
        "the table of '%s' is not UTF-8: it is read as %s, such as '%s'; if that is wrong, save it as UTF-8",
        redacted(source), encoding, one_line(sample[0].decode(encoding).strip()[:_SHOWN]),
    )  # fmt: skip
    return encoding


def _delimiter(first: str) -> str:
    """Return what divides the columns of the header `first`."""
    found = (mark for mark in _DELIMITERS if set(NEEDED) <= set(_header(first, mark)))
    # Where none divides it into the columns needed, the message names those that there are.
    return next(found, max(_DELIMITERS, key=first.count))


def _header(first: str, delimiter: str) -> list[str]:
    """Return the names in the header `first`, divided by `delimiter`; none if it then has a quote inside a field."""
    try:
        return _stripped(next(_reader([first], delimiter), []))
    except csv.Error:
        return []


def _reader(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    # The csv module knows no blanks behind a quoted field.
    behind = re.compile(rf'(?<!")" +(?={re.escape(delimiter)}|[\r\n]*$)')
    return csv.reader(
        (behind.sub('"', line) for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True
    )


def _stripped(names: Iterable[str]) -> list[str]:
    return [name.strip() for name in names]


def _parquet_rows(table: Path, source: str) -> Iterator[Texts | str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(table) as opened:
        header = _stripped(opened.schema_arrow.names)
        known = _columns(header, source)
        names = [opened.schema_arrow.names[header.index(name)] for name in known]
        _require_few(opened.metadata.num_rows, source)
        for batch in opened.iter_batches(columns=names):
            columns = [batch.column(name).cast(pa.string()).to_pylist() for name in names]
            for values in zip(*columns, strict=True):
                yield {name: value or "" for name, value in zip(known, values, strict=True)}


def _columns(header: Sequence[str], source: str) -> list[str]:
    """Return the columns that are read. Raise DataError when one is missing or occurs twice."""
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise DataError(
            f"the table of data.source = '{source}' has no column {' and no column '.join(missing)}, "
            f"only {', '.join(header) or 'an empty first line'}",
            f"the columns {', '.join(NEEDED)} and, optionally, {', '.join(OPTIONAL)}",
            _renaming(header, missing),
        )
    known = [name for name in (*NEEDED, *OPTIONAL) if name in header]
    for name in known:
        if list(header).count(name) > 1:
            raise DataError(
                f"the table of data.source = '{source}' has the column {name} twice", "each once", "rename one of them"
            )
    _report_unused([name for name in header if name not in known], grouped="group" in known)
    return known


def _renaming(header: Sequence[str], missing: Sequence[str]) -> str:
    """Return which columns to rename, by name only where one alone can be meant."""
    if len(header) < len(NEEDED):
        return "write the names of the columns into the first line, divided by commas"
    general = {"path": "the column of file names", "label": "the column of classes", "group": "what must stay together"}
    parts = []
    for name in (*missing, "group"):
        meant = _meaning(name, header)
        if name in missing or (meant and name not in header):
            parts.append(f"{repr(meant[0]) if len(meant) == 1 else general[name]} to {name}")
    return f"rename {', '.join(parts[:-1])}{' and ' if parts[1:] else ''}{parts[-1]}"


def _meaning(name: str, columns: Iterable[str]) -> list[str]:
    """Return those of the `columns` that our column `name` may be called elsewhere: "Patient ID" is a group."""
    return [
        column
        for column in columns
        if column not in {*NEEDED, *OPTIONAL} and _MEANING[name].fullmatch(re.sub(r"[\W_]", "", column.casefold()))
    ]


def _report_unused(others: Sequence[str], *, grouped: bool) -> None:
    """Log the columns that are not read; warn of those by which images belong together."""
    groups = [] if grouped else _meaning("group", others)
    if groups:
        log.warning(
            "the table has no column group, and columns that may say what belongs together are not used: %s; images of "
            "one %s may lie on both sides of the split, which makes results too good: rename the column whose images "
            "must stay together to group",
            one_line(", ".join(groups)), one_line(groups[0]),
        )  # fmt: skip
    if rest := [name for name in others if name not in groups]:
        log.info("columns of the table that are not used: %s", one_line(", ".join(rest)))


def _require_few(number: int, source: str) -> None:
    if number > _MAX_ROWS:
        raise DataError(
            f"the table of data.source = '{source}' has more than {_MAX_ROWS} rows", "fewer", "divide the table"
        )
