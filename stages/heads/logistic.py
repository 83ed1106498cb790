"""Multinomial logistic regression with an L2 penalty, minimised by L-BFGS (Liu and Nocedal 1989).

The uncorrelated coordinates are scaled by the known curvature of the loss where all coefficients are 0, so that a fit
needs 10 to 200 passes over the rows, more for weaker penalties (benchmarks/linear.py).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.features import Positions, pieces
from stages.core.errors import UserError
from stages.heads.coordinates import Coordinates, Reordered

_MAX_ITERATIONS = 2000
# The largest gradient of the mean loss along the scaled coordinates. In float32 smaller ones are rounding errors.
_TOLERANCE = {np.dtype(np.float64): 1e-7, np.dtype(np.float32): 1e-5}
# For the vectors that L-BFGS keeps.
_MEMORY_BYTES = 256 << 20


class ConvergenceError(UserError):
    """A fit that did not reach its optimum."""

    kind = "fit"


class Problem:
    """The fit of one set of rows: those of positive weight, and their classes.

    `coefficients` (r + 1, known classes) are those of the coordinates and, last, the biases; L-BFGS works on theta,
    these divided by a scale. Each fit starts from the result of the previous strength, the first one from the relative
    frequencies of the classes.
    """

    def __init__(self, coordinates: Coordinates, labels: Positions, classes: int, weights: NDArray[np.float64]) -> None:
        self.coordinates, self.classes, self.weights = coordinates, classes, weights
        self.parts = _runs(weights > 0)
        self.known: Positions = np.unique(labels[weights > 0])
        # An image of an unknown class has weight 0, so its target is arbitrary.
        self.targets = np.searchsorted(self.known, labels).clip(max=len(self.known) - 1)
        self.total = float(weights.sum())
        self.shares = np.bincount(self.targets, weights) / self.total
        self.coefficients = np.zeros((len(coordinates.squares) + 1, len(self.known)))
        self.coefficients[-1] = np.log(self.shares) - np.log(self.shares).mean()

    def minimise(self, strength: float, precision: np.dtype[np.floating] | None = None) -> None:
        """Fit the coefficients for a strength, in the precision of the rows or another one. Raises ConvergenceError."""
        from scipy.optimize import minimize

        if len(self.known) < 2:  # noqa: PLR2004 (nothing to classify)
            return
        penalty = 1 / (strength * self.total)
        scale = self._scale(penalty)[:, None]
        shape, kind = self.coefficients.shape, precision or self.coordinates.dtype
        tolerance = _TOLERANCE[kind]

        def slope(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            value, gradient = self._loss(theta.reshape(shape) * scale, penalty, kind)
            return value, (gradient * scale).ravel()

        found = minimize(
            slope,
            (self.coefficients / scale).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": _MAX_ITERATIONS, "maxfun": 2 * _MAX_ITERATIONS, "ftol": 0.0, "gtol": tolerance,
                "maxcor": int(np.clip(_MEMORY_BYTES // (16 * self.coefficients.size), 3, 20)),
            },
        )  # fmt: skip
        # Near the optimum in float32 no step improves the loss any more: the gradient is what counts.
        steepest = float(np.abs(found.jac).max())
        if not steepest <= 10 * tolerance:
            raise ConvergenceError(
                f"a linear head of C = {strength:g} whose loss still falls by {steepest:.2g} after {found.nit} steps",
                f"a slope of at most {10 * tolerance:g}",
                "lower the values of finetune.linear.c",
            )
        self.coefficients = found.x.reshape(shape) * scale

    def _scale(self, penalty: float) -> NDArray[np.float64]:
        """Return 1 over the root of the curvature of each coordinate, and of the bias, where the kernel is 0.

        It is the mean over the classes: with one scale per class, steps would leave the space in which coefficients sum
        to 0 over the classes, and only the penalty leads back there. The mean squares are those of all rows, not of
        each fit: the scale affects the speed, not the optimum.
        """
        share = float((self.shares * (1 - self.shares)).mean())
        curvature = np.append(self.coordinates.squares / len(self.weights) * share + penalty, share)
        return np.asarray(1 / np.sqrt(curvature))

    def _loss(
        self, coefficients: NDArray[np.float64], penalty: float, precision: np.dtype[np.floating]
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the mean loss with its penalty, and its gradient."""
        kernel, bias = coefficients[:-1], coefficients[-1]
        value, gradient = penalty / 2 * float((kernel**2).sum()), np.empty_like(coefficients)
        gradient[:-1], gradient[-1] = penalty * kernel, 0.0
        narrow = kernel.astype(precision)
        for place, stored in pieces(self.coordinates.rows, self.parts, len(bias)):
            piece = stored.astype(precision, copy=False)
            targets, weights = self.targets[place], self.weights[place] / self.total
            losses, found = entropies((piece @ narrow) + bias, targets)
            value += float(weights @ losses)
            found[np.arange(len(found)), targets] -= 1
            found *= weights[:, None]
            gradient[:-1] += piece.T @ found.astype(precision, copy=False)
            gradient[-1] += found.sum(axis=0)
        return value, gradient

    def logits(self, positions: Positions) -> Iterator[tuple[Positions, NDArray[np.float64]]]:
        """Yield the positions in pieces, with the logits of the known classes for their rows."""
        kernel, bias = self.coefficients[:-1], self.coefficients[-1]
        for place, piece in pieces(Reordered(self.coordinates.rows, positions), columns=len(bias)):
            yield positions[place], piece @ kernel + bias


def _runs(chosen: NDArray[np.bool_]) -> list[slice]:
    """Return the runs of consecutive positions that are chosen."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def entropies(logits: NDArray[np.float64], targets: Positions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cross entropy of each row, (n,), and the probabilities, which overwrite the logits."""
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(logits)), targets]
    found = np.exp(logits, out=logits)
    sums = found.sum(axis=1)
    found /= sums[:, None]
    return np.log(sums) - right, found
