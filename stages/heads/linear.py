"""The linear head, solved exactly: multinomial logistic regression with an L2 penalty on features of norm about 1.

Features become (x - mean) / deviation, where the deviation is that of the column times the root of the number of
columns, so that rows have a norm of about 1 whatever the network's width. The head minimises

    C * sum of the weighted cross entropies + |W|^2 / 2,

as scikit-learn's LogisticRegression does; the biases are not penalised. C, the strength, is that of several whose log
loss is lowest on images that the fits have not seen: every image is predicted by a fit on the other folds. The final
fit then has all images. There is no seed, no epoch, and nothing that diverges.

How rows are laid out for a fit is in `coordinates.py`, the fit itself in `logistic.py`. Rows lie in the order of the
folds, so that a fit reads nothing of the images that it holds out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.head import Head, Layer, softmax
from stages.heads import coordinates
from stages.heads.coordinates import Coordinates, Moments, Positions, Reordered, Rows, pieces
from stages.heads.logistic import Problem, entropies

# A feature that hardly varies must not be blown up where it does vary: its variance counts as at least this share of
# the mean variance.
_LEAST_SHARE_OF_VARIANCE = 1e-4
# Of more images every fold is a half: what the other half teaches is enough.
_MANY = 20_000
# The path of strengths ends after so many in a row that are no better than the best.
_PATIENCE = 2
# How far below all others a class lies that no image of the fit has.
_NEVER_SEEN = 10.0


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
    laid_out = coordinates.choose(Reordered(rows, order), moments, scratch)
    folds = list(_held_out(laid_out, labels, classes, numbers, settings))
    weights = _weights(labels, classes, settings.class_weight)
    strength, losses = _chosen(folds, weights, settings.strengths)
    found = _out_of_fold(folds, order, classes)
    return Solved(_head(Problem(laid_out, labels, classes, weights), strength, moments), strength, losses, found)


def fit(rows: Rows, labels: Positions, classes: int, class_weight: str, strength: float, scratch: Path) -> Head:
    """Return the head of one strength. Raises ConvergenceError."""
    moments = normalisation(rows)
    problem = Problem(
        coordinates.choose(rows, moments, scratch), labels, classes, _weights(labels, classes, class_weight)
    )
    return _head(problem, strength, moments)


def normalisation(rows: Rows) -> Moments:
    """Return the mean and the deviation, both (width,), that bring features to mean 0, and rows to a norm of about 1.

    In one pass; variances are merged piece by piece (Chan, Golub and LeVeque 1983, eq. 2.1).
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

    problem: "Problem"
    positions: Positions

    def losses(self) -> NDArray[np.float64]:
        """Return the cross entropy of each image held out."""
        parts = self.problem.logits(self.positions)
        return np.concatenate([entropies(logits, self.problem.targets[part])[0] for part, logits in parts])


def _held_out(
    laid_out: Coordinates, labels: Positions, classes: int, numbers: Positions, settings: Settings
) -> Iterator[_Fold]:
    """Yield the folds of which something can be predicted; `numbers` (n,) say which images lie in which."""
    for number in range(int(numbers[-1]) + 1) if numbers[-1] else ():
        fitted = np.flatnonzero(numbers != number)
        weights = np.zeros(len(labels))
        weights[fitted] = _weights(labels[fitted], classes, settings.class_weight)
        problem = Problem(laid_out, labels, classes, weights)
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


def _head(problem: Problem, strength: float, moments: Moments) -> Head:
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
