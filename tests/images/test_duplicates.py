"""Copies share a group; a picture with two labels is left out altogether."""

import pandas as pd

from stages.images.duplicates import duplicates, with_groups, without_conflicts


def rows(*triples: tuple[str, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(list(triples), columns=["path", "label", "pixels_sha256"])
    return with_groups(table.assign(pixels_sha256=table["pixels_sha256"] * 64))


def test_a_group_is_the_beginning_of_the_digest() -> None:
    assert rows(("a", "tree", "7")).group.tolist() == ["7" * 32]


def test_a_picture_under_two_labels_loses_all_its_rows() -> None:
    table = rows(("t/1", "tree", "a"), ("t/2", "tree", "a"), ("p/1", "plank", "a"), ("p/2", "plank", "b"))
    kept, rejects = without_conflicts(table)
    assert kept["path"].tolist() == ["p/2"]
    assert {reject.path: reject.reason for reject in rejects} == {
        "t/1": "two labels: the same picture as 'p/1'",
        "t/2": "two labels: the same picture as 'p/1'",
        "p/1": "two labels: the same picture as 't/1', 't/2'",
    }


def test_many_copies_are_counted_not_listed() -> None:
    table = rows(("p/1", "plank", "a"), *[(f"t/{n}", "tree", "a") for n in range(5)])
    _, rejects = without_conflicts(table)
    assert rejects[0].reason == "two labels: the same picture as 't/0', 't/1', 't/2' and 2 more"


def test_copies_are_counted() -> None:
    table = rows(("1", "x", "a"), ("2", "x", "a"), ("3", "x", "a"), ("4", "x", "b"), ("5", "x", "b"), ("6", "x", "c"))
    assert duplicates(table) == {"groups": 2, "pictures": 5}


def test_an_empty_table_has_no_conflicts_and_no_copies() -> None:
    kept, rejects = without_conflicts(rows())
    assert kept.empty
    assert not rejects
    assert duplicates(kept) == {"groups": 0, "pictures": 0}
