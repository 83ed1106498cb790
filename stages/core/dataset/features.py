"""Features for training: reading them in pieces, normalisation, samples, projections, class weights."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_PIECE_BYTES = 16 << 20
# Floor the variance at this fraction of the mean variance, so that near-constant features are not amplified.
_MIN_VARIANCE_FRACTION = 1e-4
# Wider features are projected to this many columns.
_COLUMNS = 2048

# Positions in an array, (n,).
Positions = NDArray[np.int64]
# Mean and deviation of each column, both (width,).
Moments = tuple[NDArray[np.float32], NDArray[np.float32]]


class Rows(Protocol):
    """Feature vectors (n, width) that are read on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: slice | Positions) -> NDArray[np.floating]: ...


def pieces(
    rows: Rows, parts: Sequence[slice] = (slice(None),), columns: int = 0
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Yield the rows of `parts`, some megabytes at a time, each piece with its position.

    A piece is small enough that `columns` float64 columns of the same rows fit too.
    """
    size = max(1, _PIECE_BYTES // max(1, rows[:1].nbytes, np.float64().nbytes * columns))
    for part in parts:
        first, end, _ = part.indices(len(rows))
        for start in range(first, end, size):
            place = slice(start, min(start + size, end))
            yield place, rows[place]


def normalisation(rows: Rows) -> Moments:
    """Return the mean and the deviation, both (width,), that bring features to mean 0, and rows to a norm of about 1.

    One pass; variances are merged piece by piece (Chan, Golub and LeVeque 1983, eq. 2.1).
    """
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for _, piece in pieces(rows):
        values = piece.astype(np.float64)
        delta = values.mean(axis=0) - mean
        total = count + len(values)
        squares = squares + values.var(axis=0) * len(values) + delta**2 * count * len(values) / total
        mean = mean + delta * len(values) / total
        count = total
    variance = squares / max(count, 1)
    # Features of random networks are around 1e-10, so there is no absolute threshold.
    least = _MIN_VARIANCE_FRACTION * float(variance.mean()) or 1.0
    deviation = np.sqrt(np.maximum(variance, least) * len(variance))
    return mean.astype(np.float32), deviation.astype(np.float32)


def class_weights(labels: Positions, classes: int, kind: str) -> NDArray[np.float64]:
    """Return the weight of each class, (classes,): 1, or weights by which each class has the same total weight.

    `balanced` is scikit-learn's images / (classes * images of the class), over the classes that have images:
    https://scikit-learn.org/stable/modules/generated/sklearn.utils.class_weight.compute_class_weight.html
    """
    if kind == "none":
        return np.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.where(counts, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0))


def stratified_sample(positions: Positions, labels: Positions, most: int, seed: int) -> Positions:
    """Return at most `most` of `positions`, the same fraction of each class, but at least one image."""
    if len(positions) <= most:
        return positions
    shuffled = np.random.default_rng(seed).permutation(positions)
    table = pd.Series(labels[shuffled])
    rank = table.groupby(table).cumcount() / table.groupby(table).transform("size")
    return np.sort(shuffled[np.argsort(rank.to_numpy(), kind="stable")[:most]])


def project(batches: Iterable[NDArray[np.float32]], seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield the features, wide ones projected to fewer columns.

    They are multiplied by a matrix of normal random numbers drawn from `seed`, which preserves the angles between
    images (Johnson and Lindenstrauss 1984).
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
