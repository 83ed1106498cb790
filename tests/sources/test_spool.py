"""A spool gives back what it was given, in the order of paths, and holds none of it in memory."""

import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.sources.listing import File, Found
from stages.sources.spool import Spool
from tests.support.processes import alone


@dataclass(frozen=True)
class Numbered:
    path: str
    number: int


def found(path: str, label: str = "tree", split: str = "") -> Found:
    return Found(Path("/images") / path, path, label, split)


def spooled(*rows: Found) -> Spool[Found]:
    spool = Spool(Found)
    for row in rows:
        spool.add(row)
    return spool


def test_rows_come_back_sorted_by_path_as_python_sorts_it() -> None:
    rows = [found(path) for path in ("b/2", "a/9", "é", "a b/1", "a/b/0", "B/1", "\uffee", "🧘", "")]
    spool = spooled(*rows)
    assert list(spool) == sorted(rows, key=lambda row: row.path)
    assert list(spool) == list(spool)
    assert len(spool) == len(rows)


def test_rows_of_one_path_come_as_they_were_added_or_by_their_numbers() -> None:
    assert [row.label for row in spooled(found("a", "2"), found("a", "1"))] == ["2", "1"]
    spool = Spool(Found)
    spool.add(found("a", "2"), 7)
    spool.add(found("a", "1"), 3)
    assert [row.label for row in spool] == ["1", "2"]


@pytest.mark.parametrize("name", ["not-utf8-\udcff", "nul\0", "two\nlines", '\'"x"', "-- ; DROP TABLE rows", "001"])
def test_any_name_comes_back_as_it_was(name: str) -> None:
    file = File(Path(name), name)
    spool = Spool(File)
    spool.add(file)
    assert list(spool) == [file]
    assert spool.find(name) == file
    assert spool.find(f"{name}x") is None


def test_numbers_stay_numbers() -> None:
    spool = Spool(Numbered)
    spool.add(Numbered("a", 1 << 40))
    assert list(spool) == [Numbered("a", 1 << 40)]


def test_the_values_of_a_column_are_listed_once() -> None:
    assert spooled(found("1", "tree"), found("2", "Baum"), found("3", "tree")).distinct("label") == ["Baum", "tree"]


def peak(count: int) -> int:
    """Return the most bytes that Python holds while so many rows are added and read."""
    tracemalloc.start()
    try:
        spool = Spool(Numbered)
        for number in range(count):
            spool.add(Numbered(f"a class/{number:09}.jpg", number))
        assert sum(1 for _ in spool) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_rows() -> None:
    # SQLite's cursors are forgotten in hundreds.
    assert (alone(peak, 9000) - alone(peak, 1000)) / 8000 < 20
