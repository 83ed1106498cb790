"""A source lists every file with its label, or with the reason why it is left out."""

import os
from pathlib import Path

import pytest

from stages.errors import DataError
from stages.images.sources import read_folder, read_source


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def labels(root: Path) -> dict[str, str]:
    return {found.path: found.label for found in read_folder(root)[0]}


def reasons(root: Path) -> dict[str, str]:
    return {reject.path: reject.reason for reject in read_folder(root)[1]}


def test_the_label_is_the_folder_that_holds_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "train/tree/a.jpg", "test/downdog/tree/b.jpg", "test/downdog/c.jpg", "plank/d")
    assert labels(tmp_path) == {
        "plank/d": "plank",
        "test/downdog/c.jpg": "downdog",
        "test/downdog/tree/b.jpg": "tree",
        "train/tree/a.jpg": "tree",
    }


def test_files_come_sorted_by_path(tmp_path: Path) -> None:
    touch(tmp_path, "b/2", "a/9", "a b/1", "a/b/0", "B/1")
    assert list(labels(tmp_path)) == ["B/1", "a b/1", "a/9", "a/b/0", "b/2"]


def test_what_is_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    touch(tmp_path, "in_no_folder.jpg", "tree/.hidden.jpg", ".git/config", "tree/a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tree" / "folder.jpg").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "tree")
    (tmp_path / "tree" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "tree" / "pipe.jpg")
    assert reasons(tmp_path) == {
        ".git/": "hidden: the name begins with a dot",
        "empty/": "empty folder: nothing in it",
        "in_no_folder.jpg": "no class: lies in no class folder",
        "link/": "link to a folder: not followed",
        "tree/.hidden.jpg": "hidden: the name begins with a dot",
        "tree/folder.jpg/": "empty folder: nothing in it",
        "tree/gone.jpg": "unreadable: No such file or directory",
        "tree/pipe.jpg": "not a file: a pipe, socket or device",
    }
    assert labels(tmp_path) == {"tree/a.jpg": "tree"}


def test_a_linked_file_counts_as_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "tree/a.jpg")
    (tmp_path / "plank").mkdir()
    (tmp_path / "plank" / "b.jpg").symlink_to(tmp_path / "tree" / "a.jpg")
    assert labels(tmp_path) == {"plank/b.jpg": "plank", "tree/a.jpg": "tree"}


def test_a_folder_that_cannot_be_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "tree/a.jpg", "locked/b.jpg")
    iterate = Path.iterdir

    def iterdir(path: Path) -> object:
        # A mode of 0 stops no one who runs as root.
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterate(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert reasons(tmp_path) == {"locked/": "unreadable: Permission denied"}


@pytest.mark.parametrize(
    "name", ["warrior 2", "l'arbre", 'a "b"', "-rf", "🧘🏽‍♀️", "木の　ポーズ", "a,b", "100%", "con"]
)
def test_odd_class_names_stay_as_they_are(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"{name}/a.jpg")
    assert list(labels(tmp_path).values()) == [name]


@pytest.mark.parametrize("name", [b"two\nlines", b"tab\t", b"not-utf8-\xff", b"bell\x07", "line\u2028".encode()])
def test_class_names_that_cannot_be_printed_are_left_out(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path, f"{os.fsdecode(name)}/a.jpg")
    found, rejects = read_folder(tmp_path)
    assert not found
    assert rejects[0].reason == "class name: the folder's name holds characters that cannot be printed"
    assert rejects[0].path.isprintable()


def test_odd_file_names_are_read_and_shown_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "tree/two\nlines.jpg", os.fsdecode(b"tree/not-utf8-\xff.jpg"))
    found, _ = read_folder(tmp_path)
    assert [item.path for item in found] == ["tree/not-utf8-\\udcff.jpg", "tree/two\\nlines.jpg"]
    assert all(item.location.read_bytes() == b"x" for item in found)


def test_one_name_typed_in_two_ways_is_one_class(tmp_path: Path) -> None:
    touch(tmp_path, "a/caf\u00e9/1", "b/cafe\u0301/2")
    assert set(labels(tmp_path).values()) == {"caf\u00e9"}


def test_a_missing_source_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist; expected a folder of pictures; correct the path"):
        read_source(str(tmp_path / "nowhere"))


def test_a_file_as_source_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.zip")
    with pytest.raises(DataError, match=r"a.zip' is a file; expected a folder of pictures"):
        read_source(str(tmp_path / "a.zip"))


def test_a_folder_outside_the_project_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "shared/tree/a.jpg", "project/params.yaml")
    monkeypatch.chdir(tmp_path / "project")
    found, _ = read_source("../shared")
    assert [(item.path, item.label) for item in found] == [("tree/a.jpg", "tree")]
