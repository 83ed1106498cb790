"""Tables on disk, for lists that grow with the number of images and are not held in memory."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from stages.sources.listing import File, Found, Reject

Row = TypeVar("Row")

# How a value of each type is read. A name that is not UTF-8 has lone surrogates, which SQLite's text cannot hold.
_READ: dict[Any, Callable[[Any], Any]] = {
    int: int,
    str: lambda value: value.decode(errors="surrogatepass"),
    Path: lambda value: Path(value.decode(errors="surrogatepass")),
}


def database() -> sqlite3.Connection:
    """Open an empty database for this process alone; what exceeds its small cache goes to a temporary file.

    The file has no name (https://sqlite.org/inmemorydb.html, "Temporary Databases"), so that it vanishes with
    the process, however that ends. It lies in TMPDIR, by default /var/tmp.
    """
    connection = sqlite3.connect("")
    # The database is never reopened, so no journal is needed.
    connection.execute("PRAGMA journal_mode = OFF")
    return connection


class DiskTable(Generic[Row]):
    """Rows of one dataclass, whose fields are paths, text and numbers, iterated in the order of their `path`.

    Rows with equal `path` are ordered by their number, by default that of their insertion.
    """

    def __init__(self, kind: type[Row]) -> None:
        self._kind = kind
        self._types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
        self._database = database()
        columns = ", ".join(f'"{name}"' for name in self._types)
        self._database.execute(f"CREATE TABLE rows (place INTEGER PRIMARY KEY, {columns})")
        self._database.execute("CREATE INDEX by_path ON rows (path)")
        places = ", ?" * len(self._types)
        self._insert = f"INSERT INTO rows VALUES (?{places})"  # noqa: S608 (question marks)

    def add(self, row: Row, number: int | None = None) -> None:
        """Add a row, under a unique `number`."""
        self._database.execute(self._insert, (number, *(_written(getattr(row, name)) for name in self._types)))

    def find(self, path: str) -> Row | None:
        """Return a row of this `path`, if there is one."""
        values = self._database.execute("SELECT * FROM rows WHERE path = ? LIMIT 1", (_written(path),)).fetchone()
        return self._read(values) if values else None

    def distinct(self, column: str) -> list[Any]:
        """Return the values in a column, each once, sorted."""
        query = f'SELECT DISTINCT "{column}" FROM rows ORDER BY 1'  # noqa: S608 (the name of a field)
        rows = self._database.execute(query)
        return [_READ[self._types[column]](value) for (value,) in rows]

    def __iter__(self) -> Iterator[Row]:
        return map(self._read, self._database.execute("SELECT * FROM rows ORDER BY path, place"))

    def __len__(self) -> int:
        (number,) = self._database.execute("SELECT count(*) FROM rows").fetchone()
        return int(number)

    def _read(self, values: tuple[Any, ...]) -> Row:
        _, *given = values
        return self._kind(*(_READ[kind](value) for kind, value in zip(self._types.values(), given, strict=True)))


def _written(value: Path | str | int) -> bytes | int:
    """Return a value as the database stores it: bytes of UTF-8 sort as text does in Python."""
    return value if isinstance(value, int) else str(value).encode(errors="surrogatepass")


# The files and rejects of a source: without labels, and with them.
Files = tuple[DiskTable[File], list[Reject]]
Listing = tuple[DiskTable[Found], list[Reject]]
