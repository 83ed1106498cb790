"""What DVC stops at in a source, or passes over, is named before DVC reads it, with what to do about it."""

import os
import socket
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from stages.sources import hashing
from stages.sources.hashing import obstacles


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(b"image")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Path("../source")


def rename(old: bytes, new: bytes) -> Callable[[Path], object]:
    return lambda source: Path(os.fsdecode(bytes(source) + old)).rename(os.fsdecode(bytes(source) + new))


def link(name: str, target: str) -> Callable[[Path], None]:
    return lambda source: (source / name).symlink_to(target)


def write(name: str) -> Callable[[Path], None]:
    def do(source: Path) -> None:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"")

    return do


def bind(source: Path) -> None:
    # A path to a socket is short.
    with chdir(source / "cat"), socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")


def nest(name: str, levels: int) -> Callable[[Path], None]:
    def do(source: Path) -> None:
        with chdir(source):
            for _ in range(levels):
                Path(name).mkdir()
                os.chdir(name)

    return do


NO_UTF8 = "has a name that is not UTF-8"
NESTED = "lies in more than 100 folders, or its path is too long"
STOPS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a file's name in Latin 1": (rename(b"/cat/0.jpg", b"/cat/caf\xe9.jpg"), "cat/caf\\xe9.jpg", NO_UTF8),
    "a folder's name in Latin 1": (rename(b"/cat", b"/caf\xe9"), "caf\\xe9", NO_UTF8),
    "a name in Shift JIS": (rename(b"/cat/0.jpg", b"/cat/\x94\x4c.jpg"), "cat/\\x94L.jpg", NO_UTF8),
    "a link to nothing": (link("cat/gone.jpg", "/nowhere.jpg"), "cat/gone.jpg", "is a link that leads nowhere"),
    "a relative link to nothing": (link("cat/gone.jpg", "../9.jpg"), "cat/gone.jpg", "is a link that leads nowhere"),
    "a link to no folder": (link("bird", "/nowhere"), "bird", "is a link that leads nowhere"),
    "a link to itself": (link("cat/loop.jpg", "loop.jpg"), "cat/loop.jpg", "is a link that leads back to itself"),
    "a pipe": (lambda source: os.mkfifo(source / "cat/p.jpg"), "cat/p.jpg", "is a pipe, socket or device"),
    "a socket": (bind, "cat/s.jpg", "is a pipe, socket or device"),
    "a link to a device": (link("cat/z.jpg", "/dev/zero"), "cat/z.jpg", "is a pipe, socket or device"),
    "a .dvcignore": (write(".dvcignore"), ".dvcignore", "stops DVC"),
    "a .dvcignore in a class": (write("cat/.dvcignore"), "cat/.dvcignore", "stops DVC"),
    "a path that is too long": (nest("d" * 200, 25), "d" * 200, NESTED),
    "folders in folders in folders": (nest("d", 300), "d/d", NESTED),
}  # fmt: skip
PASSES: dict[str, Callable[[Path], object]] = {
    "nothing odd": lambda _: None,
    "a link to an image": link("cat/2.jpg", "../dog/0.jpg"),
    "a link to a folder": link("bird", "cat"),
    "a link to a folder above": link("cat/up", ".."),
    "a name with a line feed": rename(b"/cat/0.jpg", b"/cat/a\nb.jpg"),
    "a name in UTF-8": rename(b"/cat/0.jpg", "/cat/猫.jpg".encode()),
    "the longest name": rename(b"/cat/0.jpg", b"/cat/" + b"x" * 251 + b".jpg"),
    "a DVC project outside this one": write("cat/.dvc/config"),
    "a git repository": write(".git/config"),
    "an empty folder": lambda source: (source / "bird").mkdir(),
}
SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link to nothing": (lambda source: source.symlink_to("/nowhere"), "is a link that leads nowhere"),
    "a link to itself": (lambda source: source.symlink_to(source.name), "is a link that leads back to itself"),
    "a pipe": (os.mkfifo, "is a pipe, socket or device"),
}


@pytest.mark.parametrize("kind", STOPS)
def test_a_file_that_dvc_cannot_hash_is_named_in_one_line(source: Path, kind: str) -> None:
    make, path, why = STOPS[kind]
    make(source)
    (fault,) = obstacles(source)
    assert str(fault).startswith(f"'{path}")
    assert f"' in data.source = '../source' {why}; expected " in str(fault)
    assert "\n" not in str(fault)


@pytest.mark.parametrize("kind", PASSES)
def test_what_dvc_can_hash_or_passes_over_is_left_to_ingest(source: Path, kind: str) -> None:
    PASSES[kind](source)
    assert obstacles(source) == []


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_that_dvc_cannot_hash_is_named(source: Path, kind: str) -> None:
    make, expected = SOURCES[kind]
    place = source.with_name("other")
    make(place)
    (fault,) = obstacles(place)
    assert str(fault).startswith(f"data.source = '../other' {expected}; expected ")


def test_an_archive_or_a_link_to_the_folder_is_no_obstacle(source: Path) -> None:
    assert obstacles(source / "cat/0.jpg") == []
    source.with_name("link").symlink_to(source.name)
    assert obstacles(source.with_name("link")) == []


@pytest.mark.parametrize("name", [".dvc/config", "cat/.dvc/config"])
def test_another_dvc_project_inside_this_one_is_named_since_dvc_would_notice_no_changes_there(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(name)(source)
    monkeypatch.chdir("..")
    (fault,) = obstacles(Path("source"))
    assert f"'{Path(name).parent}' in data.source = 'source' makes the folder that it lies in another" in str(fault)


@pytest.mark.parametrize(("name", "mode"), [("cat/0.jpg", os.R_OK), ("cat", os.X_OK), ("", os.R_OK)])
def test_what_the_user_may_not_read_is_named(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int
) -> None:
    # Root may read everything, so this is not tried with permissions.
    denied = os.fspath(source / name)
    monkeypatch.setattr(hashing.os, "access", lambda path, asked: os.fspath(path) != denied or asked != mode)
    (fault,) = obstacles(source)
    assert "cannot be read; expected files that you may read; correct its permissions" in str(fault)


def test_of_many_files_of_a_kind_the_first_are_named_and_the_others_counted(source: Path) -> None:
    for number in range(25):
        (source / f"cat/{number:02}.png").symlink_to("nowhere")
    (source / "p.jpg").symlink_to("p.jpg")
    lines = [str(fault).partition(";")[0] for fault in obstacles(source)]
    assert lines[0] == "'p.jpg' in data.source = '../source' is a link that leads back to itself"
    assert lines[1] == "'cat/00.png' in data.source = '../source' is a link that leads nowhere"
    assert lines[11:] == ["15 more in data.source = '../source': each is a link that leads nowhere"]
