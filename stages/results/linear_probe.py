"""A linear probe: how well frozen features tell the classes apart, and what they say of each picture.

A logistic regression on the features of the pictures themselves, without their augmented views. Each
picture is predicted by a fit that saw neither it nor anything of its group, so the predictions can rank
backbones and contradict labels.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.params import Section

# Wider features are projected to so many columns: 100,000 pictures of them take 0.8 GB.
_COLUMNS = 2048
# A feature that hardly varies must not be blown up where it does: its variance counts as at least this share
# of the mean variance.
_LEAST_SHARE_OF_VARIANCE = 1e-4
# Inverse strength of the L2 penalty on features whose squared norm is about 1. Of 1, 10, ... 10,000 the values
# between 10 and 100 gave the lowest log loss on features of several networks.
_INVERSE_PENALTY = 30.0
_MOST_ITERATIONS = 1000


class ProbeParams(Section):
    """What stage probe reads of section `audit`."""

    folds: int = Field(ge=2, le=100)


def reduced(read: Callable[[], Iterable[NDArray[np.float32]]], seed: int) -> NDArray[np.float32]:
    """Return features with mean 0 and a squared norm of about 1, (n, at most `_COLUMNS`), from batches (n, width).

    `read` is called twice, and memory holds one batch and the result. Wide features are multiplied by a matrix
    of normal numbers drawn from `seed`, which keeps the angles between pictures (Johnson and Lindenstrauss 1984).
    No label is looked at, so held-out pictures may take part.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for batch in read():
        scaler.partial_fit(batch.astype(np.float64))
    variance = scaler.var_
    width = len(variance)
    # Features of random networks lie around 1e-10: nothing here compares them with a fixed number.
    least = _LEAST_SHARE_OF_VARIANCE * float(variance.mean()) or 1.0
    scale = 1 / np.sqrt(np.maximum(variance, least) * width)
    projection = _projection(width, seed)
    parts = []
    for batch in read():
        standard = ((batch - scaler.mean_) * scale).astype(np.float32)
        parts.append(standard if projection is None else standard @ projection)
    return np.concatenate(parts)


def _projection(width: int, seed: int) -> NDArray[np.float32] | None:
    if width <= _COLUMNS:
        return None
    normal = np.random.default_rng(seed).standard_normal((width, _COLUMNS), dtype=np.float32)
    return normal / np.float32(np.sqrt(_COLUMNS))


def usable_folds(labels: NDArray[np.int64], groups: NDArray[np.int64], wanted: int) -> int:
    """Return how many folds to take: not more than the smallest class has groups, and 2 at least."""
    groups_of_each = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    return max(2, min(wanted, *groups_of_each))


def out_of_fold(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.float64]:
    """Return the probability of each class for each picture, (n, C), from a fit without the picture's group.

    `labels` are positions in the classes, 0 to C - 1. A row is NaN where no such fit knows the picture's
    class, because all of the class's pictures, or nearly all, are one group.
    """
    from sklearn.linear_model import LogisticRegression

    features = _rotated(features)
    found = np.full((len(labels), int(labels.max()) + 1), np.nan)
    for training, held_out in _folds(labels, groups, folds, seed):
        known = np.unique(labels[training])
        predicted = held_out[np.isin(labels[held_out], known)]
        if len(known) < 2 or not len(predicted):  # noqa: PLR2004 (one class cannot be told from another)
            continue
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MOST_ITERATIONS)
        model.fit(features[training], labels[training])
        found[predicted] = 0.0
        found[np.ix_(predicted, known)] = _normalised(model.predict_proba(features[predicted]))
    return found


def _rotated(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features in the space that the pictures span, (n, at most n): few pictures of wide features fit faster.

    From X = U S V^T this is U S. The L2 penalty does not change under rotation, so the fits predict the same
    (Hastie and Tibshirani 2004, "Efficient quadratic regularization for expression arrays", theorem 1).
    """
    if len(features) >= features.shape[1]:
        return features
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    return np.asarray(left * singular)


def _folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
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
