"""Colours: of skin, hair, fabric and surroundings."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Colour = Sequence[float]  # red, green, blue, each 0 to 1

SKINS = ("e3b596", "d6a27e", "c99069", "b47a55", "996243", "7d4d31", "613a25", "46291b")
HAIRS = ("1b1512", "2d1f16", "4a2f1c", "6e4524", "8f6230", "b08a4c", "77746f", "7c2f1a")
# Darker than most backgrounds, so that the figure stands out.
FABRICS = (
    *("1d1f24", "33363d", "4b4f58", "6d727a", "1f3a63", "265f8a", "3f8496", "1b5f51", "57743a", "8a9256"),
    *("c4972a", "c2641f", "b03526", "84223a", "a94e72", "683d7e", "8b6a9c", "76573d", "3a2746", "23403a"),
)
WALLS = ("e8e4da", "d9d3c7", "c9d2d2", "b9c4b5", "d6c2ae", "9aa7b0", "7d8b86", "b7a3a0", "5d6670", "efe9e4", "c58f6c")
FLOORS = ("c79f6b", "a9794a", "8a5c3a", "6a4a36", "b9b2a6", "8b8d8f", "5f6468", "d9cdb8", "9c6b52")
GROUNDS = ("6f8f3f", "58793a", "86994f", "4d6b45", "9a9550")
SANDS = ("dcc79c", "cdb38a", "c2a982", "e4d6b5")


def rgb(code: str) -> Array:
    """Return a colour written as six hexadecimal digits as red, green, blue, each 0 to 1."""
    return np.array([int(code[start : start + 2], 16) for start in (0, 2, 4)]) / 255


def choose(rng: Generator, codes: Sequence[str], spread: float = 0.04) -> Array:
    """Return one of the colours, a little changed."""
    return np.clip(rgb(codes[int(rng.integers(len(codes)))]) + rng.normal(0, spread, 3), 0, 1)
