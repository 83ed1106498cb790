"""Augmented views: one affine warp and one change of contrast each, drawn from the image's name.

A view depends only on the seed, the image's file name, which is made of its content, and the number of the
view: not on other images, the order of work or the number of processors. It is drawn relative to the side,
so a view shows the same at every size.

The parameters and the Keras layers that correspond to them:

    rotation r (degrees)   RandomRotation(r / 360)
    flip_horizontal        RandomFlip("horizontal")
    flip_vertical          RandomFlip("vertical")
    zoom z                 RandomZoom((-z, z)), which keeps the aspect
    translation t          RandomTranslation(t, t)
    contrast c             RandomContrast(c), value_range=(0, 255)

Each of Keras's layers interpolates again and draws per batch; here all motions are composed and the image
is interpolated once, linearly.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.settings.preprocess import AugmentationParams

# The colour of padding, and of pixels beyond the edge with fill: constant.
GREY = 127

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """What was drawn for one view: the map from its coordinates to the image's, and the contrast.

    `linear` (2, 2) and `shift` (2,) work on coordinates (x, y) whose origin is the centre and whose
    unit is the side.
    """

    linear: NDArray[np.float64]
    shift: NDArray[np.float64]
    contrast: float


@dataclass(frozen=True)
class Augmentation:
    """How the views of all images are drawn."""

    params: AugmentationParams
    seed: int

    def view(self, image: Pixels, file: str, number: int) -> Pixels:
        """Return view `number`, from 1, of `image` (side, side, 3), which has the name `file`."""
        return apply(draw(self.params, self.seed, file, number), image, self.params.fill)


def draw(params: AugmentationParams, seed: int, file: str, view: int) -> View:
    """Draw a view of the image that has the name `file`.

    The same numbers are drawn for any parameters, so that changing one of them leaves the effect of the
    others as it was.
    """
    # 128 bits of the name's hash.
    name = int.from_bytes(hashlib.sha256(file.encode()).digest()[:16])
    entropy = np.random.SeedSequence([seed, name, view])
    turn, zoom, right, down, contrast, mirror, flip = np.random.default_rng(entropy).uniform(-1, 1, 7)
    angle = np.deg2rad(params.rotation * turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mirrored = [
        -1.0 if params.flip_horizontal and mirror < 0 else 1.0,
        -1.0 if params.flip_vertical and flip < 0 else 1.0,
    ]
    return View(
        linear=np.diag(mirrored) @ rotation * (1 + params.zoom * zoom),
        shift=params.translation * np.array([right, down]),
        contrast=1 + params.contrast * contrast,
    )


def apply(view: View, image: Pixels, fill: str) -> Pixels:
    """Return `image` (side, side, 3) as the view shows it."""
    return _with_contrast(_warped(view, image, fill), view.contrast)


def _warped(view: View, image: Pixels, fill: str) -> Pixels:
    import cv2

    borders = {"reflect": cv2.BORDER_REFLECT_101, "nearest": cv2.BORDER_REPLICATE, "constant": cv2.BORDER_CONSTANT}
    side = len(image)
    centre = np.full(2, (side - 1) / 2)
    offset = centre - view.linear @ centre + side * view.shift
    matrix = np.column_stack([view.linear, offset])
    warped: Pixels = cv2.warpAffine(
        image,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=borders[fill],
        borderValue=(GREY, GREY, GREY),
    )
    return warped


def _with_contrast(image: Pixels, factor: float) -> Pixels:
    """Return (x - mean) * factor + mean for each channel, rounded and clipped to 0 to 255."""
    import cv2

    mean = np.array(cv2.mean(image)[:3])
    levels = np.arange(256)[:, np.newaxis]
    table = np.clip(np.rint((levels - mean) * factor + mean), 0, 255).astype(np.uint8)
    adjusted: Pixels = cv2.LUT(image, table[np.newaxis])
    return adjusted
