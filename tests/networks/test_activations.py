"""Activations below the trained blocks: kept on disk in half precision, or recomputed whenever they are read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.core.dataset.prepared import Lazy
from stages.networks import activations

NAME, COUNT, SHAPE = "block_1", 70, (3, 3, 4)
Network = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]


class Images(Lazy):
    """Images in memory: the first byte of each is its number."""

    def __init__(self) -> None:
        self.rows = np.arange(COUNT, dtype=np.uint8)[:, None]

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, positions: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.rows[positions]


def exact(scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(0).normal(0, scale, (COUNT, *SHAPE))).astype(np.float32)


def network(found: NDArray[np.float32], seen: list[int] | None = None) -> Network:
    """Return a network that has these activations of the images, and notes which it has `seen`."""

    def computed(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        if seen is not None:
            seen.extend(batch[:, 0].tolist())
        return {NAME: found[batch[:, 0]]}

    return computed


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 3e4])
def test_activations_of_any_scale_keep_three_digits(tmp_path: Path, scale: float) -> None:
    expected = exact(scale)
    rows = activations.kept(network(expected), NAME, Images(), tmp_path / "train.npy")
    assert (len(rows), np.load(tmp_path / "train.npy").dtype) == (COUNT, np.float16)
    for positions in (slice(None), slice(5, 9), np.array([69, 0, 3, 3])):
        found = rows[positions]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[positions], rtol=5e-4, atol=1e-6 * scale)


def test_an_activation_beyond_all_others_is_cut_off_and_not_infinite(tmp_path: Path) -> None:
    values = exact()
    values[20, 0, 0, :2] = 3e30, -3e30
    found = activations.kept(network(values), NAME, Images(), tmp_path / "train.npy")[:]
    assert np.abs(found).max() == pytest.approx(65504, rel=0.5)
    assert (found[20, 0, 0, 0], found[20, 0, 0, 1]) == (found.max(), found.min())
    np.testing.assert_allclose(found[21:], values[21:], rtol=5e-4, atol=1e-6)


def test_activations_that_are_all_zero_stay_so(tmp_path: Path) -> None:
    found = activations.kept(network(np.zeros((COUNT, *SHAPE), np.float32)), NAME, Images(), tmp_path / "train.npy")
    assert not found[:].any()


def test_the_room_is_foretold_by_one_image(tmp_path: Path) -> None:
    seen: list[int] = []
    size = activations.size_gb(network(exact(), seen), NAME, Images())
    assert seen == [0]
    activations.kept(network(exact()), NAME, Images(), tmp_path / "train.npy")
    assert size * 1e9 == (tmp_path / "train.npy").stat().st_size - 128


def test_what_is_kept_is_computed_once_and_all_else_whenever_it_is_read(tmp_path: Path) -> None:
    seen: list[int] = []
    rows = activations.kept(network(exact(), seen), NAME, Images(), tmp_path / "train.npy")
    # The first image says how large the others are.
    assert seen == [0, *range(COUNT)]
    seen.clear()
    assert rows[:].shape == rows[:].shape
    assert seen == []
    fresh = activations.recomputed(network(exact(), seen), NAME, Images())
    for _ in range(2):
        np.testing.assert_array_equal(fresh[2:5], exact()[2:5])
    assert (len(fresh), seen) == (COUNT, [2, 3, 4] * 2)
