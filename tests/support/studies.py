"""Comparisons whose truth is known: which backbones are right on random test images, and what is recommended."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from stages.core.measure import Measure
from stages.core.predictions import Predictions
from stages.statistics.decision import choose
from stages.statistics.groups import Groups, Precision
from stages.statistics.outcomes import Counts, Outcomes, Seeds
from stages.statistics.pairwise import holm, p_value
from stages.statistics.scores import Scores, Summed

# How alike the backbones err: the correlation of the latent ease of one image for two of them.
CORRELATION = 0.7
# How often backbones are right on images in groups.
GROUPED_ACCURACY = 0.85
# Numbers drawn at a time.
_NUMBERS = 10_000_000


def studies(accuracies: Sequence[float], images: int, count: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Yield parts of `count` studies: whether each backbone is right on each image, (studies, images, backbones).

    A backbone is right where an easiness, normally distributed and in part common to all, is below the quantile of its
    true accuracy.
    """
    random, most = np.random.default_rng(seed), max(1, _NUMBERS // (images * len(accuracies)))
    quantiles = norm.ppf(accuracies).astype(np.float32)
    for start in range(0, count, most):
        part = min(most, count - start)
        common = random.standard_normal((part, images, 1), dtype=np.float32)
        own = random.standard_normal((part, images, len(accuracies)), dtype=np.float32)
        yield CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own < quantiles


def recommended(right: NDArray[np.bool_], margin: float, confidence: float) -> NDArray[np.int64]:
    """Return the backbone that the verdict recommends in each study, the cheapest one being number 0.

    `right` has shape (studies, images, backbones).
    """
    studied, images, backbones = right.shape
    ones = right.astype(np.float32)
    only = np.matmul(ones.transpose(0, 2, 1), 1 - ones)
    counts = Counts(
        np.full(studied, images), right.sum(axis=1), only, Precision.independent(only.shape), Seeds.none(backbones)
    )
    return choose(counts, np.arange(backbones), margin, confidence)


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


def independent(right: NDArray[np.bool_]) -> Outcomes:
    """Return the outcomes of backbones that were trained once, on images alone; `right` has a column for each."""
    return Outcomes(tuple(map(str, range(right.shape[1]))), tuple(right.T[:, None]), Groups.single(len(right)))


def grouped(groups: int, size: int, backbones: int, studies: int, seed: int) -> Iterator[Outcomes]:
    """Yield the outcomes of backbones that are all `GROUPED_ACCURACY` right, on groups of images of equal `size`.

    Half of what makes an image easy is its group's.
    """
    draw, codes = np.random.default_rng(seed), np.repeat(np.arange(groups), size)
    names = tuple(map(str, range(backbones)))
    for _ in range(studies):
        ease = draw.standard_normal((2, len(codes), backbones + 1))
        ease[0] = ease[0, codes]
        ease = ease.sum(axis=0) / 2
        right = ease[:, :1] + ease[:, 1:] < NormalDist().inv_cdf(GROUPED_ACCURACY)
        yield Outcomes(names, tuple(right.T[:, None]), Groups(codes))


def smallest_p(study: Outcomes) -> float:
    """Return the smallest p-value of all pairs, corrected for their number."""
    return min(holm([p_value(study.of(*pair)) for pair in combinations(study.names, 2)]))


def seeded(
    images: int, accuracies: Sequence[float], trainings: int, deviation: float, studies: int
) -> Iterator[Outcomes]:
    """Yield the outcomes of backbones that are right so often on average, with this deviation between trainings."""
    draw, backbones = np.random.default_rng(images), len(accuracies)
    names, means = tuple(map(str, range(backbones))), np.array(accuracies)[:, None, None]
    for _ in range(studies):
        drawn = np.clip(means + draw.normal(0, deviation, (backbones, trainings, 1)), 0.5, 0.999)
        ease = 0.6**0.5 * draw.standard_normal(images) + 0.4**0.5 * draw.standard_normal((backbones, trainings, images))
        yield Outcomes(names, tuple(ease < norm.ppf(drawn)), Groups.single(images))


# How frequent the classes of `measured` studies are, and how clear their images.
FREQUENT, CLEAR = (0.7, 0.2, 0.1), 1.6


def measured(
    measure: Measure, groups: int, size: int, edges: Sequence[float], studies: int, seed: int
) -> Iterator[Scores]:
    """Yield classifiers by a measure, on groups of images of equal `size`, of three classes of unequal frequency.

    `edges` has one for each classifier: it knows the two rare classes better by it and the frequent one worse. What
    makes an image hard is in part its group's, and in part common to all classifiers.
    """
    draw, codes, names = (
        np.random.default_rng(seed),
        np.repeat(np.arange(groups), size),
        tuple(map(str, range(len(edges)))),
    )
    classes = ("a", "b", "c")
    for _ in range(studies):
        found = list(_answers(draw, codes, edges))
        trainings = tuple(
            (
                Summed.of(
                    measure.parts(Predictions(classes, actual, logits.argmax(axis=1), _softmax(logits))), Groups(codes)
                ),
            )
            for actual, logits in found
        )
        yield Scores(measure, names, trainings, Groups(codes), measure.largest(classes))


def _answers(
    draw: np.random.Generator, codes: NDArray[np.int64], edges: Sequence[float]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield actual classes and each classifier's logits."""
    actual = draw.choice(3, len(codes), p=FREQUENT)
    common = draw.standard_normal((len(codes), 3)) + 0.7 * draw.standard_normal((codes.max() + 1, 3))[codes]
    for edge in edges:
        signal = CLEAR * np.eye(3)[actual] + np.log(FREQUENT) + np.array([-edge, edge, edge])
        yield actual, signal + 0.7 * common + 0.7 * draw.standard_normal((len(codes), 3))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
