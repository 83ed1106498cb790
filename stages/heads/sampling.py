"""Fewer images, and fewer columns, of what is too large to be looked at whole."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Wider features are projected to so many columns.
_COLUMNS = 2048

# Positions in an array, (n,).
Positions = NDArray[np.int64]


def stratified(positions: Positions, labels: Positions, most: int, seed: int) -> Positions:
    """Return at most `most` of `positions`, of each class the same share, but one at least."""
    if len(positions) <= most:
        return positions
    shuffled = np.random.default_rng(seed).permutation(positions)
    table = pd.Series(labels[shuffled])
    rank = table.groupby(table).cumcount() / table.groupby(table).transform("size")
    return np.sort(shuffled[np.argsort(rank.to_numpy(), kind="stable")[:most]])


def narrowed(batches: Iterable[NDArray[np.float32]], seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield the features as they are, but for wide ones.

    Those are multiplied by a matrix of normal numbers drawn from `seed`, which keeps the angles between images (Johnson
    and Lindenstrauss 1984).
    """
    projection = None
    for number, batch in enumerate(batches):
        if not number:
            projection = _projection(batch.shape[1], seed)
        yield batch if projection is None else batch @ projection


def _projection(width: int, seed: int) -> NDArray[np.float32] | None:
    if width <= _COLUMNS:
        return None
    normal = np.random.default_rng(seed).standard_normal((width, _COLUMNS), dtype=np.float32)
    return normal / np.float32(np.sqrt(_COLUMNS))
