"""Odd, broken or huge metadata costs no image: what is checked strictly is what its pixels depend on."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import TiffImagePlugin

from stages.core.decoding import UnusableError, decode, strict_pillow
from tests.core.test_decoding import encoded, scene

SHORT, LONG, ASCII = 3, 4, 2


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with strict_pillow():
        yield


def exif(*entries: tuple[int, int, int, int]) -> bytes:
    """Return Exif of `entries`: tag, type, count, value or offset."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4)


TWO_UNITS = (296, SHORT, 2, 2 | 2 << 16)
BEHIND_THE_END = (305, ASCII, 500, 60_000)
EXIF = {
    "a unit twice": exif(TWO_UNITS),
    "a resolution that is text": exif((282, ASCII, 4, 0x37373737), TWO_UNITS),
    "a resolution divided by nothing": exif((282, 5, 1, 8), (296, SHORT, 1, 2)),
    "text behind the end": exif(BEHIND_THE_END, TWO_UNITS),
    "a width twice": exif((256, SHORT, 2, 1 | 1 << 16), TWO_UNITS),
    "an unknown type": exif((296, 99, 1, 2)),
    "more entries than there are": exif(TWO_UNITS)[:14] + b"\xff\xff" + exif(TWO_UNITS)[16:],
    "a directory in itself": exif((0x8769, LONG, 1, 8), (0x8825, LONG, 1, 8)),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("kind", EXIF)
def test_odd_exif_costs_no_image_of_any_format(form: str, kind: str) -> None:
    assert decode(encoded(scene(), form, exif=EXIF[kind])).image.size == (60, 40)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_beside_odd_entries_counts_and_of_two_the_first(form: str) -> None:
    for orientation in (TWO_UNITS, (274, SHORT, 1, 6)), ((274, SHORT, 2, 6 | 1 << 16),):
        assert decode(encoded(scene(), form, exif=exif(*sorted(orientation)))).image.size == (40, 60)


def tiff(*entries: tuple[int, int, object]) -> bytes:
    """Return a TIFF with `entries` beside those of its pixels: tag, type, value."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, value in entries:
        tags.tagtype[tag] = kind
        tags[tag] = value
    return encoded(scene(), "TIFF", tiffinfo=tags)


def doubled(tag: int, kind: int = SHORT) -> bytes:
    """Return a TIFF that gives two values where there should be one."""
    data = bytearray(tiff((296, SHORT, 2), (266, SHORT, 1)))
    place = data.index(struct.pack("<HH", tag, kind))
    value = data[place + 8 : place + 10]
    data[place + 4 : place + 12] = struct.pack("<I", 2) + value * 2
    return bytes(data)


@pytest.mark.parametrize("data", [doubled(296), tiff((305, ASCII, "é" * 9)), tiff((65000, 7, bytes(70_000)))])
def test_odd_tags_cost_no_tiff(data: bytes) -> None:
    assert np.array_equal(np.asarray(decode(data).image), np.asarray(scene()))


@pytest.mark.parametrize("tag", [259, 262, 284])
def test_a_tag_of_the_pixels_that_is_odd_refuses_a_tiff(tag: int) -> None:
    data = bytearray(encoded(scene().convert("L"), "TIFF"))
    place = data.index(struct.pack("<HH", tag, SHORT))
    data[place + 4 : place + 12] = struct.pack("<I", 2) + data[place + 8 : place + 10] * 2
    with pytest.raises(UnusableError):
        decode(bytes(data))


def chunk(kind: bytes, data: bytes, *, is_whole: bool = True) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ (not is_whole))


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a PNG with chunks before its pixels and after them."""
    data = encoded(scene(), "PNG")
    start = data.index(b"IDAT") - 4
    return data[:start] + before + data[start:-12] + after + data[-12:]


LONG_TEXT = zlib.compress(bytes(5_000_000))
CHUNKS = {
    "text with a wrong checksum": chunk(b"tEXt", b"Title\0x", is_whole=False),
    "a time with a wrong checksum": chunk(b"tIME", bytes(7), is_whole=False),
    "a long text": chunk(b"zTXt", b"Workflow\0\0" + LONG_TEXT),
    "a hundred long texts": chunk(b"iTXt", b"x\0\1\0\0\0" + LONG_TEXT) * 100,
    "a colour profile that is none": chunk(b"iCCP", b"x\0\0" + zlib.compress(b"none")),
    "a colour profile that is not compressed": chunk(b"iCCP", b"x\0\0none"),
    "a resolution cut off": chunk(b"pHYs", b"\0"),
    "an animation of nothing": chunk(b"acTL", bytes(8)),
    "Exif with a wrong checksum": chunk(b"eXIf", EXIF["a unit twice"][6:], is_whole=False),
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", CHUNKS)
def test_odd_chunks_cost_no_png(kind: str, place: str) -> None:
    assert np.array_equal(np.asarray(decode(png(**{place: CHUNKS[kind]})).image), np.asarray(scene()))


def test_the_orientation_that_imagemagick_writes_as_text_counts() -> None:
    data = exif((274, SHORT, 1, 6))
    text = b"\nexif\n%8d\n%s\n" % (len(data), data.hex().encode())
    upright = decode(png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))).image
    assert upright.size == (40, 60)


@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE"])
def test_a_wrong_checksum_of_what_a_png_shows_refuses_it(kind: bytes) -> None:
    data = bytearray(encoded(scene().quantize(4), "PNG"))
    place = data.index(kind)
    (size,) = struct.unpack_from(">I", data, place - 4)
    data[place + 4 + size] ^= 1
    with pytest.raises(UnusableError):
        decode(bytes(data))


JPEG_SEGMENTS = {
    "a colour profile in parts that are missing": b"\xff\xe2\0\x12ICC_PROFILE\0\x02\x07xx",
    "a directory of further images that are not there": b"\xff\xe2\0\x10MPF\0II*\0\x08\0\0\0\xff\xff",
    "Photoshop's data cut off": b"\xff\xed\0\x1aPhotoshop 3.0\x008BIM\x03\xed\0\xff\xff\xff",
    "a segment of no kind": b"\xff\xeb\0\x06none",
}


@pytest.mark.parametrize("kind", JPEG_SEGMENTS)
def test_odd_segments_cost_no_jpeg(kind: str) -> None:
    data = encoded(scene(), "JPEG")
    place = 2 if "further" not in kind else data.index(b"\xff\xdb")
    assert decode(data[:place] + JPEG_SEGMENTS[kind] + data[place:]).image.size == (60, 40)
