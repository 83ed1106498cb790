"""Images that use fewer bits than they store, as cameras and scanners write them, keep their contrast."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from stages.core.decoding import UnusableError, decode, strict_pillow
from tests.core.test_decoding import encoded
from tests.core.test_image_metadata import chunk

DEPTHS = [8, 10, 12, 14, 16]
TIFF_PLAIN, TIFF_LZW = ([cv2.IMWRITE_TIFF_COMPRESSION, number] for number in (1, 5))
FORMS = {"PNG": (".png", []), "TIFF": (".tiff", TIFF_PLAIN), "TIFF, LZW": (".tiff", TIFF_LZW)}


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with strict_pillow():
        yield


def ramp(depth: int) -> np.ndarray[Any, Any]:
    """Return all levels of `depth` bits once, at most 4096 of them (64, 64), the highest one last."""
    return np.linspace(0, 2**depth - 1, 64 * 64).round().astype(np.uint16).reshape(64, 64)


def written(pixels: np.ndarray[Any, Any], form: str) -> bytes:
    suffix, options = FORMS[form]
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def shown(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(decode(data).image)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_grey_of_any_depth_fills_eight_bits(depth: int, form: str) -> None:
    data = written(ramp(depth), form)
    levels = shown(data)[..., 0]
    assert decode(data).mode.startswith("I;16")
    assert np.array_equal(levels, ramp(depth) >> (depth - 8))
    assert len(np.unique(levels)) == 256


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_colours_of_any_depth_fill_eight_bits_together(depth: int, form: str) -> None:
    red, green, blue = ramp(depth), ramp(depth)[::-1] // 2, ramp(depth).T // 4
    levels = shown(written(np.stack([blue, green, red], axis=-1), form))
    assert np.array_equal(levels, np.stack([red, green, blue], axis=-1) >> (depth - 8))


@pytest.mark.parametrize("alpha_depth", [12, 16])
@pytest.mark.parametrize("form", FORMS)
def test_colours_with_alpha_are_laid_over_white_at_the_depth_of_each(form: str, alpha_depth: int) -> None:
    alpha = np.full((64, 64), 2**alpha_depth - 1, np.uint16)
    alpha[:, 32:] = 0
    levels = shown(written(np.dstack([ramp(12)] * 3 + [alpha]), form))
    assert np.array_equal(levels[:, :32, 0], ramp(12)[:, :32] >> 4)
    assert (levels[:, 32:] == 255).all()


def grey_alpha(grey: np.ndarray[Any, Any]) -> bytes:
    """Return an opaque PNG of 16-bit grey with alpha, which no library at hand writes."""
    pixels = np.dstack([grey, np.full_like(grey, 65535)]).astype(">u2")
    header = struct.pack(">IIBBBBB", *grey.shape[::-1], 16, 4, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", DEPTHS)
def test_grey_with_alpha_is_as_grey(depth: int) -> None:
    assert np.array_equal(shown(grey_alpha(ramp(depth)))[..., 0], ramp(depth) >> (depth - 8))


@pytest.mark.parametrize("largest", [0, 1, 255, 256, 1023, 1024, 4095, 4096, 16383, 16384, 65535])
def test_the_depth_is_the_fewest_bits_of_sensors_that_hold_the_largest_value(largest: int) -> None:
    depth = next(depth for depth in DEPTHS if largest < 2**depth)
    grey = np.full((8, 8), largest, np.uint16)
    for pixels in grey, np.dstack([grey] * 3):
        assert (shown(written(pixels, "PNG")) == largest >> (depth - 8)).all()


def test_a_tiff_that_says_twelve_bits_is_taken_at_its_word() -> None:
    # Two dark pixels in three bytes, 0x123 and 0x045.
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 12) + b"\x12\x30\x45\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert shown(data)[..., 0].tolist() == [[0x12, 0x04]]


def white_is_zero(data: bytes, order: str = "<") -> bytes:
    """Return a TIFF whose PhotometricInterpretation says that zero is white."""
    black, white = (struct.pack(f"{order}HHIHH", 262, 3, 1, value, 0) for value in (1, 0))
    assert data.count(black) == 1
    return data.replace(black, white)


@pytest.mark.parametrize("form", ["TIFF", "TIFF, LZW"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_grey_whose_zero_is_white_is_inverted_within_its_depth(depth: int, form: str) -> None:
    levels = shown(white_is_zero(written(ramp(depth), form)))[..., 0]
    assert np.array_equal(levels, 255 - (ramp(depth) >> (depth - 8)))
    # As 8-bit grey is.
    assert np.array_equal(
        levels, shown(white_is_zero(written((ramp(depth) >> (depth - 8)).astype(np.uint8), form)))[..., 0]
    )


def big_endian(pixels: np.ndarray[Any, Any], form: int = 1) -> bytes:
    """Return an uncompressed TIFF of 16-bit grey as ImageJ writes it; form 2 is of signed numbers."""
    height, width = pixels.shape
    values = {
        256: width,
        257: height,
        258: 16,
        259: 1,
        262: 1,
        273: 134,
        277: 1,
        278: height,
        279: pixels.nbytes,
        339: form,
    }
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in values.items())
    return b"MM\0*" + struct.pack(">IH", 8, len(values)) + entries + bytes(4) + pixels.astype(">u2").tobytes()


def test_grey_whose_zero_is_white_is_read_in_the_other_order_of_bytes_as_well() -> None:
    data = big_endian(ramp(12)[:8, :8])
    assert np.array_equal(shown(data), 255 - shown(white_is_zero(data, ">")))


def test_signed_grey_of_16_bits_is_refused_as_what_it_is() -> None:
    with pytest.raises(UnusableError, match=r"^unsupported mode: I, signed 16-bit grey has no fixed range$"):
        decode(big_endian(ramp(12)[:8, :8], form=2))


def test_eight_bits_stay_as_they_are() -> None:
    dark = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert np.array_equal(shown(encoded(dark, "PNG"))[..., 0], np.asarray(dark))
