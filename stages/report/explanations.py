"""What stage explain prepared: where each backbone looks, and which test images it sees as alike."""

import base64
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.core import files


@dataclass(frozen=True)
class Example:
    """An image as the network gets it and, where it has a feature map, over it what speaks for what it predicts.

    Both are addresses that hold the image's own bytes; `overlay` may be empty.
    """

    label: str
    predicted: str
    confidence: float
    right: bool
    image: str
    overlay: str


@dataclass(frozen=True)
class Explanation:
    """Examples of one backbone, and `places` of test images: file, label, x, y."""

    examples: list[Example]
    places: pd.DataFrame


def read(folder: Path) -> Explanation:
    """Return what explain wrote for one backbone."""
    table = files.read_csv(folder / "examples.csv", text=("file", "label", "predicted", "right", "image", "overlay"))
    examples = [
        Example(
            row["label"],
            row["predicted"],
            float(row["confidence"]),
            row["right"] == "true",
            _address(folder / row["image"]),
            _address(folder / row["overlay"]) if row["overlay"] else "",
        )
        for row in table.to_dict("records")
    ]
    return Explanation(examples, files.read_csv(folder / "embedding.csv", text=("file", "label")))


def _address(image: Path) -> str:
    """Return the address of a WebP file that holds its bytes."""
    return "data:image/webp;base64," + base64.b64encode(image.read_bytes()).decode("ascii")
