"""Linear heads of one strength on many subsets of the images, as a learning curve needs them.

The rows are normalised and laid out once, as for the head of all images, and the strength is that head's: a head takes
a tenth of the time of one for which both are done anew. It is as accurate, and more so for a few dozen images, of which
no strength can be chosen reliably (benchmarks/learning_curve.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.features import Moments, Positions, Rows, class_weights, normalisation, pieces
from stages.heads import coordinates
from stages.heads.coordinates import Coordinates, Reordered
from stages.heads.logistic import Problem

# The size of the kernels that are applied to the test images together.
_KERNEL_BYTES = 64 << 20


@dataclass(frozen=True)
class Pool:
    """The images of which the subsets consist: `rows`, and `labels` (n,), positions among the `classes`."""

    rows: Rows
    labels: Positions
    classes: int
    class_weight: str


@dataclass(frozen=True)
class _Fit:
    """What remains of a `Problem`, whose copy of the rows many heads together would not fit into memory.

    The `known` classes, and the `coefficients` (r + 1, known).
    """

    known: Positions
    coefficients: NDArray[np.float64]


def predict(pool: Pool, subsets: Sequence[Positions], strength: float, tested: Rows, scratch: Path) -> Positions:
    """Return the classes of `tested` rows by a head on each of the subsets of the pool, (subsets, tested).

    Each of `subsets` has positions in the pool, ascending. Temporary files go to the folder `scratch`. Raises
    ConvergenceError.
    """
    moments = normalisation(pool.rows)
    laid_out = coordinates.choose(pool.rows, moments, scratch)
    size = max(1, _KERNEL_BYTES // (8 * len(moments[0]) * pool.classes))
    parts = (subsets[start : start + size] for start in range(0, len(subsets), size))
    fits = ([_fit(pool, laid_out, each, strength) for each in part] for part in parts)
    found = [_predicted(part, laid_out, moments, tested) for part in fits]
    return np.concatenate([np.empty((0, len(tested)), np.int64), *found])


def _fit(pool: Pool, laid_out: Coordinates, subset: Positions, strength: float) -> _Fit:
    labels, rows = pool.labels[subset], laid_out.rows
    own = rows[subset] if isinstance(rows, np.ndarray) else Reordered(rows, subset)
    weights = class_weights(labels, pool.classes, pool.class_weight)[labels]
    squares = laid_out.squares * len(subset) / len(rows)
    problem = Problem(Coordinates(own, squares, laid_out.back), labels, pool.classes, weights)
    problem.minimise(strength)
    return _Fit(problem.known, problem.coefficients)


def _predicted(fits: Sequence[_Fit], laid_out: Coordinates, moments: Moments, tested: Rows) -> Positions:
    """Return the most probable class of each row by each head; all kernels are transformed, and applied, at once."""
    kernel = laid_out.back(np.concatenate([each.coefficients[:-1] for each in fits], axis=1))
    mean, deviation = (values.astype(np.float64) for values in moments)
    found = pieces(tested, columns=kernel.shape[1])
    parts = [[*_classes(fits, ((piece - mean) / deviation) @ kernel)] for _, piece in found]
    return np.concatenate([np.stack(part) for part in parts], axis=1)


def _classes(fits: Sequence[_Fit], logits: NDArray[np.float64]) -> Iterator[Positions]:
    ends = np.cumsum([len(each.known) for each in fits])
    for fit, own in zip(fits, np.split(logits, ends[:-1], axis=1), strict=True):
        yield fit.known[(own + fit.coefficients[-1]).argmax(axis=1)]
