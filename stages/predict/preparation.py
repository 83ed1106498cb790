"""Images prepared for a classifier, in processes: one that is replaced imports this module, not the program."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.resizing import resize_to_square
from stages.core.decoding import UnusableError, decode, strict_pillow
from stages.core.errors import one_line
from stages.core.manifest import Manifest
from stages.core.settings.data import DataParams
from stages.sources.listing import File, Reject
from stages.sources.reading import limits, read_file


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image resized for the network, (size, size, 3), and its path."""

    path: str
    pixels: NDArray[np.uint8]


def prepare(file: File, manifest: Manifest, data: DataParams) -> Prepared | Reject:
    """Return an image prepared like those of the classifier, or why it is left out."""
    path = one_line(file.path)
    try:
        content = read_file(file.location, data)
        with strict_pillow():
            image = decode(content, limits(data)).image
    except UnusableError as error:
        return Reject(path, one_line(str(error)))
    return Prepared(path, resize_to_square(image, manifest.input_size, manifest.fit))


def refuse(file: File, reason: str) -> Reject:
    """Return the reject of an image that cannot be read at an allowed cost."""
    return Reject(one_line(file.path), reason)
