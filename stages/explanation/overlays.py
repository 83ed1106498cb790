"""Small images and heatmaps laid over them."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Longer side of the small images, pixels.
SIDE = 128
_QUALITY = 80
# Matplotlib's perceptually uniform map: equal steps look equal, also in grey and to the colour-blind.
_COLOURS = cv2.COLORMAP_INFERNO
# Opacity of the colour where a map is 1; where it is 0, only the image is visible.
_OPACITY = 0.8


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a square image, (side, side, 3), of at most `SIDE` pixels a side."""
    side = min(SIDE, len(image))
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def overlay(image: NDArray[np.uint8], found: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay a heatmap (height, width), 0 to 1, over a grey copy of an image (side, side, 3)."""
    side = len(image)
    resized = cv2.resize(found, (side, side), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((resized * 255).round().astype(np.uint8), _COLOURS)[:, :, ::-1]
    grey, weight = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], _OPACITY * resized[:, :, None]
    return np.asarray((weight * colours + (1 - weight) * grey).round(), dtype=np.uint8)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a WebP file."""
    Image.fromarray(image).save(path, "WEBP", quality=_QUALITY)
