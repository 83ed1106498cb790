"""Archives are unpacked whole and under numbers; what could do harm is left out with its reason."""

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import DataError
from stages.sources.archives import is_archive, unpacked
from stages.sources.members import Budget
from tests.stages.test_ingest import image
from tests.support.archives import tar_info, tarred, unpack, zip_info, zipped

FILES = {"tree/1.jpg": b"one", "tree/deeper/2.jpg": b"two", "3.jpg": bytes(2_000_000)}
WRITERS: dict[str, Callable[[Path], Path]] = {
    "zip": lambda path: zipped(path, FILES),
    "zip, stored": lambda path: zipped(path, FILES, zipfile.ZIP_STORED),
    "zip, LZMA": lambda path: zipped(path, FILES, zipfile.ZIP_LZMA),
    "tar": lambda path: tarred(path, FILES, "w:"),
    "tar.gz": lambda path: tarred(path, FILES, "w:gz"),
    "tar.bz2": lambda path: tarred(path, FILES, "w:bz2"),
    "tar.xz": lambda path: tarred(path, FILES, "w:xz"),
}
each_kind = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@each_kind
def test_an_archive_is_known_by_its_content_and_unpacked(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    archive = write(tmp_path / "images.jpg")
    assert is_archive(archive)
    assert unpack(archive) == (FILES, {})


@pytest.mark.parametrize("data", [b"", b"path,label\n", b"\xff\xd8\xff\xe0 an image", b"PAR1", bytes(100)])
def test_other_files_are_no_archives(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    assert not is_archive(tmp_path / "a.zip")


UNSAFE = {
    "../out.jpg": "unsafe name: leads out of the archive",
    "tree/../../out.jpg": "unsafe name: leads out of the archive",
    "/etc/out.jpg": "unsafe name: an absolute path",
    "C:/out.jpg": "unsafe name: an absolute path",
    "c:out.jpg": "unsafe name: an absolute path",
    "..\\out.jpg": "unsafe name: leads out of the archive",
    "tree\\..\\..\\out.jpg": "unsafe name: leads out of the archive",
    "C:\\out.jpg": "unsafe name: an absolute path",
    "\\\\server\\out.jpg": "unsafe name: an absolute path",
    f"tree/{'x' * 300}.jpg": "unsafe name: longer than 255 bytes, or 4096 with its folders",
    "x/" * 2100 + "1.jpg": "unsafe name: longer than 255 bytes, or 4096 with its folders",
    "./.": "unsafe name: empty",
    ".hidden/1.jpg": "hidden: the name begins with a dot",
    "__MACOSX/tree/._1.jpg": "hidden: a folder of the system, not of images",
    "tree/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg": "hidden: a folder of the system, not of images",
    "tree/.DS_Store": "hidden: the name begins with a dot",
}
SHOWN = {
    ".hidden/1.jpg": ".hidden/",
    "__MACOSX/tree/._1.jpg": "__MACOSX/",
    "tree/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg": "tree/@eaDir/",
}


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_member_whose_name_means_harm_is_left_out(tmp_path: Path, form: str, name: str) -> None:
    write = zipped if form == "zip" else tarred
    files, rejects = unpack(write(tmp_path / "archive", {"tree/1.jpg": b"x", name: b"y"}))
    assert files == {"tree/1.jpg": b"x"}
    assert rejects == {SHOWN.get(name, name): UNSAFE[name]}
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "scratch"}


def test_a_name_with_a_nul_is_left_out(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"tree/1.jpgX.jpg": b"x", "tree/2.jpg": b"y"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"1.jpgX.jpg", b"1.jpg\0.jpg"))
    assert unpack(archive) == ({"tree/2.jpg": b"y"}, {"tree/1.jpg\\x00.jpg": "unsafe name: holds a NUL"})


def test_dots_and_doubled_slashes_in_a_name_say_nothing(tmp_path: Path) -> None:
    files, _ = unpack(tarred(tmp_path / "a.tgz", {"./tree//1.jpg": b"x"}))
    assert files == {"tree/1.jpg": b"x"}


def test_links_pipes_and_devices_in_a_tar_are_left_out(tmp_path: Path) -> None:
    kinds = {
        "hard": tarfile.LNKTYPE,
        "soft": tarfile.SYMTYPE,
        "char": tarfile.CHRTYPE,
        "block": tarfile.BLKTYPE,
        "pipe": tarfile.FIFOTYPE,
    }
    extra = [tar_info(f"tree/{name}", type=kind, linkname="/etc/passwd") for name, kind in kinds.items()]
    files, rejects = unpack(tarred(tmp_path / "a.tar", {"tree/1.jpg": b"x"}, "w:", *extra))
    assert files == {"tree/1.jpg": b"x"}
    device = "not a file: a pipe, socket or device"
    assert rejects == {
        "tree/hard": "link: not followed",
        "tree/soft": "link: not followed",
        "tree/char": device,
        "tree/block": device,
        "tree/pipe": device,
    }


def test_links_and_devices_in_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, mode in {"link": stat.S_IFLNK, "pipe": stat.S_IFIFO, "char": stat.S_IFCHR, "1": stat.S_IFREG}.items():
            archive.writestr(zip_info(f"tree/{name}.jpg", mode=mode | 0o777), b"/etc/passwd")
    files, rejects = unpack(tmp_path / "a.zip")
    assert list(files) == ["tree/1.jpg"]
    assert rejects == {
        "tree/link.jpg": "link: not followed",
        "tree/pipe.jpg": "not a file: a pipe, socket or device",
        "tree/char.jpg": "not a file: a pipe, socket or device",
    }


def test_encrypted_members_and_unknown_compression_are_left_out(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"tree/1.jpg": b"x", "tree/2.jpg": b"y", "tree/3.jpg": b"z"})
    data = bytearray(archive.read_bytes())
    first, second, _ = (at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02")
    struct.pack_into("<H", data, first + 8, 1)
    struct.pack_into("<H", data, second + 10, 9)
    archive.write_bytes(data)
    files, rejects = unpack(archive)
    assert files == {"tree/3.jpg": b"z"}
    assert rejects == {
        "tree/1.jpg": "encrypted: needs a password",
        "tree/2.jpg": "compression: method 9 cannot be read, only stored, deflate, bzip2 and LZMA",
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_of_two_members_with_one_name_the_second_is_left_out(tmp_path: Path, form: str) -> None:
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "a", "w") as archive:
            archive.writestr("tree/1.jpg", b"first")
            archive.writestr("tree/./1.jpg", b"second")
    else:
        with tarfile.open(tmp_path / "a", "w") as archive:
            archive.addfile(tar_info("tree/1.jpg", size=5), io.BytesIO(b"first"))
            archive.addfile(tar_info("tree/1.jpg", size=6), io.BytesIO(b"second"))
    assert unpack(tmp_path / "a") == (
        {"tree/1.jpg": b"first"},
        {"tree/1.jpg": "listed twice: an earlier member has the same name"},
    )


@each_kind
def test_a_member_that_is_too_large_is_left_out_unless_it_is_the_table(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    files, rejects = unpack(write(tmp_path / "a"), file=1e6)
    assert list(files) == ["tree/1.jpg", "tree/deeper/2.jpg"]
    assert rejects == {"3.jpg": "too large: 2.0 MB, at most 1"}
    zipped(tmp_path / "b", {"labels.csv": b"path,label\n"})
    (tmp_path / "scratch").rename(tmp_path / "old")
    assert list(unpack(tmp_path / "b", file=1)[0]) == ["labels.csv"]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_empty_folders_are_listed(tmp_path: Path, form: str) -> None:
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        for name in ("tree/", "tree/deeper/", "plank/", "plank/1.jpg", ".git/"):
            archive.writestr(name, b"" if name.endswith("/") else b"x")
    with tarfile.open(tmp_path / "tar", "w") as archive:
        for name in ("tree", "tree/deeper", "plank", "plank/1.jpg", ".git"):
            is_file = "1" in name
            info = tar_info(name, type=tarfile.REGTYPE if is_file else tarfile.DIRTYPE, size=int(is_file))
            archive.addfile(info, io.BytesIO(b"x"))
    empty = "empty folder: nothing in it"
    assert unpack(tmp_path / form)[1] == {"tree/": empty, "tree/deeper/": empty}


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    names = ["tree/two\nlines.jpg", "tree/🧘.jpg", "-rf/ .jpg"]
    files, rejects = unpack(tarred(tmp_path / "a.tar", dict.fromkeys(names, b"x"), "w:"))
    assert (sorted(files), rejects) == (sorted(names), {})


END_OF_ZIP = b"PK\5\6" + bytes(18)


@pytest.mark.parametrize("behind", ["the end of an empty zip", "a whole zip"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "table"])
def test_an_image_or_a_table_with_a_zip_behind_its_end_is_no_archive(tmp_path: Path, form: str, behind: str) -> None:
    data = b"path,label\n1.jpg,tree\n" if form == "table" else image(1, form)
    path = tmp_path / "a"
    path.write_bytes(data + (zipped(tmp_path / "b", FILES).read_bytes() if "whole" in behind else END_OF_ZIP))
    assert not is_archive(path)


def test_a_tar_that_holds_a_zip_is_read_as_a_tar(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "b", {"tree/1.jpg": b"x"}).read_bytes()
    assert unpack(tarred(tmp_path / "a", {"tree/in.zip": inner}, "w:"))[0] == {"tree/in.zip": inner}


def test_a_program_that_unpacks_itself_is_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.exe"
    path.write_bytes(b"MZ" + bytes(500) + zipped(tmp_path / "b", {"tree/1.jpg": b"x"}).read_bytes())
    assert is_archive(path)
    assert unpack(path)[0] == {"tree/1.jpg": b"x"}


# --- damaged ones ---


@each_kind
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_an_error(tmp_path: Path, write: Callable[[Path], Path], share: float) -> None:
    archive = write(tmp_path / "a.archive")
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    assert is_archive(archive)
    with pytest.raises(
        DataError, match=r"^data.source = 'a.archive' is a damaged archive \(.+\); expected a whole zip"
    ):
        unpack(archive)


def test_a_tar_that_ends_between_two_members_is_an_error(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar", {"tree/1.jpg": b"x", "tree/2.jpg": b"y"}, "w:")
    archive.write_bytes(archive.read_bytes()[: 4 * 512])
    with pytest.raises(DataError, match=r"is a damaged archive \(empty header\)"):
        unpack(archive)


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_what_lies_behind_the_end_of_a_tar_is_an_error(tmp_path: Path, mode: str) -> None:
    one, two = (tarred(tmp_path / f"{n}.tar", {f"tree/{n}.jpg": b"x"}, mode).read_bytes() for n in (1, 2))
    (tmp_path / "both.tar").write_bytes(one + two)
    with pytest.raises(DataError, match=r"is a damaged archive \(there is data after its end\)"):
        unpack(tmp_path / "both.tar")


def test_a_wrong_check_sum_is_an_error(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"tree/1.jpg": b"content"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"content", b"CONTENT"))
    with pytest.raises(DataError, match=r"is a damaged archive \(Bad CRC-32 for file 'tree/1.jpg'\)"):
        unpack(archive)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_whatever_bits_are_turned_there_is_an_archive_or_one_line(tmp_path: Path, form: str) -> None:
    files = {f"tree/{number}.jpg": bytes([number]) * 40 for number in range(20)}
    archive = {
        "zip": lambda: zipped(tmp_path / "a", files),
        "tar": lambda: tarred(tmp_path / "a", files, "w:", tar_info("x" * 200)),
        "tar.gz": lambda: tarred(tmp_path / "a", files),
    }[form]()
    data = archive.read_bytes()
    draw = np.random.default_rng(7)
    outcomes = set()
    for number in range(200):
        damaged = bytearray(data)
        for _ in range(draw.integers(1, 4)):
            damaged[draw.integers(len(data))] = draw.integers(256)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        archive.write_bytes(damaged)
        try:
            unpacked(archive, "a", folder, Budget(1e6, 1e8))
            outcomes.add("whole")
        except DataError as error:
            outcomes.add("one line" if str(error).isprintable() else "several")
    assert outcomes == {"whole", "one line"}


# --- bombs ---


def bomb(member: int, count: int, path: Path, form: str) -> Path:
    files = {f"tree/{number}.jpg": bytes(member) for number in range(count)}
    return zipped(path, files) if form == "zip" else tarred(path, files)


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_that_grows_beyond_the_budget_is_an_error(tmp_path: Path, form: str) -> None:
    archive = bomb(1_000_000, 30, tmp_path / "bomb", form)
    assert archive.stat().st_size < 100_000
    with pytest.raises(
        DataError, match=r"unpacks to .* GB or more; expected at most data.max_unpacked_gigabytes = 0.02"
    ):
        unpack(archive, total=2e7)
    written = sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir())
    assert written <= (0 if form == "zip" else 2e7)


def test_a_zip_that_understates_a_size_unpacks_to_no_more(tmp_path: Path) -> None:
    archive = bomb(30_000_000, 1, tmp_path / "a.zip", "zip")
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)
    archive.write_bytes(data)
    with pytest.raises(DataError, match="is a damaged archive"):
        unpack(archive)
    assert (tmp_path / "scratch" / "0").stat().st_size <= 1000


def test_a_name_that_takes_a_megabyte_is_an_error(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tgz", {"x" * 2_000_000: b""})
    with pytest.raises(DataError, match="a name or description of more than 1 MB"):
        unpack(archive)


def test_a_negative_size_ends_the_reading(tmp_path: Path) -> None:
    header = bytearray(tar_info("tree/1.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 8 + struct.pack(">i", -512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(tarred(tmp_path / "b", {"tree/0.jpg": b""}, "w:").read_bytes()[:512] + header)
    with pytest.raises(DataError, match="negative size"):
        unpack(tmp_path / "a.tar")


def test_too_many_members_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.sources.archives._MAX_MEMBERS", 3)
    for archive in (bomb(1, 4, tmp_path / "a", "zip"), bomb(1, 4, tmp_path / "b", "tar")):
        with pytest.raises(DataError, match="has more than 3 members; expected fewer"):
            unpacked(archive, "a", tmp_path, Budget(1e6, 1e6))
        (tmp_path / "0").unlink(missing_ok=True)


def test_a_full_disk_is_an_error_of_its_own(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", FILES)
    with pytest.raises(DataError, match=r"cannot be unpacked \(No such file or directory\); expected .* room"):
        unpacked(archive, "a.zip", tmp_path / "nowhere", Budget(1e9, 1e9))
