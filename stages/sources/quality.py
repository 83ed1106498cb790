"""Quality scores of an image, from 0 to 1, low where something is wrong.

The definitions are cleanvision's (https://github.com/cleanlab/cleanvision, 0.3.7, `image_property.py`), and
`tests/sources/test_quality.py` compares the scores. Importing it here would bring Matplotlib,
which writes a cache into the user's home and takes longer to import than a thousand images to score.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageStat

SCORES = ("dark", "light", "blurry", "low_information", "odd_aspect_ratio")

# Longer side at which an image is measured, and at which its edges are, pixels.
_SIDE, _EDGE_SIDE = 128, 64
# Weights of red, green and blue in the perceived brightness (http://alienryderflex.com/hsp.html).
_BRIGHTNESS = np.array([0.241, 0.691, 0.068])
# Above this unevenness of the grey levels an image is a graphic, whose few edges are not blur.
_MIN_UNEVENNESS = 0.18


def score(image: Image.Image) -> tuple[float, ...]:
    """Return the `SCORES` of an RGB image."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    dark, light = _brightness(np.asarray(small))
    # The shape is that of the image itself: a thumbnail has at least one pixel on the shorter side.
    shape = min(image.size) / max(image.size)
    return dark, light, _sharpness(small), min(small.entropy() / 10, 1.0), shape


def _brightness(pixels: NDArray[Any]) -> tuple[float, float]:
    """Return how bright the brightest hundredth is, and how dark the darkest twentieth."""
    brightness = np.sqrt(np.square(pixels, dtype=np.float64) @ _BRIGHTNESS) / 255
    darkest, brightest = np.percentile(brightness, [5, 99])
    return float(brightest), 1 - float(darkest)


def _sharpness(image: Image.Image) -> float:
    """Return a score of the variance of the edges, raised for the few grey levels of a graphic."""
    ratio = max(image.size) / _EDGE_SIDE
    if ratio > 1:
        image = image.resize((max(int(image.width // ratio), 1), max(int(image.height // ratio), 1)))
    grey = image.convert("L")
    edges = math.sqrt(ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).var[0])
    unevenness = 1 - math.exp(-float(np.std(grey.histogram())) / 100)
    return min(1 - math.exp(-edges / 100) + (unevenness if unevenness > _MIN_UNEVENNESS else 0.0), 1.0)
