"""The linear head, solved exactly: multinomial logistic regression with an L2 penalty on features of norm about 1.

Features become (x - mean) / deviation, where the deviation is that of the column times the root of the number of
columns, so that rows have a norm of about 1 whatever the network's width. The head minimises

    C * sum of the weighted cross entropies + |W|^2 / 2,

as scikit-learn's LogisticRegression does; the biases are not penalised. C, the strength, is chosen by the lowest
out-of-fold log loss: every image is predicted by a fit on the other folds. The final fit uses all images. There is no
seed, there are no epochs, and nothing can diverge.

`coordinates.py` transforms the rows, `logistic.py` fits. Rows are ordered by fold, so that a fit skips the images that
it holds out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.features import Moments, Positions, Rows, class_weights, normalisation
from stages.core.head import Head, Layer, softmax
from stages.heads import coordinates
from stages.heads.coordinates import Coordinates, Reordered
from stages.heads.logistic import Problem, entropies

# With more images there are two folds: half of them are enough to fit on.
_MANY = 20_000
# Larger strengths are not tried after this many in a row that are no better than the best.
_PATIENCE = 2
# How far below all other biases that of a class without images is.
_UNSEEN_CLASS = 10.0


@dataclass(frozen=True)
class Settings:
    """How a linear head is fitted: the strengths to try, ascending, the folds, and the kind of class weights."""

    strengths: Sequence[float]
    folds: int
    class_weight: str


@dataclass(frozen=True)
class Solved:
    """A fitted head, its strength, and the out-of-fold log loss of each strength tried.

    `out_of_fold` (n, classes) has the probabilities of each image by the fit that held it out; rows of NaN where that
    fit had no image of the class.
    """

    head: Head
    strength: float
    losses: dict[float, float]
    out_of_fold: NDArray[np.float64]


def solve(rows: Rows, labels: Positions, groups: Positions, classes: int, settings: Settings, scratch: Path) -> Solved:
    """Choose the strength and fit the head.

    `labels` (n,) are positions among the `classes`; images of one of the `groups` (n,) share a fold. Temporary files go
    to the folder `scratch`. Raises ConvergenceError.
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


def _weights(labels: Positions, classes: int, kind: str) -> NDArray[np.float64]:
    return class_weights(labels, classes, kind)[labels]


def _folds(labels: Positions, groups: Positions, settings: Settings) -> Positions:
    """Return the fold of each image, (n,): groups stay together, classes are distributed evenly.

    There is a single fold if nothing can be held out. Groups are assigned one by one, the largest first, each to the
    fold that has the smallest fraction of its classes so far.
    """
    wanted = settings.folds if len(labels) <= _MANY else 2
    count = min(wanted, int(np.bincount(labels).max()), len(np.unique(groups)))
    found = np.zeros(len(labels), np.int64)
    shares, sizes, images = np.zeros((labels.max() + 1, count)), np.zeros(count), np.bincount(labels)
    for members in _shuffled(groups):
        own = labels[members]
        fold = int(np.lexsort((sizes, shares[own].sum(axis=0)))[0])
        found[members] = fold
        sizes[fold] += len(members)
        np.add.at(shares[:, fold], own, 1 / images[own])
    return found


def _shuffled(groups: Positions) -> list[Positions]:
    """Return the positions of each group, the largest first; groups of equal size are shuffled with a fixed seed."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted((members[number] for number in np.random.default_rng(0).permutation(len(members))), key=_smallness)


def _smallness(members: Positions) -> int:
    return -len(members)


@dataclass(frozen=True)
class _Fold:
    """The fit on the other folds, and the positions of the fold's images whose classes occur in that fit."""

    problem: "Problem"
    positions: Positions

    def losses(self) -> NDArray[np.float64]:
        """Return the cross entropy of each image held out."""
        parts = self.problem.logits(self.positions)
        return np.concatenate([entropies(logits, self.problem.targets[part])[0] for part, logits in parts])


def _held_out(
    laid_out: Coordinates, labels: Positions, classes: int, numbers: Positions, settings: Settings
) -> Iterator[_Fold]:
    """Yield the folds with images that can be predicted; `numbers` (n,) are the folds of the images."""
    for number in range(int(numbers[-1]) + 1) if numbers[-1] else ():
        fitted = np.flatnonzero(numbers != number)
        weights = np.zeros(len(labels))
        weights[fitted] = _weights(labels[fitted], classes, settings.class_weight)
        problem = Problem(laid_out, labels, classes, weights)
        positions = np.flatnonzero((numbers == number) & np.isin(labels, problem.known))
        # A fit needs at least two classes.
        if len(positions) and len(problem.known) > 1:
            yield _Fold(problem, positions)


def _chosen(
    folds: Sequence[_Fold], weights: NDArray[np.float64], strengths: Sequence[float]
) -> tuple[float, dict[float, float]]:
    """Return the strength of the lowest out-of-fold log loss, and the losses; leave the folds fitted with it.

    Strengths rise until two in a row are no better than the best. If nothing can be held out the lowest is chosen,
    whose head is the least confident.
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
    """Fit the folds with a strength; return the weighted mean out-of-fold log loss."""
    for fold in folds:
        fold.problem.minimise(strength)
    positions = np.concatenate([fold.positions for fold in folds])
    return float(np.average(np.concatenate([fold.losses() for fold in folds]), weights=weights[positions]))


def _out_of_fold(folds: Sequence[_Fold], order: Positions, classes: int) -> NDArray[np.float64]:
    """Return the out-of-fold probabilities of the fitted folds, in the row order before `order`."""
    found = np.full((len(order), classes), np.nan)
    for fold in folds:
        for part, logits in fold.problem.logits(fold.positions):
            found[order[part]] = 0.0
            found[np.ix_(order[part], fold.problem.known)] = softmax(logits)
    return found


def _head(problem: Problem, strength: float, moments: Moments) -> Head:
    """Return the fitted head for all classes; a class without images in the fit is never the most probable.

    The penalty makes the coefficients of a coordinate sum to 0 over the known classes, so that their largest logit is
    at least their mean bias.
    """
    # Rows in float32 are first minimised in that precision, which takes half the time.
    for precision in dict.fromkeys((problem.coordinates.dtype, np.dtype(np.float64))):
        problem.minimise(strength, precision)
    kernel = np.zeros((len(moments[0]), problem.classes), np.float32)
    bias = np.full(problem.classes, problem.coefficients[-1].min() - _UNSEEN_CLASS, np.float32)
    kernel[:, problem.known] = problem.coordinates.back(problem.coefficients[:-1])
    bias[problem.known] = problem.coefficients[-1]
    return Head((Layer(kernel, bias),), moments)
