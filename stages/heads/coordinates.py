"""Coordinates in which a logistic regression is fitted quickly, chosen by the shape of the rows.

Their columns are uncorrelated, which changes neither the L2 penalty nor the predictions (Hastie and Tibshirani 2004,
"Efficient quadratic regularization for expression arrays", theorem 1): few wide rows are expressed in the space that
they span, many rows along the eigenvectors of the columns' covariance. Rows that do not fit into memory are kept on
disk and read in pieces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.features import Moments, Positions, Rows, pieces
from stages.core.dataset.prepared import ArrayWriter, Filed

# The largest square matrix whose eigenvectors are computed: 134 MB.
_LARGEST_SQUARE = 4096
# Coordinates up to this size are held in memory in float64, larger ones on disk in float32.
_HELD_BYTES = 256 << 20
# Eigenvalues below this fraction of the largest are rounding errors.
_MIN_EIGENVALUE = 1e-12


@dataclass(frozen=True)
class Reordered:
    """Rows in another order."""

    rows: Rows
    order: Positions

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, positions: slice | Positions) -> NDArray[np.floating]:
        return self.rows[self.order[positions]]


@dataclass(frozen=True)
class Coordinates:
    """Rows (n, r) in uncorrelated coordinates, the sum of squares of each (r,), and the inverse transform.

    `back` maps coefficients (r, classes) to those of the normalised features, (width, classes).
    """

    rows: Rows
    squares: NDArray[np.float64]
    back: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """The type of the rows."""
        return self.rows[:1].dtype


def choose(rows: Rows, moments: Moments, scratch: Path) -> Coordinates:
    """Return the coordinates of rows normalised by `moments`; large ones are written to `scratch`."""
    mean, deviation = (values.astype(np.float64) for values in moments)
    normalised = _Normalised(rows, mean, deviation)
    count, width = len(rows), len(mean)
    if count <= min(width, _LARGEST_SQUARE):
        return _spanned(normalised)
    if width <= _LARGEST_SQUARE:
        return _rotated(normalised, scratch)
    return _as_they_are(normalised, scratch)


@dataclass(frozen=True)
class _Normalised:
    """Rows as the head normalises them, in float64."""

    rows: Rows
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: slice | Positions) -> NDArray[np.float64]:
        return np.asarray((self.rows[positions] - self.mean) / self.deviation)


def _spanned(rows: _Normalised) -> Coordinates:
    """Return the coordinates U S of few wide rows X = U S V^T in the space that they span; back by V = X^T U / S."""
    count = len(rows)
    products = np.zeros((count, count))
    for place, piece in pieces(rows):
        # Only the lower triangle is used.
        for other, earlier in pieces(rows, (slice(place.stop),)):
            products[place, other] = piece @ earlier.T
    values, vectors = _eigen(products)
    lengths = np.sqrt(values)

    def back(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = vectors @ (coefficients / lengths[:, None])
        return np.asarray(sum(piece.T @ weights[place] for place, piece in pieces(rows)))

    return Coordinates(vectors * lengths, values, back)


def _rotated(rows: _Normalised, scratch: Path) -> Coordinates:
    """Return the coordinates of many rows along the eigenvectors V of the columns' covariance: X V, and back by V."""
    width = len(rows.mean)
    products = np.zeros((width, width))
    for _, piece in pieces(rows):
        products += piece.T @ piece
    values, vectors = _eigen(products)
    held = _stored(rows, vectors, scratch)
    return Coordinates(held, values, lambda coefficients: vectors @ coefficients)


def _as_they_are(rows: _Normalised, scratch: Path) -> Coordinates:
    """Return the columns themselves, of which there are too many to rotate."""
    squares = sum((piece**2).sum(axis=0) for _, piece in pieces(rows))
    return Coordinates(_stored(rows, None, scratch), np.asarray(squares), lambda coefficients: coefficients)


def _eigen(products: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the eigenvalues (r,) above rounding errors, at least one, and their eigenvectors (n, r).

    Only the lower triangle of `products` is used.
    """
    values, vectors = np.linalg.eigh(products, UPLO="L")
    known = values > max(values[-1], 0.0) * _MIN_EIGENVALUE
    known[-1] = True
    # Equal rows give an eigenvalue of 0, by which nothing may be divided.
    return np.maximum(values[known], np.finfo(np.float64).tiny), vectors[:, known]


def _stored(rows: _Normalised, rotation: NDArray[np.float64] | None, scratch: Path) -> Rows:
    """Return the rotated rows, in memory if they fit, else in a file that is read in pieces."""
    columns = len(rows.mean) if rotation is None else rotation.shape[1]
    turned = ((place, piece if rotation is None else piece @ rotation) for place, piece in pieces(rows))
    if len(rows) * columns * np.float64().nbytes <= _HELD_BYTES:
        held = np.empty((len(rows), columns))
        for place, piece in turned:
            held[place] = piece
        return held
    path = scratch / "coordinates.npy"
    with ArrayWriter(path, len(rows), (columns,), np.float32) as writer:
        for _, piece in turned:
            writer.append(piece.astype(np.float32))
    return Filed(path, len(rows))
