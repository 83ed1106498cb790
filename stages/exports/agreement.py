"""How far a form of a classifier is from the one that it was made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import proportion

COLUMNS = (
    "format", "size_mb", "images", "agreement", "largest_difference", "accuracy", "accuracy_low", "accuracy_high",
)  # fmt: skip


def agreement(
    expected: NDArray[np.floating[Any]], found: NDArray[np.floating[Any]], actual: NDArray[np.int64], confidence: float
) -> dict[str, float]:
    """Compare probabilities `found` with those `expected`, both (n, classes); `actual` (n,) are the true positions.

    `agreement` is the share of images with the same most probable class, `largest_difference` that of any two
    probabilities, infinite where one is no number. The accuracy is that of `found`, with Wilson's interval.
    """
    predicted = found.argmax(axis=1)
    right = int((predicted == actual).sum())
    interval = proportion(right, len(actual), confidence)
    difference = float(np.abs(expected - found).max())
    return {
        "images": len(actual),
        "agreement": float((predicted == expected.argmax(axis=1)).mean()),
        "largest_difference": difference if np.isfinite(difference) else float("inf"),
        "accuracy": right / len(actual),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
    }
