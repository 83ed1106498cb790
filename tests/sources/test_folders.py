"""A folder lists every file with its label and split, or with the reason why it is left out."""

import os
from pathlib import Path

import pytest

from stages.sources.folders import read_folder
from tests.stages.test_ingest import image


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
    scan = os.scandir

    def scandir(path: Path) -> object:
        # A mode of 0 stops no one who runs as root.
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
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
    assert rejects[0].reason == "class name: holds characters that cannot be printed"
    assert rejects[0].path.isprintable()


def test_odd_file_names_are_read_and_shown_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "tree/two\nlines.jpg", os.fsdecode(b"tree/not-utf8-\xff.jpg"))
    found, _ = read_folder(tmp_path)
    assert [item.path for item in found] == ["tree/not-utf8-\\udcff.jpg", "tree/two\\nlines.jpg"]
    assert all(item.location.read_bytes() == b"x" for item in found)


def test_one_name_typed_in_two_ways_is_one_class(tmp_path: Path) -> None:
    touch(tmp_path, "a/caf\u00e9/1", "b/cafe\u0301/2")
    assert set(labels(tmp_path).values()) == {"caf\u00e9"}


# --- splits that the folder brings along ---


def images(root: Path, *names: str) -> None:
    touch(root, *names)
    for number, name in enumerate(names):
        (root / name).write_bytes(image(number))


def splits(root: Path) -> dict[str, tuple[str, str]]:
    return {found.path: (found.split, found.label) for found in read_folder(root)[0]}


def test_folders_of_splits_give_the_split_and_the_folders_in_them_the_label(tmp_path: Path) -> None:
    images(tmp_path, "Train/tree/1", "train/goddess/tree/2", "VALID/tree/3", "testing/a/b/plank/4")
    assert splits(tmp_path) == {
        "Train/tree/1": ("train", "tree"),
        "VALID/tree/3": ("validation", "tree"),
        "testing/a/b/plank/4": ("test", "plank"),
        "train/goddess/tree/2": ("train", "tree"),
    }


@pytest.mark.parametrize(
    "names",
    [
        ("train/1", "plane/2", "test/3"),
        ("test/front/1", "test/back/2", "crash/3"),
        ("train/tree/1", "train/plank/2"),
        ("val/tree/1", "validation/plank/2"),
        ("images/train/tree/1", "images/test/tree/2"),
    ],
)
def test_a_class_may_have_the_name_of_a_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    images(tmp_path, *names)
    assert splits(tmp_path) == {name: ("", name.split("/")[-2]) for name in names}


def test_a_folder_without_images_beside_the_splits_changes_nothing(tmp_path: Path) -> None:
    images(tmp_path, "train/tree/1", "test/tree/2")
    touch(tmp_path, "documents/licence.txt", "documents/deeper/readme.md")
    assert splits(tmp_path)["train/tree/1"] == ("train", "tree")
    assert splits(tmp_path)["documents/licence.txt"] == ("", "documents")


def test_files_directly_in_the_folder_of_a_split_have_no_class(tmp_path: Path) -> None:
    images(tmp_path, "train/tree/1", "test/2")
    assert reasons(tmp_path) == {"test/2": "no class: lies in the folder of a split, but in no class folder"}


# --- folders that people's systems and tools add ---


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir", "#recycle", "#snapshot", "@tmp", "@Recycle", "@Recently-Snapshot",
        "$RECYCLE.BIN", "System Volume Information", "RECYCLER",
        "__MACOSX", "Network Trash Folder", "Temporary Items", "lost+found", "__pycache__",
        ".AppleDouble", ".Trashes", ".ipynb_checkpoints", ".@__thumb", ".picasaoriginals",
    ],
)  # fmt: skip
def test_folders_of_systems_and_their_thumbnails_are_no_classes(tmp_path: Path, name: str) -> None:
    images(tmp_path, "tree/1.jpg", "plank/2.jpg", f"tree/{name}/1.jpg/THUMB_XL.jpg", f"{name}/3.jpg")
    assert labels(tmp_path) == {"plank/2.jpg": "plank", "tree/1.jpg": "tree"}
    assert set(reasons(tmp_path)) == {f"{name}/", f"tree/{name}/"}
    assert all(reason.startswith("hidden: ") for reason in reasons(tmp_path).values())


def test_a_class_may_be_called_much_like_a_folder_of_a_system(tmp_path: Path) -> None:
    images(tmp_path, "recycle/1.jpg", "snapshot/2.jpg", "tmp/3.jpg")
    assert set(labels(tmp_path).values()) == {"recycle", "snapshot", "tmp"}


@pytest.mark.parametrize("inner", ["images", "Images", "img", "JPEGImages", "photos/originals", "images/rgb/jpg"])
@pytest.mark.parametrize("split", [False, True], ids=["classes", "splits"])
def test_a_folder_that_holds_all_images_in_each_class_is_no_class(
    tmp_path: Path, inner: str, caplog: pytest.LogCaptureFixture, *, split: bool
) -> None:
    tops = ("train/", "val/") if split else ("",)
    images(tmp_path, *(f"{top}{name}/{inner}/1.jpg" for top in tops for name in ("cat", "dog")))
    # As in Tiny ImageNet.
    touch(tmp_path, f"{tops[0]}cat/boxes.txt")
    found = {path: label for path, label in labels(tmp_path).items() if path.endswith("jpg")}
    assert found == {f"{top}{name}/{inner}/1.jpg": name for top in tops for name in ("cat", "dog")}
    assert caplog.messages == [f"every image lies in a folder '{inner}': its class is the folder above"]


@pytest.mark.parametrize(
    "names",
    [
        ("images/1.jpg", "images/2.jpg"),
        ("train/images/1.jpg", "val/images/2.jpg"),
        ("cat/images/1.jpg", "cat/images/2.jpg"),
        ("monday/cat/1.jpg", "tuesday/cat/2.jpg"),
    ],
)
def test_where_there_is_one_class_no_other_folder_becomes_one(tmp_path: Path, names: tuple[str, ...]) -> None:
    images(tmp_path, *names)
    assert len(set(labels(tmp_path).values())) == 1


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("A/images/1", "A/masks/2", "B/images/3", "B/masks/4"),
            "'images' is one class, from 'A/images', 'B/images': if the classes are the folders above, move",
        ),
        (("anna/tree/1", "bo/tree/2", "plank/3"), "'tree' is one class, from 'anna/tree', 'bo/tree': if"),
        (
            ("1/x/1", "2/x/2", "3/x/3", "4/x/4", "5/x/5", "y/6"),
            "'x' is one class, from '1/x', '2/x', '3/x' and 2 more: if",
        ),
        (("train/a/x/1", "val/b/x/2", "val/b/y/3"), "'x' is one class, from 'a/x', 'b/x': if"),
        (("tree/1", "old/tree/2", "plank/3"), "'tree' is one class, from 'old/tree', 'tree': if"),
    ],
)
def test_a_class_from_several_folders_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], said: str
) -> None:
    images(tmp_path, *names)
    labels(tmp_path)
    (message,) = caplog.messages
    assert said in message


def test_a_class_in_the_folders_of_several_splits_is_nothing_to_be_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images(tmp_path, "train/tree/1", "val/tree/2", "test/tree/3", "train/plank/4")
    labels(tmp_path)
    assert not caplog.messages


@pytest.mark.parametrize("name", ["   ", "x\u2029y"])
def test_a_folder_that_can_be_no_class_is_left_out(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"{name}/1")
    assert labels(tmp_path) == {}
    assert len(reasons(tmp_path)) == 1


@pytest.mark.parametrize("name", ["Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r"])
def test_files_of_systems_are_hidden_and_a_class_of_such_a_name_is_not(tmp_path: Path, name: str) -> None:
    images(tmp_path, "tree/1.jpg", "tree/Thumbs.db.jpg", f"{name}/2.jpg", f"plank/{name}")
    assert set(labels(tmp_path)) == {"tree/1.jpg", "tree/Thumbs.db.jpg", f"{name}/2.jpg"} - {"Icon\r/2.jpg"}
    assert "hidden: a file of the system" in reasons(tmp_path).values()
