"""Accuracies with fractions of the training images, and what more of them would bring."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.shares import Training
from stages.statistics.groups import Groups
from stages.statistics.learning_curve import CONFIDENCE, Curve, Outlook, mean_interval, outlook

# Whether each test image is right by each draw of a share, (draws, test images).
Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Shares:
    """Trainings on fractions of the training images, the smallest first, the last one on all; none without shares.

    `actual` (n,) are the classes of the test images; `validation_images` is by how many further ones the trainings were
    stopped.
    """

    trainings: list[Training]
    actual: NDArray[np.int64]
    validation_images: int


def over_shares(shares: Shares, groups: Groups, confidence: float, seed: int) -> dict[str, Any]:
    """Return `shares`: for each fraction of the images the mean accuracy over its draws, with its interval.

    And `learning_curve`: what twice the images would bring (`learning_curve.Outlook`), None without shares, and of
    networks that are trained once on each.
    """
    images, right = _by_share(shares)
    rows = [
        {
            "share": share,
            "training_images": images[share],
            "validation_images": shares.validation_images,
            "draws": len(each),
            "accuracy": float(each.mean()),
            **mean_interval(each, groups, confidence)._asdict(),
        }
        for share, each in right.items()
    ]
    known = None if shares.validation_images else _learning_curve(images, right, groups, seed)
    return {"shares": rows, "learning_curve": known}


def _by_share(shares: Shares) -> tuple[dict[float, int], dict[float, Right]]:
    """Return the number of images of each share, and which test images are right by its draws."""
    images = {each.share: each.images for each in shares.trainings}
    return images, {
        share: np.stack([each.predicted == shares.actual for each in shares.trainings if each.share == share])
        for share in images
    }


def _learning_curve(
    images: dict[float, int], right: dict[float, Right], groups: Groups, seed: int
) -> dict[str, Any] | None:
    parts = [share for share in right if share < 1]
    if not parts:
        return None
    curve = Curve.of(np.stack([right[share] for share in parts], axis=1), [images[share] for share in parts], groups)
    found = Outlook("groups") if groups.few else outlook(curve, images[1.0], float(right[1.0].mean()), seed)
    return asdict(found) | {"confidence": CONFIDENCE}
