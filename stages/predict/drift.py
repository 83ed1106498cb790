"""Drift: whether new images differ from a classifier's own. It needs no labels, so it does not measure accuracy.

Two questions are answered apart. Looks: whether confidences and distances (exports/reference.py) are those of the
validation images, weighted to the new images' mix of classes (predict/label_shift.py). Mix: whether the classes are
predicted as often as for the validation images; more images of one class are no drift.

Rabanser et al. 2019, "Failing loudly: an empirical study of methods for detecting dataset shift",
https://arxiv.org/abs/1810.11953, find Kolmogorov-Smirnov tests of a classifier's outputs among the best; those of the
looks are corrected by Holm. The mix is tested by chi-squared, with the p-value of a permutation, which holds for small
classes as well. With many images even irrelevant differences are significant: a difference has to reach a minimum too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.core.errors import one_line
from stages.exports.reference import Reference
from stages.predict.label_shift import differences, median, p_values, weigh
from stages.statistics.pairwise import holm

# Without drift one comparison in a hundred raises a false alarm, on average over classifiers. The validation images of
# one classifier are always the same: if they are an unusual draw, it raises more. Images count as independent, for the
# groups of new ones are not known: where these or the validation images come in few groups (persons, places, sessions)
# it raises many more, since a few groups differ from a few others without any drift.
_SIGNIFICANCE = 0.01
# Smallest difference that counts: of two distribution functions, or of the mixes (half the sum over the classes).
_MIN_EFFECT = 0.15
# With fewer images the tests detect only the largest differences.
_MIN_IMAGES = 20
# Images that are compared; of more a uniform random sample.
_MAX_IMAGES = 5000
_PERMUTATIONS = 999
# Equal statistics, computed from other numbers, may vary by this.
_ROUNDING = 1e-9
_MEASURES = ("confidence", "distance")

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]


class Sample:
    """A random sample of at most `_MAX_IMAGES` images, reproducible for the same images.

    Vitter 1985, "Random sampling with a reservoir", algorithm R.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._kept: list[tuple[float, ...]] = []
        self._draw = np.random.default_rng(0)

    def add(self, predicted: ArrayLike, confidences: ArrayLike, distances: ArrayLike) -> None:
        """Add images, with the position of the predicted class, one confidence and one distance each."""
        for image in np.column_stack([predicted, confidences, distances]).tolist():
            self.seen += 1
            if len(self._kept) < _MAX_IMAGES:
                self._kept.append(image)
            elif (place := int(self._draw.integers(self.seen))) < _MAX_IMAGES:
                self._kept[place] = image

    def values(self) -> Numbers:
        """Return predicted class, confidence and distance of the sampled images, (n, 3)."""
        return np.array(self._kept, dtype=np.float64).reshape(-1, 3)


@dataclass(frozen=True)
class Verdict:
    """Whether the looks have drifted, and a sentence on looks and mix, or that there were too few images."""

    found: bool
    sentence: str


def judge(reference: Reference, sample: Sample, classes: Sequence[str]) -> Verdict:
    """Compare new images with the reference; `classes` are in the order of the probabilities."""
    old, new = np.array(reference.validation), sample.values()
    smallest, whose = min((len(new), "new"), (len(old), "validation"))
    if smallest < _MIN_IMAGES:
        return Verdict(found=False, sentence=f"not judged: {smallest} {whose} images, expected at least {_MIN_IMAGES}")
    looks, mix = _looks(old, new), _mix(old[:, 1].astype(np.int64), new[:, 0].astype(np.int64), classes)
    begin = "none found, but another mix of classes" if mix.found else "none found"
    if not looks:
        begin, looks = "not judged", Verdict(found=False, sentence="hardly any validation images of these classes")
    elif looks.found:
        begin = "found: the images differ from those of its training"
    return Verdict(looks.found, f"{begin}: {looks.sentence}, {mix.sentence}, {sample.seen} images")


def _looks(old: Numbers, new: Numbers) -> Verdict | None:
    """Compare confidences and distances; None where too few validation images are like the new ones."""
    # A class that is not predicted for any validation image can only be compared as part of the mix.
    new = new[np.isin(new[:, 0], old[:, 1])]
    if not len(new):
        return None
    (actual, predicted), new_predicted = old[:, :2].T.astype(np.int64), new[:, 0].astype(np.int64)
    weights = weigh(actual, predicted, new_predicted)
    # As precise as so many old and as many new images: 10 for 20 and 20.
    if 1 / (np.sum(weights**2) + 1 / len(new)) < _MIN_IMAGES / 2:
        return None
    before, now = old[:, 2:], new[:, 1:]
    found = differences(before, weights, now)
    p = holm(p_values(actual, predicted, before, weights, len(new), found).tolist())
    said = [
        _said(name, median(before[:, column], weights), float(np.median(now[:, column])), found[column], p[column])
        for column, name in enumerate(_MEASURES)
    ]
    return Verdict(any(one.found for one in said), ", ".join(one.sentence for one in said))


def _said(name: str, before: float, now: float, difference: float, p: float) -> Verdict:
    """Return whether a measure differs, with its medians, the difference of the distribution functions, and its p."""
    differs = bool(p <= _SIGNIFICANCE and difference >= _MIN_EFFECT)
    how = "differs" if differs else "as before"
    return Verdict(differs, f"{name} {how} (median {now:.3g}, was {before:.3g}; KS {difference:.2f}, p = {p:.2g})")


def _mix(old: Integers, new: Integers, classes: Sequence[str]) -> Verdict:
    """Compare how often each class is predicted, by position (n,); name the class whose share changed most."""
    counts = np.stack([np.bincount(each, minlength=len(classes)) for each in (old, new)])
    shares, total = counts / counts.sum(axis=1, keepdims=True), counts.sum(axis=0)
    present = total > 0

    def chi_squared(found: Integers) -> Numbers:
        return np.asarray(((found - total * len(new) / total.sum())[..., present] ** 2 / total[present]).sum(axis=-1))

    drawn = np.random.default_rng(0).multivariate_hypergeometric(total, len(new), _PERMUTATIONS, method="marginals")
    p = (1 + (chi_squared(drawn) >= chi_squared(counts[1]) - _ROUNDING).sum()) / (1 + _PERMUTATIONS)
    difference = np.abs(shares[1] - shares[0])
    differs = bool(p <= _SIGNIFICANCE and difference.sum() / 2 >= _MIN_EFFECT)
    most = int(difference.argmax())
    largest = f"{shares[1, most]:.0%} '{one_line(classes[most])}', was {shares[0, most]:.0%}"
    how = "differs" if differs else "as before"
    return Verdict(differs, f"mix of classes {how} ({largest}; difference {difference.sum() / 2:.2f}, p = {p:.2g})")
