"""A linear probe: how well frozen features tell the classes apart, and what they say of each picture.

A logistic regression on the features of the pictures themselves, without their augmented views. Each
picture is predicted by a fit that saw neither it nor anything of its group, so the predictions can rank
backbones and contradict labels.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from stages.params import Section

# Wider features are projected to so many columns.
_COLUMNS = 2048
# A fit sees at most so many pictures, 82 MB of features: more change its predictions little.
MOST_FITTED = 10_000
# A feature that hardly varies must not be blown up where it does: its variance counts as at least this share
# of the mean variance.
_LEAST_SHARE_OF_VARIANCE = 1e-4
# Inverse strength of the L2 penalty on features whose squared norm is about 1. Of 1, 10, ... 10,000 the values
# between 10 and 100 gave the lowest log loss on features of several networks.
_INVERSE_PENALTY = 30.0
_MOST_ITERATIONS = 1000

# Positions in an array, (n,).
Positions = NDArray[np.int64]


class ProbeParams(Section):
    """What stage probe reads of section `audit`."""

    folds: int = Field(ge=2, le=100)


def reduction(
    batches: Iterable[NDArray[np.float32]], seed: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what brings features (n, width) to mean 0 and a squared norm of about 1, (n, at most `_COLUMNS`).

    `batches` are all the features, of which one batch is in memory at a time. Wide features are multiplied by a
    matrix of normal numbers drawn from `seed`, which keeps the angles between pictures (Johnson and Lindenstrauss
    1984). No label is looked at, so held-out pictures may take part.
    """
    mean, scale = standardisation(batches)
    projection = _projection(len(mean), seed)

    def reduce(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        standard: NDArray[np.float32] = ((batch - mean) * scale).astype(np.float32)
        return standard if projection is None else standard @ projection

    return reduce


def standardisation(batches: Iterable[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and factor of each feature, both (width,), that bring it to mean 0, and rows to a norm of about 1."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for batch in batches:
        scaler.partial_fit(batch.astype(np.float64))
    variance = scaler.var_
    # Features of random networks lie around 1e-10: nothing here compares them with a fixed number.
    least = _LEAST_SHARE_OF_VARIANCE * float(variance.mean()) or 1.0
    return scaler.mean_, 1 / np.sqrt(np.maximum(variance, least) * len(variance))


def narrowed(batches: Iterable[NDArray[np.float32]], seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield the features as they are, but for wide ones, which are projected as `reduction` does it."""
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


def usable_folds(labels: Positions, groups: Positions, wanted: int) -> int:
    """Return how many folds to take: not more than the smallest class has groups, and 2 at least."""
    groups_of_each = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    return max(2, min(wanted, *groups_of_each))


def out_of_fold(
    features: Callable[[Positions], NDArray[np.float32]], labels: Positions, groups: Positions, folds: int, seed: int
) -> NDArray[np.float64]:
    """Return the probability of each class for each picture, (n, C), from a fit without the picture's group.

    `features` gives the reduced features of the pictures at some positions, and is asked for a bounded number at a
    time; `labels` are positions in the classes, 0 to C - 1. A row is NaN where no such fit knows the picture's
    class, because all of the class's pictures, or nearly all, are one group.
    """
    found = np.full((len(labels), int(labels.max()) + 1), np.nan)
    for others, held_out in _folds(labels, groups, folds, seed):
        training = drawn(others, labels, MOST_FITTED, seed)
        known = np.unique(labels[training])
        predicted = held_out[np.isin(labels[held_out], known)]
        if len(known) < 2 or not len(predicted):  # noqa: PLR2004 (one class cannot be told from another)
            continue
        predict = _fit(features(training), labels[training])
        found[predicted] = 0.0
        for start in range(0, len(predicted), MOST_FITTED):
            part = predicted[start : start + MOST_FITTED]
            found[np.ix_(part, known)] = predict(features(part))
    return found


def drawn(positions: Positions, labels: Positions, most: int, seed: int) -> Positions:
    """Return at most `most` of `positions`, of each class the same share, but one at least."""
    if len(positions) <= most:
        return positions
    shuffled = np.random.default_rng(seed).permutation(positions)
    table = pd.Series(labels[shuffled])
    rank = table.groupby(table).cumcount() / table.groupby(table).transform("size")
    return np.sort(shuffled[np.argsort(rank.to_numpy(), kind="stable")[:most]])


def _fit(features: NDArray[np.float32], labels: Positions) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Return the prediction of a logistic regression: features (m, width) in, probabilities (m, classes) out.

    Wide features of few pictures are rotated into the space that these span, where the fit is faster: from
    X = U S V^T to U S. The L2 penalty does not change under rotation and leaves no weight outside that space, so
    it predicts the same (Hastie and Tibshirani 2004, "Efficient quadratic regularization for expression arrays",
    theorem 1).
    """
    from sklearn.linear_model import LogisticRegression

    axes = None
    if len(features) < features.shape[1]:
        left, singular, axes = np.linalg.svd(features, full_matrices=False)
        features = np.asarray(left * singular)
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MOST_ITERATIONS).fit(features, labels)
    return lambda others: _normalised(model.predict_proba(others if axes is None else others @ axes.T))


def _folds(labels: Positions, groups: Positions, folds: int, seed: int) -> Iterable[tuple[Positions, Positions]]:
    """Yield the positions for training and those held out; groups stay whole, classes are spread evenly."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    if min(np.bincount(labels).max(), len(np.unique(groups))) < folds:
        return
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class of a single picture cannot be held out and trained on; its row stays NaN.
        warnings.filterwarnings("ignore", message="The least populated class")
        yield from dealer.split(labels, labels, groups)


def _normalised(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return float64 rows that sum to 1: computed in float32 they miss it by some 1e-7."""
    exact = probabilities.astype(np.float64)
    return np.asarray(exact / exact.sum(axis=1, keepdims=True))
