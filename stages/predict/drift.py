"""Drift: whether new images differ from a classifier's own. It needs no labels, so it does not measure accuracy.

Two-sample Kolmogorov-Smirnov tests of the confidences and of the distances (exports/reference.py), corrected by Holm.
Rabanser et al. 2019, "Failing loudly: an empirical study of methods for detecting dataset shift",
https://arxiv.org/abs/1810.11953, find such tests of a classifier's outputs among the best. With many images even
irrelevant differences are significant: the largest difference of the two distribution functions, the tests' statistic,
has to reach a minimum as well.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.exports.reference import Reference
from stages.statistics.pairwise import holm

# A daily comparison without drift raises a false alarm on one day in a hundred.
_SIGNIFICANCE = 0.01
# Smallest statistic of the tests that counts as drift.
_MIN_EFFECT = 0.15
# With fewer images the tests detect only the largest differences.
_MIN_IMAGES = 20
# Images that are compared; of more a uniform random sample.
_MAX_IMAGES = 5000


class Sample:
    """A random sample of confidence and distance of at most `_MAX_IMAGES` images, reproducible for the same images.

    Vitter 1985, "Random sampling with a reservoir", algorithm R.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._kept: list[tuple[float, float]] = []
        self._draw = np.random.default_rng(0)

    def add(self, confidences: Iterable[float], distances: Iterable[float]) -> None:
        """Add images, with one confidence and one distance each."""
        for pair in zip(confidences, distances, strict=True):
            self.seen += 1
            if len(self._kept) < _MAX_IMAGES:
                self._kept.append(pair)
            elif (place := int(self._draw.integers(self.seen))) < _MAX_IMAGES:
                self._kept[place] = pair

    def values(self) -> NDArray[np.float64]:
        """Return confidence and distance of the sampled images, (n, 2)."""
        return np.array(self._kept, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Verdict:
    """Whether drift was found, and a sentence that says so, or that there were too few images."""

    found: bool
    sentence: str


def judge(reference: Reference, sample: Sample) -> Verdict:
    """Compare new images with the reference."""
    from scipy.stats import ks_2samp

    new = sample.values()
    smallest, whose = min((len(new), "new"), (reference.validation_images, "validation"))
    if smallest < _MIN_IMAGES:
        return Verdict(found=False, sentence=f"not judged: {smallest} {whose} images, expected at least {_MIN_IMAGES}")
    old = (np.array(reference.confidences), np.array(reference.distances))
    tests = [ks_2samp(before, now, method="asymp") for before, now in zip(old, new.T, strict=True)]
    found, sentences = False, []
    for name, before, now, test, p in zip(
        ("confidence", "distance"), old, new.T, tests, holm([test.pvalue for test in tests]), strict=True
    ):
        differs = p <= _SIGNIFICANCE and test.statistic >= _MIN_EFFECT
        found = found or differs
        medians = f"median {np.median(now):.3g}, was {np.median(before):.3g}"
        how = "differs" if differs else "as before"
        sentences.append(f"{name} {how} ({medians}; KS {test.statistic:.2f}, p = {p:.2g})")
    begin = "found: the images differ from those of its training" if found else "none found"
    return Verdict(found=found, sentence=f"{begin}: {', '.join(sentences)}, {sample.seen} images")
