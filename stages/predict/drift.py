"""Drift: whether new images look to a classifier as its own did. Without classes: it says nothing of accuracy.

Two-sample Kolmogorov-Smirnov tests of the confidences and of the distances (reference.py), corrected by Holm. Rabanser
et al. 2019, "Failing loudly: an empirical study of methods for detecting dataset shift",
https://arxiv.org/abs/1810.11953, find such tests of what a classifier says among the best. Of many images the tests
see differences that matter to nobody: the largest difference of the two distribution functions, which is also the
tests' statistic, has to be of some size as well.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.exports.reference import Reference
from stages.statistics.pairwise import holm

# A comparison each day without drift flags one day in a hundred.
_SIGNIFICANCE = 0.01
# On some side of some value lie so many of the new images more, or fewer, as a share of all.
_LEAST_EFFECT = 0.15
# From fewer the tests find the largest differences alone.
_FEWEST = 20
# Images that are compared; of more as many are drawn, each as likely as any other.
_MOST = 5000


class Sample:
    """Confidence and distance of at most `_MOST` images, whatever the number that is added: the same of the same.

    Vitter 1985, "Random sampling with a reservoir", algorithm R.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._kept: list[tuple[float, float]] = []
        self._draw = np.random.default_rng(0)

    def add(self, confidences: Iterable[float], distances: Iterable[float]) -> None:
        """Add images, one value of each."""
        for pair in zip(confidences, distances, strict=True):
            self.seen += 1
            if len(self._kept) < _MOST:
                self._kept.append(pair)
            elif (place := int(self._draw.integers(self.seen))) < _MOST:
                self._kept[place] = pair

    def values(self) -> NDArray[np.float64]:
        """Return the images that are kept, (n, 2)."""
        return np.array(self._kept, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Verdict:
    """Whether drift was found, and the sentence that says so, or that there were too few images to tell."""

    found: bool
    sentence: str


def judge(reference: Reference, sample: Sample) -> Verdict:
    """Compare new images with the reference."""
    from scipy.stats import ks_2samp

    new = sample.values()
    fewest, whose = min((len(new), "new"), (reference.validation_images, "validation"))
    if fewest < _FEWEST:
        return Verdict(found=False, sentence=f"not judged: {fewest} {whose} images, expected at least {_FEWEST}")
    old = (np.array(reference.confidences), np.array(reference.distances))
    tests = [ks_2samp(before, now, method="asymp") for before, now in zip(old, new.T, strict=True)]
    found, said = False, []
    for name, before, now, test, p in zip(
        ("confidence", "distance"), old, new.T, tests, holm([test.pvalue for test in tests]), strict=True
    ):
        differs = p <= _SIGNIFICANCE and test.statistic >= _LEAST_EFFECT
        found = found or differs
        medians = f"median {np.median(now):.3g}, was {np.median(before):.3g}"
        how = "differs" if differs else "as before"
        said.append(f"{name} {how} ({medians}; KS {test.statistic:.2f}, p = {p:.2g})")
    begin = "found: the images are unlike those that it was trained for" if found else "none found"
    return Verdict(found=found, sentence=f"{begin}: {', '.join(said)}, {sample.seen} images")
