"""Comparisons whose truth is known: which backbones are right on random test images, and what is recommended."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.statistics.paired import upper_limit

# How alike the backbones err: the correlation of the latent ease of one image for two of them.
CORRELATION = 0.7
# Numbers drawn at a time.
_NUMBERS = 10_000_000


def studies(accuracies: Sequence[float], images: int, count: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Yield parts of `count` studies: whether each backbone is right on each image, (studies, images, backbones).

    A backbone is right where an easiness, normally distributed and in part common to all, is below the quantile of its
    true accuracy.
    """
    from scipy.stats import norm

    random, most = np.random.default_rng(seed), max(1, _NUMBERS // (images * len(accuracies)))
    quantiles = norm.ppf(accuracies).astype(np.float32)
    for start in range(0, count, most):
        part = min(most, count - start)
        common = random.standard_normal((part, images, 1), dtype=np.float32)
        own = random.standard_normal((part, images, len(accuracies)), dtype=np.float32)
        yield CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own < quantiles


def recommended(right: NDArray[np.bool_], margin: float, confidence: float) -> NDArray[np.int64]:
    """Return the backbone that the verdict recommends in each study, the cheapest one being number 0.

    `right` has shape (studies, images, backbones). For many studies at once, what `report.verdict` says of each.
    """
    images, backbones = right.shape[1:]
    scores, ones = right.sum(axis=1), right.astype(np.float32)
    only = np.matmul(ones.transpose(0, 2, 1), 1 - ones)
    limits = upper_limit(images, only, only.transpose(0, 2, 1), 1 - (1 - confidence) / (backbones - 1))
    limits[:, np.arange(backbones), np.arange(backbones)] = -1
    fit = (limits.max(axis=1) <= margin) | (scores == scores.max(axis=1, keepdims=True))
    return np.asarray(fit.argmax(axis=1))


def judge(
    accuracies: Sequence[float], images: int, count: int, margin: float, confidence: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return what is `recommended` in each of `count` studies, and whether another backbone scores higher there."""
    chosen, below = [], []
    for right in studies(accuracies, images, count, seed=1):
        scores = right.sum(axis=1)
        chosen.append(recommended(right, margin, confidence))
        below.append(scores[np.arange(len(scores)), chosen[-1]] < scores.max(axis=1))
    return np.concatenate(chosen), np.concatenate(below)
