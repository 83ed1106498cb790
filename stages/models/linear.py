"""The linear head, solved exactly: multinomial logistic regression with an L2 penalty on features of norm about 1.

Features become (x - mean) / deviation, where the deviation is that of the column times the root of the number of
columns, so that rows have a norm of about 1 whatever the network's width. The head minimises

    C * sum of the weighted cross entropies + |W|^2 / 2,

as scikit-learn's LogisticRegression does; the biases are not penalised. C, the strength, is that of several whose log
loss is lowest on images that the fits have not seen: every image is predicted by a fit on the other folds. The final
fit then has all images. There is no seed, no epoch, and nothing that diverges.

A fit works on coordinates in which the columns are uncorrelated, which neither the penalty nor the predictions notice
(Hastie and Tibshirani 2004, "Efficient quadratic regularization for expression arrays", theorem 1): of few wide rows
in the space that these span, of many rows along the eigenvectors of the columns' covariance. There the curvature of
the loss where all coefficients are 0 is known for each coordinate and scales it, so that L-BFGS (Liu and Nocedal 1989)
needs 10 to 200 passes over the rows, the more the weaker the penalty is (benchmarks/linear.py).
Rows that do not fit into memory lie on disk and are read in pieces. They lie in the order of the folds, so that a fit
reads nothing of the images that it holds out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.errors import UserError
from stages.images.prepared import ArrayWriter
from stages.models.head import Head, Layer, softmax

# A feature that hardly varies must not be blown up where it does vary: its variance counts as at least this share of
# the mean variance.
_LEAST_SHARE_OF_VARIANCE = 1e-4
# The largest square matrix whose eigenvectors are computed: 134 MB.
_LARGEST_SQUARE = 4096
# Coordinates up to this size are held in memory in float64, larger ones lie on disk in float32.
_HELD_BYTES = 256 << 20
_PIECE_BYTES = 16 << 20
# Of more images every fold is a half: what the other half teaches is enough.
_MANY = 20_000
# The path of strengths ends after so many in a row that are no better than the best.
_PATIENCE = 2
_MOST_ITERATIONS = 2000
# Of the slope of the mean loss along the scaled coordinates. In float32 rounding hides what is smaller.
_TOLERANCE = {np.dtype(np.float64): 1e-7, np.dtype(np.float32): 1e-5}
# For the vectors that L-BFGS keeps.
_MEMORY_BYTES = 256 << 20
# Of eigenvalues relative to the largest: what is smaller is rounding.
_LEAST_EIGENVALUE = 1e-12
# How far below all others a class lies that no image of the fit has.
_NEVER_SEEN = 10.0

# Positions in an array, (n,).
Positions = NDArray[np.int64]


class Rows(Protocol):
    """Feature vectors (n, width) that are read as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: slice | Positions) -> NDArray[np.floating]: ...


class ConvergenceError(UserError):
    """A fit that did not reach its optimum."""

    kind = "fit"


@dataclass(frozen=True)
class Settings:
    """How a linear head is fitted: the strengths to try, ascending, the folds, and the kind of class weights."""

    strengths: Sequence[float]
    folds: int
    class_weight: str


@dataclass(frozen=True)
class Solved:
    """A fitted head, its strength, the log loss of each strength tried on images that the fits had not seen.

    `out_of_fold` (n, classes) has the probabilities of each image by such a fit, at that strength; rows of NaN where
    no fit knew the image's class.
    """

    head: Head
    strength: float
    losses: dict[float, float]
    out_of_fold: NDArray[np.float64]


def solve(rows: Rows, labels: Positions, groups: Positions, classes: int, settings: Settings, scratch: Path) -> Solved:
    """Choose the strength and fit the head.

    `labels` (n,) are positions in the `classes`; images of one of the `groups` (n,) lie in one fold. Files that are
    needed on the way go to the folder `scratch`. Raises ConvergenceError.
    """
    numbers = _folds(labels, groups, settings)
    order = np.argsort(numbers, kind="stable")
    numbers, labels = numbers[order], labels[order]
    moments = normalisation(rows)
    coordinates = _coordinates(_Reordered(rows, order), moments, scratch)
    folds = list(_held_out(coordinates, labels, classes, numbers, settings))
    weights = _weights(labels, classes, settings.class_weight)
    strength, losses = _chosen(folds, weights, settings.strengths)
    found = _out_of_fold(folds, order, classes)
    return Solved(_head(_Problem(coordinates, labels, classes, weights), strength, moments), strength, losses, found)


def fit(rows: Rows, labels: Positions, classes: int, class_weight: str, strength: float, scratch: Path) -> Head:
    """Return the head of one strength. Raises ConvergenceError."""
    moments = normalisation(rows)
    problem = _Problem(_coordinates(rows, moments, scratch), labels, classes, _weights(labels, classes, class_weight))
    return _head(problem, strength, moments)


def normalisation(rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and the deviation, both (width,), that bring features to mean 0, and rows to a norm of about 1.

    In one pass; variances are merged piece by piece (Chan, Golub and LeVeque 1983, eq. 2.1).
    """
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for _, piece in _pieces(rows):
        values = piece.astype(np.float64)
        delta = values.mean(axis=0) - mean
        total = count + len(values)
        squares = squares + values.var(axis=0) * len(values) + delta**2 * count * len(values) / total
        mean = mean + delta * len(values) / total
        count = total
    variance = squares / max(count, 1)
    # Features of random networks lie around 1e-10: nothing here compares them with a fixed number.
    least = _LEAST_SHARE_OF_VARIANCE * float(variance.mean()) or 1.0
    deviation = np.sqrt(np.maximum(variance, least) * len(variance))
    return mean.astype(np.float32), deviation.astype(np.float32)


def class_weights(labels: Positions, classes: int, kind: str) -> NDArray[np.float64]:
    """Return the weight of each class, (classes,): 1, or what lets each class count the same in all.

    `balanced` is scikit-learn's images / (classes * images of the class), over the classes that there are:
    https://scikit-learn.org/stable/modules/generated/sklearn.utils.class_weight.compute_class_weight.html
    """
    if kind == "none":
        return np.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.where(counts, len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0))


def _weights(labels: Positions, classes: int, kind: str) -> NDArray[np.float64]:
    return class_weights(labels, classes, kind)[labels]


def _pieces(
    rows: Rows, parts: Sequence[slice] = (slice(None),), columns: int = 0
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Yield the rows of some parts some megabytes at a time, each piece with its place.

    A piece is small enough for so many float64 `columns` beside it as well.
    """
    size = max(1, _PIECE_BYTES // max(1, rows[:1].nbytes, np.float64().nbytes * columns))
    for part in parts:
        first, end, _ = part.indices(len(rows))
        for start in range(first, end, size):
            place = slice(start, min(start + size, end))
            yield place, rows[place]


@dataclass(frozen=True)
class _Reordered:
    """Rows in another order."""

    rows: Rows
    order: Positions

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, positions: slice | Positions) -> NDArray[np.floating]:
        return self.rows[self.order[positions]]


@dataclass(frozen=True)
class _Coordinates:
    """Rows (n, r) in uncorrelated coordinates, the sum of squares of each (r,), and the way back.

    `back` turns coefficients (r, classes) into those of the normalised features, (width, classes).
    """

    rows: Rows
    squares: NDArray[np.float64]
    back: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self.rows[:1].dtype


def _coordinates(rows: Rows, moments: tuple[NDArray[np.float32], NDArray[np.float32]], scratch: Path) -> _Coordinates:
    """Choose coordinates by the shape of the rows."""
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


def _spanned(rows: _Normalised) -> _Coordinates:
    """Return the coordinates U S of few wide rows X = U S V^T in the space that they span; back by V = X^T U / S."""
    count = len(rows)
    products = np.zeros((count, count))
    for place, piece in _pieces(rows):
        # The lower triangle: no more is looked at.
        for other, earlier in _pieces(rows, (slice(place.stop),)):
            products[place, other] = piece @ earlier.T
    values, vectors = _eigen(products)
    lengths = np.sqrt(values)

    def back(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        spread = vectors @ (coefficients / lengths[:, None])
        return np.asarray(sum(piece.T @ spread[place] for place, piece in _pieces(rows)))

    return _Coordinates(vectors * lengths, values, back)


def _rotated(rows: _Normalised, scratch: Path) -> _Coordinates:
    """Return the coordinates of many rows along the eigenvectors V of the columns' covariance: X V, and back by V."""
    width = len(rows.mean)
    products = np.zeros((width, width))
    for _, piece in _pieces(rows):
        products += piece.T @ piece
    values, vectors = _eigen(products)
    held = _stored(rows, vectors, scratch)
    return _Coordinates(held, values, lambda coefficients: vectors @ coefficients)


def _as_they_are(rows: _Normalised, scratch: Path) -> _Coordinates:
    """Return the columns themselves, of which there are too many to rotate."""
    squares = sum((piece**2).sum(axis=0) for _, piece in _pieces(rows))
    return _Coordinates(_stored(rows, None, scratch), np.asarray(squares), lambda coefficients: coefficients)


def _eigen(products: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the eigenvalues (r,) that are more than rounding, one at least, and their eigenvectors (n, r).

    Of the products only the lower triangle counts.
    """
    values, vectors = np.linalg.eigh(products, UPLO="L")
    known = values > max(values[-1], 0.0) * _LEAST_EIGENVALUE
    known[-1] = True
    # Of equal rows nothing is left, and nothing may be divided by it.
    return np.maximum(values[known], np.finfo(np.float64).tiny), vectors[:, known]


def _stored(rows: _Normalised, rotation: NDArray[np.float64] | None, scratch: Path) -> Rows:
    """Return the rows, rotated, in memory where they fit, else in a file that is read in pieces."""
    columns = len(rows.mean) if rotation is None else rotation.shape[1]
    turned = ((place, piece if rotation is None else piece @ rotation) for place, piece in _pieces(rows))
    if len(rows) * columns * np.float64().nbytes <= _HELD_BYTES:
        held = np.empty((len(rows), columns))
        for place, piece in turned:
            held[place] = piece
        return held
    path = scratch / "coordinates.npy"
    with ArrayWriter(path, len(rows), (columns,), np.float32) as writer:
        for _, piece in turned:
            writer.append(piece.astype(np.float32))
    return _Filed(path, len(rows))


@dataclass(frozen=True)
class _Filed:
    """Rows of an array file, opened anew each time: what stays mapped counts as this process's memory."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, positions: slice | Positions) -> NDArray[np.floating]:
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[positions])


def _folds(labels: Positions, groups: Positions, settings: Settings) -> Positions:
    """Return the fold of each image, (n,): groups stay whole, classes are spread evenly.

    There is one fold alone where nothing can be held out.
    One group after another, the larger ones first, goes where the smallest share of its classes lies yet.
    """
    wanted = settings.folds if len(labels) <= _MANY else 2
    count = min(wanted, int(np.bincount(labels).max()), len(np.unique(groups)))
    found = np.zeros(len(labels), np.int64)
    shares, sizes, images = np.zeros((labels.max() + 1, count)), np.zeros(count), np.bincount(labels)
    for members in _drawn(groups):
        own = labels[members]
        fold = int(np.lexsort((sizes, shares[own].sum(axis=0)))[0])
        found[members] = fold
        sizes[fold] += len(members)
        np.add.at(shares[:, fold], own, 1 / images[own])
    return found


def _drawn(groups: Positions) -> list[Positions]:
    """Return the positions of each group, the largest first; equally large ones in an order that never changes."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted((members[number] for number in np.random.default_rng(0).permutation(len(members))), key=_smallness)


def _smallness(members: Positions) -> int:
    return -len(members)


@dataclass(frozen=True)
class _Fold:
    """The fit on the other folds, and the positions of the fold's images whose classes that fit knows."""

    problem: "_Problem"
    positions: Positions

    def losses(self) -> NDArray[np.float64]:
        """Return the cross entropy of each image held out."""
        parts = self.problem.logits(self.positions)
        return np.concatenate([_entropies(logits, self.problem.targets[part])[0] for part, logits in parts])


def _held_out(
    coordinates: _Coordinates, labels: Positions, classes: int, numbers: Positions, settings: Settings
) -> Iterator[_Fold]:
    """Yield the folds of which something can be predicted; `numbers` (n,) say which images lie in which."""
    for number in range(int(numbers[-1]) + 1) if numbers[-1] else ():
        fitted = np.flatnonzero(numbers != number)
        weights = np.zeros(len(labels))
        weights[fitted] = _weights(labels[fitted], classes, settings.class_weight)
        problem = _Problem(coordinates, labels, classes, weights)
        positions = np.flatnonzero((numbers == number) & np.isin(labels, problem.known))
        # One class cannot be told from another.
        if len(positions) and len(problem.known) > 1:
            yield _Fold(problem, positions)


def _chosen(
    folds: Sequence[_Fold], weights: NDArray[np.float64], strengths: Sequence[float]
) -> tuple[float, dict[float, float]]:
    """Return the strength of the lowest log loss out of fold, and the losses; leave the folds fitted with it.

    Strengths rise until two in a row are no better than the best. Where nothing can be held out the lowest is taken,
    whose head is the least sure of itself.
    """
    best, losses, kept = strengths[0], dict[float, float](), [fold.problem.coefficients for fold in folds]
    for strength in strengths if folds else ():
        losses[strength] = _loss_of(folds, weights, strength)
        if losses[strength] < losses[best] or len(losses) == 1:
            best, kept = strength, [fold.problem.coefficients for fold in folds]
        if len(losses) - [*losses].index(best) > _PATIENCE:
            break
    for fold, coefficients in zip(folds, kept, strict=True):
        fold.problem.coefficients = coefficients
    return best, losses


def _loss_of(folds: Sequence[_Fold], weights: NDArray[np.float64], strength: float) -> float:
    """Fit the folds with a strength; return the weighted mean log loss of what they hold out."""
    for fold in folds:
        fold.problem.minimise(strength)
    positions = np.concatenate([fold.positions for fold in folds])
    return float(np.average(np.concatenate([fold.losses() for fold in folds]), weights=weights[positions]))


def _out_of_fold(folds: Sequence[_Fold], order: Positions, classes: int) -> NDArray[np.float64]:
    """Return the probabilities that the fitted folds give what they hold out, rows in the order before `order`."""
    found = np.full((len(order), classes), np.nan)
    for fold in folds:
        for part, logits in fold.problem.logits(fold.positions):
            found[order[part]] = 0.0
            found[np.ix_(order[part], fold.problem.known)] = softmax(logits)
    return found


def _entropies(logits: NDArray[np.float64], targets: Positions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cross entropy of each row, (n,), and the probabilities, in the place of the logits."""
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(logits)), targets]
    found = np.exp(logits, out=logits)
    sums = found.sum(axis=1)
    found /= sums[:, None]
    return np.log(sums) - right, found


class _Problem:
    """The fit of one set of rows: those of positive weight, and the classes that these have.

    `coefficients` (r + 1, known classes) are those of the coordinates and, last, the biases; L-BFGS works on theta,
    these divided by a scale. Of one strength after another each fit begins where the last one ended, the first one with
    the shares of the classes as probabilities.
    """

    def __init__(
        self, coordinates: _Coordinates, labels: Positions, classes: int, weights: NDArray[np.float64]
    ) -> None:
        self.coordinates, self.classes, self.weights = coordinates, classes, weights
        self.parts = _runs(weights > 0)
        self.known: Positions = np.unique(labels[weights > 0])
        # Of an image whose class is not known any place will do: nobody asks for it.
        self.targets = np.searchsorted(self.known, labels).clip(max=len(self.known) - 1)
        self.total = float(weights.sum())
        self.shares = np.bincount(self.targets, weights) / self.total
        self.coefficients = np.zeros((len(coordinates.squares) + 1, len(self.known)))
        self.coefficients[-1] = np.log(self.shares) - np.log(self.shares).mean()

    def minimise(self, strength: float, precision: np.dtype[np.floating] | None = None) -> None:
        """Find the coefficients for a strength, in the precision of the rows or another. Raises ConvergenceError."""
        from scipy.optimize import minimize

        if len(self.known) < 2:  # noqa: PLR2004 (nothing to tell apart)
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
                "maxiter": _MOST_ITERATIONS, "maxfun": 2 * _MOST_ITERATIONS, "ftol": 0.0, "gtol": tolerance,
                "maxcor": int(np.clip(_MEMORY_BYTES // (16 * self.coefficients.size), 3, 20)),
            },
        )  # fmt: skip
        # Near the optimum of float32 no step improves any more: what counts is the slope.
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

        The mean over the classes: with a scale of its own for each, steps would leave the space in which coefficients
        sum to 0 over the classes, and the penalty alone leads back there. The mean squares of all rows stand for those
        of each fit: the scale sets the pace, not the optimum.
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
        for place, stored in _pieces(self.coordinates.rows, self.parts, len(bias)):
            piece = stored.astype(precision, copy=False)
            targets, weights = self.targets[place], self.weights[place] / self.total
            losses, found = _entropies((piece @ narrow) + bias, targets)
            value += float(weights @ losses)
            found[np.arange(len(found)), targets] -= 1
            found *= weights[:, None]
            gradient[:-1] += piece.T @ found.astype(precision, copy=False)
            gradient[-1] += found.sum(axis=0)
        return value, gradient

    def logits(self, positions: Positions) -> Iterator[tuple[Positions, NDArray[np.float64]]]:
        """Yield some of the positions at a time, with the logits of the known classes for the rows there."""
        kernel, bias = self.coefficients[:-1], self.coefficients[-1]
        for place, piece in _pieces(_Reordered(self.coordinates.rows, positions), columns=len(bias)):
            yield positions[place], piece @ kernel + bias


def _runs(chosen: NDArray[np.bool_]) -> list[slice]:
    """Return the stretches of positions that are chosen."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _head(problem: _Problem, strength: float, moments: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Head:
    """Return the fitted head for all classes; one that the fit has no image of is never the likeliest.

    The penalty lets the coefficients of a coordinate sum to 0 over the known classes: the largest logit of these is at
    least their mean bias.
    """
    # What lies in float32 is minimised in it first, which takes half the time.
    for precision in dict.fromkeys((problem.coordinates.dtype, np.dtype(np.float64))):
        problem.minimise(strength, precision)
    kernel = np.zeros((len(moments[0]), problem.classes), np.float32)
    bias = np.full(problem.classes, problem.coefficients[-1].min() - _NEVER_SEEN, np.float32)
    kernel[:, problem.known] = problem.coordinates.back(problem.coefficients[:-1])
    bias[problem.known] = problem.coefficients[-1]
    return Head((Layer(kernel, bias),), moments)
