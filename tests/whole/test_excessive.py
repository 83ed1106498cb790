"""Small files that ask for much time or memory: rejects with their reasons, while all others are taken."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core.cost import Cost
from stages.core.decoding import UnusableError, decode
from stages.core.errors import DataError, run
from stages.predict.preparation import prepare, refuse
from stages.sources.archives import unpacked
from stages.sources.listing import File, Reject
from stages.sources.members import Budget
from tests.core.test_decoding import encoded, scene
from tests.core.test_image_metadata import chunk
from tests.stages.test_ingest import image, take_in
from tests.support.archives import tarred, zipped

# --- images ---


def scans(number: int) -> bytes:
    """Return a progressive JPEG with `number` further scans of nothing."""
    data = encoded(scene(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    # One component, the last coefficient, the lowest bit of one that has never been sent.
    empty = b"\xff\xda\0\x08\1\1\0\x3f\x3f\0" + b"\0"
    return data[:start] + empty * number + data[start:]


@pytest.mark.parametrize("number", [101, 3000])
def test_a_jpeg_of_more_scans_than_any_encoder_writes_is_refused_before_it_is_decoded(number: int) -> None:
    with pytest.raises(UnusableError, match=r"^too many scans: the JPEG has more than 100$"):
        decode(scans(number))


def test_a_jpeg_of_as_many_scans_as_are_of_use_is_taken() -> None:
    assert decode(encoded(scene(), "JPEG", progressive=True)).image.size == (60, 40)
    # Ten of its own and 85 empty ones.
    assert decode(scans(85)).image.size == (60, 40)


def gif_comment(size: int) -> bytes:
    """Return a GIF with a comment in many blocks, which Pillow joins one by one."""
    data = encoded(scene().quantize(4), "GIF")
    start = data.index(b"\x2c", 13)
    return data[:start] + b"\x21\xfe" + (b"\xff" + bytes(255)) * (size // 256) + b"\0" + data[start:]


def tiff_tags(number: int) -> bytes:
    """Return a TIFF of which `number` tags hold the whole file each."""
    body = bytes(1_000_000)
    entries = b"".join(struct.pack("<HHII", 33_000 + tag, 7, len(body), 8) for tag in range(number))
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", number) + entries + bytes(4)


def png_rows(width: int, height: int) -> bytes:
    """Return a PNG of one colour, which takes a thousandth of its pixels."""
    rows = zlib.compress(bytes((1 + width) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


EXCESSIVE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a GIF's comment": (lambda: gif_comment(20_000_000), "too slow"),
    "a TIFF's tags": (lambda: tiff_tags(1000), "too much memory"),
    "a PNG of many pixels": (lambda: png_rows(10_000, 9_000), "too much memory"),
    "a JPEG's scans": (lambda: scans(3000), "too many scans"),
}


@pytest.mark.parametrize("kind", EXCESSIVE)
def test_an_image_that_costs_more_than_data_allows_is_a_reject_and_others_are_taken(tmp_path: Path, kind: str) -> None:
    make, reason = EXCESSIVE[kind]
    files = {f"tree/{number}.jpg": image(number) for number in range(9)} | {"plank/x": make()}
    found, _ = take_in(tmp_path, files, max_megabytes=50, max_megapixels=100, max_seconds=3, max_memory_gigabytes=0.5)
    assert [(one.path, one.reason.split(":")[0]) for one in found.rejects] == [("plank/x", reason)]
    assert len(found.manifest) == 9


def test_predict_leaves_such_an_image_out_with_the_reason() -> None:
    assert refuse(File(Path("x"), "a\nb"), "too slow: y") == Reject("a\\nb", "too slow: y")
    # A process that takes the place of another imports their module, which a program's own cannot be.
    assert not {prepare.__module__.split(".")[-1], refuse.__module__.split(".")[-1]} & {"__main__"}


# --- archives ---

BUDGET = Budget(1e6, 1e9, unpacking=Cost(60, 0.5e9))


def unpack(archive: Path, budget: Budget = BUDGET) -> Any:
    folder = archive.parent / "scratch"
    folder.mkdir()
    return unpacked(archive, archive.name, folder, budget)


def xz(path: Path, dictionary: int) -> Path:
    """Write a .tar.xz that asks for a dictionary, by its number in xz's format (1.1.0, 5.3.1)."""
    tarred(path, {"tree/1.jpg": b"x"}, "w:")
    data = bytearray(lzma.compress(path.read_bytes()))
    size = (data[12] + 1) * 4
    data[data.index(b"\x21\x01", 12) + 2] = dictionary
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    path.write_bytes(data)
    return path


def zip_lzma(path: Path, dictionary: int) -> Path:
    """Write a zip archive whose member asks for a dictionary of that many bytes (APPNOTE 6.3.10, 5.8.8)."""
    data = bytearray(zipped(path, {"tree/1.jpg": b"x"}, zipfile.ZIP_LZMA).read_bytes())
    start = 30 + len("tree/1.jpg") + 4
    data[start + 1 : start + 5] = struct.pack("<I", dictionary)
    path.write_bytes(data)
    return path


DICTIONARIES: dict[str, Callable[[Path], Path]] = {
    **{
        f"xz of {name}": lambda path, number=number: xz(path, number)
        for name, number in {"1 GB": 36, "2 GB": 38, "3 GB": 39, "4 GB": 40}.items()
    },
    **{f"zip of {size:g} bytes": lambda path, size=size: zip_lzma(path, int(size)) for size in (1e9, 2e9, 4e9)},
}


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_an_archive_that_asks_for_a_large_dictionary_is_one_line(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = DICTIONARIES[kind](tmp_path / "a")
    with pytest.raises(SystemExit, match="1"):
        run(lambda: unpack(archive))
    assert capsys.readouterr().err == (
        "data: data.source = 'a' takes more than 0.5 GB of memory to unpack; expected at most "
        "data.max_unpack_memory_gigabytes = 0.5; raise data.max_unpack_memory_gigabytes if "
        "that is what you expect of it\n"
    )


@pytest.mark.parametrize("write", [lambda path: xz(path, 28), lambda path: zip_lzma(path, 1 << 26)])
def test_the_dictionary_of_the_strongest_usual_compression_is_no_fault(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    assert len(unpack(write(tmp_path / "a"))[0]) == 1


def overlapping(path: Path, number: int) -> Path:
    """Write a zip archive whose members are all the same bytes of it."""
    data = zipped(path, {"tree/1.jpg": bytes(900_000)}).read_bytes()
    start = data.index(b"PK\1\2")
    entry, end = data[start : data.index(b"PK\5\6")], data[data.index(b"PK\5\6") :]
    counts = struct.pack("<HHI", number, number, number * len(entry))
    path.write_bytes(data[:start] + entry * number + end[:8] + counts + end[16:])
    return path


@pytest.mark.parametrize("number", [2, 500])
def test_a_zip_archive_whose_members_overlap_is_refused_before_it_is_unpacked(tmp_path: Path, number: int) -> None:
    with pytest.raises(DataError, match=r"is a damaged archive \(its members overlap"):
        unpack(overlapping(tmp_path / "a", number))
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("write", [zipped, tarred])
def test_empty_members_take_no_place_on_the_disk(
    tmp_path: Path, write: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    files, rejects = unpack(write(tmp_path / "a", {f"tree/{number}.jpg": b"" for number in range(1000)}))
    assert (len(files), {reject.reason for reject in rejects}) == (0, {"empty file: no bytes"})
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("write", [zipped, tarred])
def test_an_archive_that_takes_too_much_processor_time_is_one_line(
    tmp_path: Path, write: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    archive = write(tmp_path / "a", {f"tree/{number}.jpg": b"x" for number in range(1000)})
    with pytest.raises(
        DataError,
        match=(
            r"^data.source = 'a' takes more than 1.66667e-07 minutes to unpack; expected at most "
            r"data.max_unpack_minutes = 1.66667e-07; raise"
        ),
    ):
        unpack(archive, Budget(1e6, 1e9, unpacking=Cost(seconds=1e-5)))


def test_an_archive_within_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner", {"tree/1.jpg": bytes(900_000)}).read_bytes()
    files, _ = unpack(zipped(tmp_path / "a", {"tree/inner.zip": inner}))
    assert [file.location.read_bytes() for file in files] == [inner]
