"""Images without classes come from anywhere, each under the source as it was given."""

import errno
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

from stages.core.errors import DataError, MachineError
from stages.sources import remote, unlabelled
from stages.sources.members import Budget
from stages.sources.unlabelled import gather
from tests.support.archives import zip_info, zipped
from tests.support.web import serve

BUDGET = Budget(1e6, 1e7)


def paths(tmp_path: Path, *sources: str) -> tuple[list[str], list[tuple[str, str]]]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    files, rejects = gather(sources, BUDGET, scratch)
    assert all(file.location.is_file() for file in files)
    return [file.path for file in files], sorted((reject.path, reject.reason) for reject in rejects)


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/2.jpg").write_bytes(b"2")
    (tmp_path / "folder/1.jpg").write_bytes(b"1")
    (tmp_path / "single.jpg").write_bytes(b"3")
    zipped(tmp_path / "packed.zip", {"top/4.jpg": b"4", "../5.jpg": b"5"})
    monkeypatch.chdir(tmp_path)


def test_sources_of_all_kinds_are_in_one_list_by_their_paths(tmp_path: Path) -> None:
    found, left_out = paths(tmp_path, "single.jpg", "packed.zip", "folder/", f"file://{tmp_path}/single.jpg")
    assert found == [
        f"file://{tmp_path}/single.jpg", "folder/1.jpg", "folder/deep/2.jpg", "packed.zip/top/4.jpg", "single.jpg"
    ]  # fmt: skip
    assert left_out == [("packed.zip/../5.jpg", "unsafe name: leads out of the archive")]


def test_names_of_what_is_left_out_stay_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder/.a\nb").touch()
    assert paths(tmp_path, "folder")[1] == [(r"folder/.a\nb", "hidden: the name begins with a dot")]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "'nowhere' does not exist"),
        ("/dev/null", "'/dev/null' is a pipe, socket or device"),
        ("cut.zip", "'cut.zip' is a damaged archive (File is not a zip file)"),
        ("large.zip", "'large.zip' unpacks to 0.013 GB or more"),
        ("s3::x://y", "'s3::x://y' is a chain of file systems"),
        ("http://127.0.0.1:9/x?token=abc", "'http://127.0.0.1:9/x?token=***' cannot be fetched ("),
    ],
)
def test_a_source_that_cannot_be_read_is_left_out_and_the_others_are_read(
    tmp_path: Path, source: str, said: str
) -> None:
    (tmp_path / "cut.zip").write_bytes((tmp_path / "packed.zip").read_bytes()[:-30])
    zipped(tmp_path / "large.zip", {f"{number}.jpg": bytes(999_999) for number in range(13)})
    found, [(path, reason)] = paths(tmp_path, source, "single.jpg")
    assert found == ["single.jpg"]
    assert path == source.replace("abc", "***")
    assert reason.startswith(f"unreadable source: {said}"), reason
    assert "data.source" not in reason
    assert "\n" not in reason


def test_of_a_server_with_a_fault_of_its_own_it_says_to_try_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    with serve() as web:
        web.broken.add("1.jpg")
        for name, again in (("1.jpg", True), ("2.jpg", False)):
            _, [(_, reason)] = paths(tmp_path, f"{web.url}/{name}")
            assert reason.endswith("; try again later") == again


def test_what_is_left_of_a_source_that_cannot_be_read_takes_no_room(tmp_path: Path) -> None:
    zipped(tmp_path / "large.zip", {f"{number}.jpg": bytes(999_999) for number in range(13)})
    paths(tmp_path, "large.zip")
    assert not list((tmp_path / "scratch").iterdir())


def test_a_full_disk_is_no_fault_of_a_source(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> NoReturn:
        raise DataError("'packed.zip' is damaged", "", "") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unlabelled, "unpacked", full)
    with pytest.raises(MachineError, match="No space left on device"):
        paths(tmp_path, "packed.zip", "single.jpg")


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(zip_info("link.jpg", mode=0o120777), "/etc/passwd")
        archive.writestr("6.jpg", b"6")
    assert paths(tmp_path, "link.zip") == (["link.zip/6.jpg"], [("link.zip/link.jpg", "link: not followed")])


def test_a_password_in_an_address_is_in_no_path(tmp_path: Path) -> None:
    with serve() as web:
        web.files["packed.zip"] = (tmp_path / "packed.zip").read_bytes()
        web.login = "anna:secret"
        found, left_out = paths(tmp_path, f"{web.url.replace('://', '://anna:secret@')}/packed.zip?token=other")
        address = f"{web.url.replace('://', '://***@')}/packed.zip?token=***"
    assert found == [f"{address}/top/4.jpg"]
    assert left_out == [(f"{address}/../5.jpg", "unsafe name: leads out of the archive")]
