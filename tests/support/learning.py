"""Heads on more and more images whose learning curve is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.65, 0.8, 0.9)
# How alike heads on other images err: the correlation of the latent ease of a test image for two of them.
ALIKE = 0.7

# Accuracies over the fraction of the training images. Those that can be foreseen, and those that cannot.
LAWS: dict[str, Callable[[float], float]] = {
    "power law": lambda x: 0.9 - 0.15 * x**-0.5,
    "slow power law": lambda x: 1.1 - 0.35 * x**-0.2,
    "logarithm": lambda x: 0.75 + 0.1 * np.log(x),
    "exponential": lambda x: 0.85 - 0.5 * np.exp(-4 * x),
    "nearly perfect": lambda x: 0.95 - 0.03 / x,
}
FLAT: dict[str, Callable[[float], float]] = {
    "flat": lambda _: 0.8,
    "chance": lambda _: 0.2,
    "falls": lambda x: 0.8 - 0.1 * x,
}
ERRATIC: dict[str, Callable[[float], float]] = {
    "jumps": lambda x: 0.5 + 0.3 * (x > 0.6),
    "stops": lambda x: 0.3 + 0.9 * min(x, 0.45),
    "takes off": lambda x: 0.3 + 0.45 * max(x, 0.4) ** 2,
}


@dataclass(frozen=True)
class Study:
    """Which test images heads on each draw of each share are right on, (draws, shares, test images).

    And what share of them heads on all images, and on twice as many, are right on.
    """

    right: NDArray[np.bool_]
    images: list[int]
    total: int
    accuracy: float
    twice: float


def study(law: Callable[[float], float], total: int, tested: int, seed: int, draws: int = 10) -> Study:
    """Return heads whose accuracy follows the law.

    Each of the `total` images shifts the accuracy by chance: that of all of them has a standard deviation of 2 points
    for 300 images. A part of the test images is right or wrong by chance in each head.
    """
    random = np.random.default_rng(seed)
    ease = np.sqrt(ALIKE) * random.standard_normal(tested)
    worth = 0.02 * np.sqrt(300) * random.standard_normal(2 * total)

    def head(images: int, shift: float) -> NDArray[np.bool_]:
        level = norm.ppf(np.clip(law(images / total) + shift, 0.001, 0.999))
        return np.asarray(ease + np.sqrt(1 - ALIKE) * random.standard_normal(tested) < level)

    images = [round(share * total) for share in SHARES]
    orders = [worth[:total][random.permutation(total)] for _ in range(draws)]
    right = np.array([[head(count, order[:count].mean()) for count in images] for order in orders])
    accuracies = [float(head(count, worth[:count].mean()).mean()) for count in (total, 2 * total)]
    return Study(right, images, total, accuracies[0], accuracies[1])
