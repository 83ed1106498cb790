"""Backbones as a user declares them, and pictures to put through them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.models.backbones import Backbone, resolve
from stages.params import read

ROOT = Path(__file__).parents[2]


@pytest.fixture
def declare() -> Callable[..., Backbone]:
    """Return a function that resolves one line of `backbones` over the shipped parameters."""

    def resolved(key: str, sizes: tuple[int, ...] = (32, 64, 96), **line: Any) -> Backbone:
        params = read(ROOT / "params.yaml")
        prepared = params["preprocess"] | {"sizes": list(sizes)}
        return resolve(key, params | {"preprocess": prepared, "backbones": {key: line}})

    return resolved


@pytest.fixture
def pictures() -> Callable[..., NDArray[np.uint8]]:
    """Return a function that makes smooth random pictures, (n, side, side, 3), 0 to 255."""

    def made(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
        repeat = -(-side // 4)
        return coarse.repeat(repeat, axis=1).repeat(repeat, axis=2)[:, :side, :side]

    return made
