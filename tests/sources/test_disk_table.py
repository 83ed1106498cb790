"""A disk table returns its rows in the order of paths, and holds none of them in memory."""

import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.sources.disk_table import DiskTable
from stages.sources.listing import File, Found
from tests.support.processes import alone


@dataclass(frozen=True)
class Numbered:
    path: str
    number: int


def found(path: str, label: str = "tree", split: str = "") -> Found:
    return Found(Path("/images") / path, path, label, split)


def filled(*rows: Found) -> DiskTable[Found]:
    table = DiskTable(Found)
    for row in rows:
        table.add(row)
    return table


def test_rows_come_back_sorted_by_path_as_python_sorts_it() -> None:
    rows = [found(path) for path in ("b/2", "a/9", "é", "a b/1", "a/b/0", "B/1", "\uffee", "🧘", "")]
    table = filled(*rows)
    assert list(table) == sorted(rows, key=lambda row: row.path)
    assert list(table) == list(table)
    assert len(table) == len(rows)


def test_rows_of_one_path_come_as_they_were_added_or_by_their_numbers() -> None:
    assert [row.label for row in filled(found("a", "2"), found("a", "1"))] == ["2", "1"]
    table = DiskTable(Found)
    table.add(found("a", "2"), 7)
    table.add(found("a", "1"), 3)
    assert [row.label for row in table] == ["1", "2"]


@pytest.mark.parametrize("name", ["not-utf8-\udcff", "nul\0", "two\nlines", '\'"x"', "-- ; DROP TABLE rows", "001"])
def test_any_name_comes_back_as_it_was(name: str) -> None:
    file = File(Path(name), name)
    table = DiskTable(File)
    table.add(file)
    assert list(table) == [file]
    assert table.find(name) == file
    assert table.find(f"{name}x") is None


def test_numbers_stay_numbers() -> None:
    table = DiskTable(Numbered)
    table.add(Numbered("a", 1 << 40))
    assert list(table) == [Numbered("a", 1 << 40)]


def test_the_values_of_a_column_are_listed_once() -> None:
    assert filled(found("1", "tree"), found("2", "Baum"), found("3", "tree")).distinct("label") == ["Baum", "tree"]


def peak(count: int) -> int:
    """Return the peak bytes that Python holds while this many rows are added and read."""
    tracemalloc.start()
    try:
        table = DiskTable(Numbered)
        for number in range(count):
            table.add(Numbered(f"a class/{number:09}.jpg", number))
        assert sum(1 for _ in table) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_rows() -> None:
    # SQLite's cursors are forgotten in hundreds.
    assert (alone(peak, 9000) - alone(peak, 1000)) / 8000 < 20
