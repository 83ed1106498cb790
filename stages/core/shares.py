"""shares.csv: what heads on fractions of the training images predict for the test images.

There is a row for each training, with columns share, draw, training_images and predicted: the position of the predicted
class of each test image among the sorted classes, separated by spaces, in the order of the test images in
predictions.csv. A learning curve needs a hundred trainings; probabilities of each would take gigabytes.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError

COLUMNS = ("share", "draw", "training_images", "predicted")


@dataclass(frozen=True)
class Training:
    """A training on a fraction of the training images, in one of several draws of as many.

    `predicted` has the position of the class of each test image, (n,).
    """

    share: float
    draw: int
    images: int
    predicted: NDArray[np.int64]


def table(trainings: Iterable[Training]) -> pd.DataFrame:
    """Return the trainings as shares.csv has them."""
    rows = [[each.share, each.draw, each.images, " ".join(map(str, each.predicted.tolist()))] for each in trainings]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def trainings(found: pd.DataFrame, tested: int) -> list[Training]:
    """Return the trainings of shares.csv, which predict so many test images. Raise DataError if they do not."""
    return [_training(row, tested) for row in found.to_dict("records")]


def _training(row: Mapping[Hashable, Any], tested: int) -> Training:
    predicted = np.array(row["predicted"].split(), np.int64)
    if len(predicted) != tested:
        raise DataError(
            f"shares.csv with {len(predicted)} predictions by a share of {row['share']:g}",
            f"one for each of {tested} test images",
            "run finetune again",
        )
    return Training(float(row["share"]), int(row["draw"]), int(row["training_images"]), predicted)
