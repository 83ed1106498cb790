"""Rows on disk: lists that grow with the images, of which memory holds nothing."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from stages.sources.listing import File, Found, Reject

Row = TypeVar("Row")

# How a value of each type comes back. A name that is not UTF-8 has lone surrogates, which no text of SQLite's may hold.
_READ: dict[Any, Callable[[Any], Any]] = {
    int: int,
    str: lambda value: value.decode(errors="surrogatepass"),
    Path: lambda value: Path(value.decode(errors="surrogatepass")),
}


def database() -> sqlite3.Connection:
    """Open an empty database of this process alone: what its small cache cannot hold is in a temporary file.

    The file has no name (https://sqlite.org/inmemorydb.html, "Temporary Databases"), so that it goes with
    the process, however that ends. It lies where TMPDIR says, in /var/tmp otherwise.
    """
    connection = sqlite3.connect("")
    # Nobody comes back to it.
    connection.execute("PRAGMA journal_mode = OFF")
    return connection


class Spool(Generic[Row]):
    """Rows of one dataclass, whose fields are paths, text and numbers; given in the order of their `path`.

    Rows of equal `path` come by their number, which is that of their arrival unless they bring one along.
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
        """Add a row, under a `number` that no other has."""
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
    """Return a value as the database keeps it: bytes of UTF-8 sort as text does in Python."""
    return value if isinstance(value, int) else str(value).encode(errors="surrogatepass")


# What a source has, and what is left out of it: before there are labels, and with them.
Files = tuple[Spool[File], list[Reject]]
Listing = tuple[Spool[Found], list[Reject]]
