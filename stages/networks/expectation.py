"""Whether images reach a network as those did that it was trained on: a check of its preprocessing.

The first BatchNormalization of a trained network holds the mean and the variance of each channel below it over its
training images. Preprocessing with another scale moves those of other images far away. Imports no Keras.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.networks.extraction import Forward

# How many training images are looked at: each has thousands of positions.
IMAGES = 64
_BATCH = 16


def checked(network: Forward, facts: Mapping[str, Any], images: NDArray[np.uint8]) -> dict[str, Any]:
    """Return what features.json says about the preprocessing of a network with the properties `facts`.

    `network` computes the output that `facts["normalization"]` names. `declared` is `inputs` of the backbone's line;
    `distance` is that of `distance`, over `images` images and at the normalisation `layer`.
    """
    expected = facts["normalization"]
    rows = images[np.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().astype(int)]
    parts = [network(rows[first : first + _BATCH])[expected["output"]] for first in range(0, len(rows), _BATCH)]
    found = distance(np.concatenate(parts), np.asarray(expected["mean"]), np.asarray(expected["variance"]))
    return {"declared": facts["inputs"], "layer": expected["layer"], "images": len(rows), "distance": found}


def unchecked(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same for a network in which nothing can be checked: random weights, or no BatchNormalization."""
    return {"declared": facts["inputs"], "layer": None, "images": 0, "distance": None}


def distance(activations: NDArray[np.float32], mean: NDArray[Any], variance: NDArray[Any]) -> float:
    """Return how far activations (images, height, width, channels) lie from an expected mean and variance, each a row.

    The median over the channels of sqrt(((m - mean) / d)^2 + log(s / d)^2), where m and s are the activations' mean and
    standard deviation and d is the expected deviation: 0 where they are alike, 1 where the mean is a deviation away, or
    the deviation is 2.7 times as large or as small. Two trained networks (MobileNetV2, InceptionV3, which expect "tf")
    had 0.6 to 0.8 on other photographs and on drawings; 22 to 250 with "caffe" or "raw", 1.0 to 2.4 with "torch" and
    1.2 to 1.6 with pixels of 0 to 1. Colours in the order of another library do not show.
    """
    axes, expected = tuple(range(activations.ndim - 1)), np.sqrt(variance)
    values = activations.astype(np.float64)
    # A channel that is constant is as far away as one can tell.
    spread = np.maximum(values.std(axis=axes), 1e-6 * expected)
    apart = np.hypot((values.mean(axis=axes) - mean) / expected, np.log(spread / expected))
    return float(np.median(apart))
