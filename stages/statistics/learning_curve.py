"""What more training images would bring: laws fitted to the accuracies with fewer of them.

No law holds for all learning curves (Viering and Loog 2023, "The shape of learning curves: a review", IEEE TPAMI 45),
so three are fitted: a power law with an offset (Hestness et al. 2017, "Deep learning scaling is predictable,
empirically"), a logarithm, and an exponential that levels off. An accuracy counts in proportion to its training images
(Figueroa et al. 2012, "Predicting sample size required for classification performance", BMC Medical Informatics and
Decision Making 12), and a law the more, the closer it comes to them. Curves can be ill-behaved: nothing is said of more
images unless the same method, from up to half of them, has foreseen the accuracy with all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import Interval, wilson
from stages.statistics.groups import Groups, effective_images

Values = NDArray[np.float64]
# Why nothing is said of more images: too few groups of test images, too few points or draws, no rise from fewer images
# or to more, a forecast that failed or says too little.
Unknown = Literal["groups", "few", "flat", "level", "missed", "wide"]

# Of the forecasts' intervals.
CONFIDENCE = 0.8
# How likely a flat curve may be taken for a rising one.
_CHANCE = 0.025
# A forecast with a wider interval is of no use.
_WIDEST = 0.1
# A smaller gain is none in the tenths of a point that are shown.
_LEAST_GAIN = 0.0005
_RESAMPLES = 1000
# A law has up to three parameters: one more number of images is needed, up to the half of them.
FEWEST_POINTS = 4
FEWEST_DRAWS = 3
# Of the power law and of the exponential, where the largest number of images is 1.
_EXPONENTS = np.geomspace(0.1, 3, 16)
_RATES = np.geomspace(0.3, 30, 16)
# Errors of neighbouring points are alike: ten points tell as much about a law as five with errors of their own.
_INDEPENDENT = 0.5
# A squared distance that is none.
_EXACT = 1e-8
# By how much the half of all images may be exceeded where each class is rounded, as a fraction of all.
_ROUNDED = 0.02
# Numbers of images at which the fitted curve is drawn.
_DRAWN = 25


@dataclass(frozen=True)
class Luck:
    """How much the accuracy of one head varies with its training images: by the variance `shared` / images + `own`.

    The first part is that of an accuracy to which each training image adds a little, the second that of test images
    that one head happens to get right and the next one does not.
    """

    shared: float
    own: float

    @classmethod
    def of(cls, variances: Values, images: Values, total: int) -> "Luck":
        """Return that of heads whose accuracies have these `variances` over draws of so many `images` from a `total`.

        What all images have in common with others does not differ between draws of them: 1 - images / total remains.
        """
        from scipy.optimize import nnls

        weights = np.sqrt(images)
        parts = np.stack([1 / images - 1 / total, np.ones(len(images))], axis=1)
        shared, own = nnls(parts * weights[:, None], variances * weights)[0]
        return cls(float(shared), float(own))

    def of_more(self, known: float, images: float) -> float:
        """Return the variance of what one head on so many `images` gains over one on the `known` ones among them."""
        return self.shared / known * (1 - known / images) + 2 * self.own


@dataclass(frozen=True)
class Curve:
    """Accuracies by the number of training images.

    `images` (points,) ascends. `accuracies` (draws, points) are those of several draws of so many images; a draw's
    images of one point are among those of the next. `over_tests` (points, points) is the covariance of their means over
    other test images.
    """

    images: Values
    accuracies: Values
    over_tests: Values

    @classmethod
    def of(cls, right: NDArray[np.bool_], images: Sequence[int], groups: Groups) -> "Curve":
        """Return the curve of heads that are `right`, (draws, points, test images), on test images in `groups`."""
        accuracies = right.mean(axis=2)
        sums = groups.sums((right.mean(axis=0) - accuracies.mean(axis=0)[:, None]).T)
        unbiased = len(groups) / max(len(groups) - 1, 1)
        return cls(np.array(images, np.float64), accuracies, sums.T @ sums * unbiased / right.shape[2] ** 2)

    def part(self, points: NDArray[np.bool_]) -> "Curve":
        """Return the curve of some of the `points`."""
        return Curve(self.images[points], self.accuracies[:, points], self.over_tests[np.ix_(points, points)])

    @property
    def means(self) -> Values:
        """The mean accuracy at each point, (points,)."""
        return np.asarray(self.accuracies.mean(axis=0))

    @property
    def deviations(self) -> Values:
        """The deviations of the draws from their means, (draws, points), whose squares sum to the means' variances."""
        draws = len(self.accuracies)
        return np.asarray((self.accuracies - self.means) / np.sqrt(draws * max(draws - 1, 1)))

    def resampled(self, seed: int) -> Values:
        """Return means over other draws and test images, (resamples, points)."""
        random = np.random.default_rng(seed)
        by_draws = random.standard_normal((_RESAMPLES, len(self.accuracies))) @ self.deviations
        by_tests = random.multivariate_normal(np.zeros(len(self.images)), self.over_tests, _RESAMPLES, method="eigh")
        return np.asarray(self.means + by_draws + by_tests)


@dataclass(frozen=True)
class Known:
    """The accuracy that so many training `images` have brought."""

    images: int
    accuracy: float


@dataclass(frozen=True)
class Forecast:
    """The accuracy with so many training `images` as foreseen from the `known` ones, and its interval."""

    known: int
    images: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Outlook:
    """What twice the training images would bring, and what the same method said of all of them from up to half.

    `unknown` is None, or why nothing is said; then there may be no forecasts. `line` has the points (images, accuracy)
    from all images to twice as many, along the fitted curve.
    """

    unknown: Unknown | None
    twice: Forecast | None = None
    backtest: Forecast | None = None
    line: tuple[tuple[float, float], ...] = ()


def outlook(curve: Curve, total: int, accuracy: float, seed: int) -> Outlook:
    """Return what twice the `total` images would bring, of which the curve has parts; all gave this `accuracy`."""
    half = curve.part(curve.images <= (0.5 + _ROUNDED) * total)
    if half.means.size < FEWEST_POINTS or len(curve.accuracies) < FEWEST_DRAWS:
        return Outlook("few")
    luck = Luck.of(curve.accuracies.var(axis=0, ddof=1), curve.images, total)
    # Of half of the images the draws say more than one of their heads.
    now, before = Known(total, accuracy), Known(int(half.images[-1]), float(half.means[-1]))
    twice, backtest = forecast(curve, now, 2 * total, luck, seed), forecast(half, before, total, luck, seed)
    unknown = _unknown(curve, twice, backtest, accuracy, seed)
    return Outlook(unknown, twice, backtest, () if unknown else _line(curve, now, twice.images))


def _unknown(curve: Curve, twice: Forecast, backtest: Forecast, accuracy: float, seed: int) -> Unknown | None:
    means = curve.resampled(seed)
    if np.quantile(means[:, -1] - means[:, 0], _CHANCE) <= 0:
        return "flat"
    if gain(curve, twice.known, np.array([twice.images], np.float64))[0] < _LEAST_GAIN:
        return "level"
    if not backtest.low <= accuracy <= backtest.high:
        return "missed"
    return "wide" if twice.high - twice.low > _WIDEST else None


def _line(curve: Curve, now: Known, last: int) -> tuple[tuple[float, float], ...]:
    images = np.geomspace(now.images, last, _DRAWN)
    accuracies = (now.accuracy + gain(curve, now.images, images)).clip(max=1)
    return tuple(zip(images.tolist(), accuracies.tolist(), strict=True))


def forecast(curve: Curve, now: Known, images: int, luck: Luck, seed: int) -> Forecast:
    """Return the accuracy foreseen with so many `images`, more than the `now` known ones, and its interval.

    It is that of one head, trained on the known images and further ones, on the same test images: what the known ones
    brought and what the laws, which never fall, add from there on. The interval, of `CONFIDENCE`, is a parametric
    bootstrap's: it covers the laws, the draws, the luck of the further images, what both heads happen to get right, and
    what other test images would make of the gain.
    """
    ends = np.array([now.images, images], np.float64)
    gains = np.diff(_by_law(curve, curve.resampled(seed), ends))[..., 0]
    spread = np.sqrt(luck.of_more(now.images, images))
    found = now.accuracy + gains + np.random.default_rng(seed + 1).normal(0, spread, gains.shape)
    accuracy = min(1.0, now.accuracy + float(gain(curve, now.images, ends)[-1]))
    low, high = _interval(found.clip(0, 1), _law_weights(curve))
    return Forecast(now.images, images, accuracy, min(low, accuracy), max(high, accuracy))


def _interval(values: Values, weights: Values) -> Interval:
    """Return the interval that leaves out the same weight at either end; `values` has shape (laws, resamples)."""
    order = np.argsort(values, axis=None, kind="stable")
    reached = np.repeat(weights, values.shape[1])[order].cumsum()
    ends = np.searchsorted(reached / reached[-1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = values.ravel()[order[ends]]
    return Interval(float(low), float(high))


def fitted(curve: Curve, images: Values) -> Values:
    """Return the accuracies with so many `images`, (n,), by the laws fitted to the curve: their weighted mean."""
    return np.asarray(np.tensordot(_law_weights(curve), _by_law(curve, curve.means[None], images), axes=1)[0])


def gain(curve: Curve, known: int, images: Values) -> Values:
    """Return by how much the accuracies with so many `images`, (n,), exceed that with the `known` ones, as fitted."""
    values = fitted(curve, np.append(images, known))
    return np.asarray(values[:-1] - values[-1])


def _law_weights(curve: Curve) -> Values:
    """Return the weight of each law, (laws,), by how close it comes to the curve: its likelihood, errors unknown."""
    misses = (_by_law(curve, curve.means[None], curve.images)[:, 0] - curve.means) ** 2 @ _point_weights(curve) + _EXACT
    likelihoods = (misses.min() / misses) ** (_INDEPENDENT * len(curve.images) / 2)
    return np.asarray(likelihoods / likelihoods.sum())


def _point_weights(curve: Curve) -> Values:
    return np.asarray(curve.images / curve.images.sum())


def _by_law(curve: Curve, means: Values, images: Values) -> Values:
    """Return the accuracies with so many `images`, (n,), by the laws fitted to `means`: (laws, resamples, n)."""
    last, weights = curve.images[-1], _point_weights(curve)
    pairs = zip(_laws(curve.images / last), _laws(images / last), strict=True)
    return np.stack([_fit(shapes, means, weights, wanted) for shapes, wanted in pairs]).clip(0, 1)


def _laws(x: Values) -> Iterator[Values]:
    """Yield the shapes g of each law a - b g(x), with b not below 0, for each of its exponents, (exponents, points)."""
    yield x ** -_EXPONENTS[:, None]
    yield -np.log(x)[None]
    yield np.exp(-_RATES[:, None] * x)


def _fit(shapes: Values, means: Values, weights: Values, wanted: Values) -> Values:
    """Return the values of `wanted` (exponents, n) by the best of the exponents, (resamples, n).

    For a given exponent a law is linear, so a and b are those of least squares (Golub and Pereyra 1973, "The
    differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate"). The level a that
    a law nears is at most 1; the logarithm nears none.
    """
    centre, middle = shapes @ weights, means @ weights
    centred = (shapes - centre[:, None]) * weights
    slopes = np.maximum(0, -(means @ centred.T) / (centred * shapes).sum(axis=1))
    levels = middle[:, None] + slopes * centre
    if len(shapes) > 1:
        steepest = ((1 - means) @ (shapes * weights).T) / (shapes**2 @ weights)
        slopes, levels = np.where(levels > 1, steepest, slopes), np.minimum(levels, 1)
    misses = means[:, None] - levels[..., None] + slopes[..., None] * shapes
    best = (misses**2 @ weights).argmin(axis=1)
    rows = np.arange(len(means))
    return np.asarray(levels[rows, best, None] - slopes[rows, best, None] * wanted[best])


def mean_interval(right: NDArray[np.bool_], groups: Groups, confidence: float) -> Interval:
    """Return the interval of the mean accuracy of heads that are `right`, (heads, test images): Wilson's.

    Of as many images as `groups` are worth to the first head, and fewer where the heads differ.
    """
    accuracies, share = right.mean(axis=1), float(right.mean())
    images = effective_images(groups, right[0] - accuracies[0], right[0], confidence)
    chance = share * (1 - share)
    spread = float(accuracies.var(ddof=1)) / len(right) if len(right) > 1 else 0.0
    return wilson(share, chance / (chance / images + spread) if spread else images, confidence)
