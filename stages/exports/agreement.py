"""How far an exported form of a classifier deviates from the original."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.intervals import wilson

COLUMNS = (
    "format", "size_mb", "images", "agreement", "largest_difference", "accuracy", "accuracy_low", "accuracy_high",
)  # fmt: skip


def agreement(
    expected: NDArray[np.floating[Any]],
    found: NDArray[np.floating[Any]],
    actual: NDArray[np.int64],
    confidence: float,
    design_effect: float,
) -> dict[str, float]:
    """Compare probabilities `found` with `expected`, both (n, classes); `actual` (n,) are the true classes' positions.

    `agreement` is the fraction of images with the same most probable class, `largest_difference` that of any two
    probabilities, infinite if one is NaN. The accuracy is that of `found`, with Wilson's interval of as many images as
    there are for each `design_effect`, at least 1.
    """
    predicted = found.argmax(axis=1)
    right = int((predicted == actual).sum())
    interval = wilson(right / len(actual), len(actual) / design_effect, confidence)
    difference = float(np.abs(expected - found).max())
    return {
        "images": len(actual),
        "agreement": float((predicted == expected.argmax(axis=1)).mean()),
        "largest_difference": difference if np.isfinite(difference) else float("inf"),
        "accuracy": right / len(actual),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
    }
