"""Heads on many subsets of the images take the memory of one, and each is what it is alone."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from stages.core.dataset import features
from stages.heads import subsets
from stages.heads.subsets import Pool, predict

ROWS, WIDTH, CLASSES = 600, 100, 3


def pool() -> Pool:
    random = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    rows = random.standard_normal((CLASSES, WIDTH))[labels] + 2 * random.standard_normal((ROWS, WIDTH))
    return Pool(rows.astype(np.float32), labels, CLASSES, "none")


def parts(count: int) -> list[np.ndarray]:
    return [np.sort(np.random.default_rng(seed).permutation(ROWS)[: ROWS * 9 // 10]) for seed in range(count)]


def test_many_heads_hold_no_rows_of_their_own(tmp_path: Path) -> None:
    drawn = pool()

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            predict(drawn, parts(count), 1.0, drawn.rows, tmp_path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # The first fit imports SciPy.
    peak(1)
    # Of 30 copies of the rows, 13 MB, not even three.
    assert peak(32) - peak(2) < 3 * ROWS * WIDTH * np.float64().nbytes


def test_heads_are_the_same_one_by_one_and_test_images_in_any_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = pool()
    together = predict(drawn, parts(5), 1.0, drawn.rows, tmp_path)
    monkeypatch.setattr(subsets, "_KERNEL_BYTES", 1)
    monkeypatch.setattr(features, "_PIECE_BYTES", 4000)
    assert predict(drawn, parts(5), 1.0, drawn.rows, tmp_path).tolist() == together.tolist()
