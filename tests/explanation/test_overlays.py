from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.explanation.overlays import SIDE, overlay, small, write_image


@pytest.fixture
def image() -> np.ndarray:
    """An image with as much colour as there is, smooth enough for a lossy format."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return coarse.repeat(24, axis=0).repeat(24, axis=1)


def colourfulness(pixels: np.ndarray) -> np.ndarray:
    return pixels.max(axis=-1).astype(int) - pixels.min(axis=-1)


@pytest.mark.parametrize(("side", "shown"), [(299, SIDE), (128, 128), (32, 32)])
def test_a_image_is_made_smaller_and_never_larger(side: int, shown: int) -> None:
    found = small(np.full((side, side, 3), (10, 120, 250), np.uint8))
    assert (found.shape, found.dtype) == ((shown, shown, 3), np.uint8)
    assert (found == (10, 120, 250)).all()


def test_colour_lies_where_the_map_is_high_and_nowhere_else(image: np.ndarray) -> None:
    found = np.zeros((6, 6), np.float32)
    found[1, 4] = 1
    laid = overlay(image, found)
    assert (laid.shape, laid.dtype) == (image.shape, np.uint8)
    row, column = np.unravel_index(colourfulness(laid).argmax(), laid.shape[:2])
    assert (16 <= row < 32, 64 <= column < 80) == (True, True)
    assert not colourfulness(laid[48:]).any()
    assert not colourfulness(laid[:, :32]).any()


def test_under_an_empty_map_the_image_is_grey_and_as_bright_as_before(image: np.ndarray) -> None:
    laid = overlay(image, np.zeros((3, 3), np.float32))
    expected = np.asarray(Image.fromarray(image).convert("L"), dtype=int)
    assert np.abs(laid.astype(int) - expected[:, :, None]).max() <= 1


def test_more_evidence_is_brighter(image: np.ndarray) -> None:
    grey = np.full_like(image, 90)
    brightness = [overlay(grey, np.full((2, 2), value, np.float32)).mean() for value in (0.4, 0.6, 0.8, 1.0)]
    assert brightness == sorted(set(brightness))


def test_a_file_is_a_small_webp_with_the_same_bytes_each_time(image: np.ndarray, tmp_path: Path) -> None:
    for name in ("one.webp", "other.webp"):
        write_image(tmp_path / name, small(image))
    assert (tmp_path / "one.webp").read_bytes() == (tmp_path / "other.webp").read_bytes()
    with Image.open(tmp_path / "one.webp") as read:
        assert (read.format, read.size) == ("WEBP", (96, 96))
        assert np.abs(np.asarray(read.convert("RGB"), dtype=int) - image).mean() < 12
