"""Augmented views of prepared images, drawn on access: on disk each would take as much room as its image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.augmentation import Augmentation
from stages.core.dataset.prepared import Lazy


class AugmentedRows(Lazy):
    """Views 1 to `views` of each image: row r * views + (v - 1) is view v of image r.

    `images` are uint8 (side, side, 3), RGB, and `files` their names in the same order.
    """

    def __init__(self, images: Lazy, files: Sequence[str], views: int, augmentation: Augmentation) -> None:
        self._images, self._files, self._augmentation = images, files, augmentation
        self._image, self._view = (part.ravel() for part in np.indices((len(images), views)))

    def __len__(self) -> int:
        return len(self._image)

    def __getitem__(self, positions: slice | NDArray[np.int64]) -> NDArray[Any]:
        numbers, views = self._image[positions], self._view[positions] + 1
        found = self._images[numbers]
        for image, number, view in zip(found, numbers, views, strict=True):
            image[:] = self._augmentation.view(image, self._files[number], int(view))
        return found
