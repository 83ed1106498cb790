"""Stage split: divide the pictures of each class into training, validation and test, copies together.

The order in which groups are dealt out is that of a hash of seed and group, so that the split
depends on the pictures alone and a picture that comes in later moves few others.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from stages.errors import DataError, run
from stages.files import read_csv, write_csv
from stages.images.prepared import SPLITS
from stages.params import Section, load, seed

MANIFEST = Path("data/manifest.csv")
SPLIT_TABLE = Path("data/splits.csv")

log = logging.getLogger(__name__)


class SplitParams(Section):
    """Section `split`: the shares of validation and test; the rest is for training."""

    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @field_validator("test")
    @classmethod
    def _room_for_training(cls, value: float, info: ValidationInfo) -> float:
        if value + info.data.get("validation", 0.0) >= 1:
            raise ValueError("validation and test below 1 together: the rest is for training")
        return value


def split(manifest: pd.DataFrame, params: SplitParams, number: int) -> pd.DataFrame:
    """Return file, label, group and split of each picture in `manifest`, for the seed `number`.

    Each class is divided by itself (stratified). Its parts hold the shares asked for, to the
    nearest picture where groups allow it, and at least one group each.

    Raises DataError for a class of fewer than three different pictures.
    """
    table = manifest[["file", "label", "group"]].sort_values("file", ignore_index=True)
    parts: dict[str, str] = {}
    for label, pictures in table.groupby("label"):
        parts |= _deal(str(label), Counter(pictures["group"]), params, number)
    return table.assign(split=table["group"].map(parts))


def _deal(label: str, sizes: Mapping[str, int], params: SplitParams, number: int) -> dict[str, str]:
    """Return the part of each group of one class; `sizes` are the numbers of pictures."""
    if len(sizes) < len(SPLITS):
        raise DataError(
            f"class '{label}' has {len(sizes)} different picture{'s' if len(sizes) > 1 else ''}",
            "at least 3, for training, validation and test",
            "add pictures to the class, or remove its folder",
        )
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{number} {group}".encode()).digest())
    pictures = sum(sizes.values())
    test = _take(order, sizes, params.test * pictures, leave=2)
    rest = [group for group in order if group not in test]
    validation = _take(rest, sizes, params.validation * pictures, leave=1)
    parts = dict.fromkeys(order, "train")
    return parts | dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")


def _take(order: list[str], sizes: Mapping[str, int], wanted: float, leave: int) -> set[str]:
    """Return groups from the front of `order` that hold about `wanted` pictures; `leave` so many groups.

    A group is taken when that brings the number nearer to `wanted`; if none does, the smallest is.
    """
    taken: set[str] = set()
    held = 0
    for group in order:
        if len(taken) < len(order) - leave and held + sizes[group] / 2 <= wanted:
            taken.add(group)
            held += sizes[group]
    return taken or {min(order, key=lambda group: sizes[group])}


def main() -> None:
    """Read the manifest, write data/splits.csv."""
    params = load(SplitParams, "split")
    manifest = read_csv(MANIFEST, text=("file", "label", "group"))
    table = split(manifest, params, seed())
    write_csv(SPLIT_TABLE, table)
    counts = table["split"].value_counts()
    log.info("%s", ", ".join(f"{counts[part]} {part}" for part in SPLITS))


if __name__ == "__main__":
    run(main)
