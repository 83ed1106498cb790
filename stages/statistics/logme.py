"""LogME: how well a linear model on frozen features explains the classes, in one number and without held-out images.

You, Liu, Wang and Long 2021, "LogME: Practical assessment of pre-trained models for transfer learning", ICML; You, Liu,
Zhang, Wang, Jordan and Long 2022, "Ranking and tuning pre-trained models: a new paradigm for exploiting model hubs",
JMLR 23. n is the number of images, D of features and C of classes.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Bounds of the ratio of the two precisions: float32 features carry no information beyond them.
_MIN_RATIO, _MAX_RATIO = 1e-12, 1e12
# The search ends when a step changes the evidence of an image by less than this, in nats.
_TOLERANCE = 1e-10
_MAX_STEPS = 1000


def logme(batches: Iterable[NDArray[np.float32]], labels: NDArray[np.int64]) -> float:
    """Return the maximum log evidence per image, averaged over classes, in nats. Higher is better.

    `batches` are the features (n, D), one batch in memory at a time; `labels` are n positions among the classes. For a
    class let y be 1 for its images and 0 for the others, with y ~ N(F w, I/beta) and w ~ N(0, I/alpha): the evidence
    is the maximum of log p(y | F, alpha, beta) (You et al. 2021, algorithm 1). The result does not
    depend on the scale of the features.
    """
    classes, targets = np.unique(labels, return_inverse=True)
    singular, inside, outside = _decomposed(batches, targets, len(classes))
    found = [
        _evidence(singular, inside[:, number], float(outside[number]), len(labels)) for number in range(len(classes))
    ]
    return float(np.mean(found)) / len(labels)


def _decomposed(
    batches: Iterable[NDArray[np.float32]], targets: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what the evidence needs of the features F and the targets Y (n, C), for F = U S V^T of rank r.

    These are the squared singular values (r,), scaled to a maximum of 1; the squares of U^T Y, (r, C); and for each
    class the squared norm of the residual outside the span of the features, (C,). Rows are folded batch by batch into
    the triangular factor of [F Y], which has the same products and at most D + C rows: the features of all images are
    never in memory together.
    """
    factor = np.empty((0, 0))
    rows: list[NDArray[np.float64]] = []
    start = 0
    for batch in batches:
        wanted = targets[start : start + len(batch), None] == np.arange(classes)
        rows.append(np.hstack([batch.astype(np.float64), wanted]))
        start += len(batch)
        # Half as many new rows as the factor has: folding in fewer costs nearly as much.
        if 2 * sum(map(len, rows)) > rows[0].shape[1]:
            factor = _folded(factor, rows)
    factor = _folded(factor, rows)
    features, wanted = factor[:, :-classes], factor[:, -classes:]
    # Half the memory of a singular value decomposition; U stays orthonormal, and nothing divides by S.
    squares, left = np.linalg.eigh(features @ features.T)
    # Smaller ones are rounding errors (as in numpy.linalg.matrix_rank).
    known = squares > squares.max() * max(features.shape) * np.finfo(np.float64).eps
    squares, left = squares[known], left[:, known]
    inside = left.T @ wanted
    outside = ((wanted - left @ inside) ** 2).sum(axis=0)
    return squares / squares.max(initial=np.finfo(np.float64).tiny), inside**2, outside


def _folded(factor: NDArray[np.float64], rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the triangular factor of the rows of `factor` and `rows` together; `rows` is emptied."""
    stacked = np.vstack([factor, *rows] if factor.size else rows) if rows else factor
    rows.clear()
    return np.asarray(np.linalg.qr(stacked, mode="r"))


def _evidence(squares: NDArray[np.float64], inside: NDArray[np.float64], outside: float, count: int) -> float:
    """Return the largest log evidence of `count` targets of one class, from a column of `_decomposed`.

    With t = alpha / beta, gamma = Σ σ²/(t + σ²), residual ‖F m - y‖² and weights ‖m‖² of the posterior mean m, the
    fixed point that You et al. 2022 iterate is t = (gamma / weights) (residual / (n - gamma)). For a given t the best
    beta is n / e with e = residual + t weights, which leaves -(n/2) (ln(2π e/n) + 1) - ½ Σ ln(1 + σ²/t).
    """
    ratio, found = 1.0, -np.inf
    for _ in range(_MAX_STEPS):
        # The fraction of each direction that the prior shrinks away.
        shrunk = ratio / (ratio + squares)
        error = outside + float(inside @ shrunk)
        before, found = (
            found,
            -count / 2 * (np.log(2 * np.pi * error / count) + 1) - np.log1p(squares / ratio).sum() / 2,
        )
        if abs(found - before) < _TOLERANCE * count:
            break
        residual = outside + float(inside @ shrunk**2)
        weights = float(inside @ (squares / (ratio + squares) ** 2))
        # n - gamma, without the rounding of a difference of two large numbers.
        free = count - len(squares) + float(shrunk.sum())
        ratio = float((1 - shrunk).sum()) * residual / (weights * free) if weights else _MAX_RATIO
        ratio = min(max(ratio, _MIN_RATIO), _MAX_RATIO)
    return float(found)
