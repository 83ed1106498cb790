"""Resizing images to the square that a network takes."""

import numpy as np
from PIL import Image

from stages.core.dataset.augmentation import GREY, Pixels


def resize_to_square(image: Image.Image, side: int, fit: str) -> Pixels:
    """Return `image` as a square of `side` pixels (side, side, 3), resized once, linearly and without aliasing.

    `fit` is stretch, crop (the centre) or pad (with grey).
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short) if fit == "crop" else (0, 0, width, height)
    inner = (max(1, round(width * side / long)), max(1, round(height * side / long))) if fit == "pad" else (side, side)
    resized = image.resize(inner, Image.Resampling.BILINEAR, box=box)
    if inner == (side, side):
        return np.asarray(resized)
    square = np.full((side, side, 3), GREY, np.uint8)
    left_edge, top_edge = (side - inner[0]) // 2, (side - inner[1]) // 2
    square[top_edge : top_edge + inner[1], left_edge : left_edge + inner[0]] = np.asarray(resized)
    return square
