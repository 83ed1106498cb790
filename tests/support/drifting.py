"""Classifiers of five classes with their references, and new images of another mix of classes or with other looks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.exports.reference import Reference, fit
from stages.predict.drift import Sample, Verdict, judge

CLASSES, WIDTH, TRAINING = ("a", "b", "c", "d", "e"), 16, 230
Images = NDArray[np.float64]

EVEN = np.full(len(CLASSES), 1 / len(CLASSES))
ALONE = np.eye(len(CLASSES))
# The share of each class among the new images, for each class in turn.
MIXES = {
    "as before": np.tile(EVEN, (len(CLASSES), 1)),
    "60 % of one class": 0.1 + 0.5 * ALONE,
    "one class alone": ALONE,
}
LOOKS: dict[str, Callable[[np.random.Generator, Images], Images]] = {
    "as before": lambda _, images: images,
    "noise added": lambda draw, images: images + draw.normal(0, 0.8, images.shape),
    "all moved": lambda _, images: images + 0.6,
}


@dataclass(frozen=True)
class Population:
    """Embeddings of normal distribution: how far the class centres are apart, and the spread of each class."""

    apart: float
    spread: tuple[float, ...]

    def images(self, draw: np.random.Generator, count: int, mix: Images) -> tuple[Images, NDArray[np.int64]]:
        """Return the embeddings of as many images, (count, WIDTH), and their classes."""
        centres = np.random.default_rng(7).normal(0, self.apart, (len(CLASSES), WIDTH))
        actual = draw.choice(len(CLASSES), count, p=mix)
        return centres[actual] + draw.normal(size=(count, WIDTH)) * np.array(self.spread)[actual, None], actual


# A classifier is right on 91 % of the first, and on 55 % of the second.
POPULATIONS = {
    "alike, 91 % right": Population(0.8, (1, 1, 1, 1, 1)),
    "unlike, 55 % right": Population(0.36, (0.5, 0.8, 1.2, 1.8, 2.6)),
}


def probabilities(known: Reference, images: Images) -> Images:
    """Return what a linear discriminant analysis says of images, (n, classes)."""
    squares = [np.sum(((images - mean) @ np.array(known.whitening)) ** 2, axis=1) for mean in np.array(known.means)]
    found = np.exp(-0.5 * (np.stack(squares, axis=1) - np.min(squares, axis=0)[:, None]))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def study(draw: np.random.Generator, population: Population, mix: Images, look: str, new: int, held: int) -> Verdict:
    """Return the verdict on `new` images, with a classifier and `held` validation images of its own."""
    trained, labels = population.images(draw, TRAINING, EVEN)
    validation, actual = population.images(draw, held, EVEN)
    first = fit(trained, labels.tolist(), validation, actual.tolist(), np.zeros((held, len(CLASSES))))
    known = fit(trained, labels.tolist(), validation, actual.tolist(), probabilities(first, validation))
    images = LOOKS[look](draw, population.images(draw, new, mix)[0])
    found, sample = probabilities(known, images), Sample()
    sample.add(found.argmax(axis=1), found.max(axis=1), known.measure(images))
    return judge(known, sample, CLASSES)


def verdicts(population: str, mix: str, look: str, new: int, studies: int, held: int = 68) -> list[Verdict]:
    """Return the verdicts of as many studies, over all classes in turn."""
    draw, mixes = np.random.default_rng(1), MIXES[mix]
    shares = (mixes[number % len(CLASSES)] for number in range(studies))
    return [study(draw, POPULATIONS[population], each, look, new, held) for each in shares]
