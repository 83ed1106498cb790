"""Stage preprocess: decode each picture once, make it square, and add the augmented views for training.

Without folds the training pictures have views; with folds all pictures, for each trains in some fold's run.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, field_validator

from stages.errors import DataError, run
from stages.files import read_csv, replacing_folder, write_csv, write_json
from stages.images.augmentation import GREY, AugmentationParams, Pixels, apply, draw
from stages.images.decoding import decode_accepted, strict_pillow
from stages.images.parallel import in_threads
from stages.images.prepared import SPLITS, ArrayWriter, count_folds, fold_roles, read_rows
from stages.params import Section, Tuple, load, seed

RAW = Path("data/raw")
SPLIT_TABLE = Path("data/splits.csv")
PREPARED = Path("data/prepared")

log = logging.getLogger(__name__)


class PreprocessParams(Section):
    """Section `preprocess`: the sizes to prepare, and the augmented views for training."""

    sizes: Tuple[Annotated[int, Field(ge=32, le=1024)]] = Field(min_length=1)
    fit: Literal["stretch", "crop", "pad"]
    views: int = Field(ge=0, le=100)
    augmentation: AugmentationParams

    @field_validator("sizes")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each size once")
        return value


@dataclass(frozen=True)
class Job:
    """One picture to prepare, with so many augmented views beside it."""

    file: str
    views: int


def preprocess(
    table: pd.DataFrame, raw: Path, params: PreprocessParams, number: int, folder: Path, workers: int | None = None
) -> None:
    """Write the arrays of every size and split into `folder`, with index, classes and preview.

    `table` has file, label, group, split and fold of each picture below `raw`; pictures that lie in
    none of the splits are left out. `number` is the seed. One picture a worker is decoded at a time,
    and rows are appended as they come. Raises DataError for folds that cannot be used.
    """
    import cv2

    # The pictures are worked on side by side already.
    cv2.setNumThreads(1)
    table = table[table["split"].isin(SPLITS)]
    views = _views(table, params.views)
    index = _index(table, views)
    prepare = partial(_prepared, raw=raw, params=params, number=number)
    with strict_pillow():
        for split in SPLITS:
            files = index.loc[(index["split"] == split) & (index["view"] == 0), "file"]
            jobs = [Job(file, views[split]) for file in files]
            with ExitStack() as stack:
                writers = [stack.enter_context(_writer(folder, side, split, jobs)) for side in params.sizes]
                for arrays in in_threads(prepare, jobs, f"preprocess {split}", workers):
                    for writer, array in zip(writers, arrays, strict=True):
                        writer.append(array)
    write_csv(folder / "index.csv", index)
    write_json(folder / "classes.json", {"classes": sorted(table["label"].unique())})
    _preview(index, folder, min(params.sizes)).save(folder / "preview.png")


def _views(table: pd.DataFrame, views: int) -> dict[str, int]:
    """Return how many augmented views the pictures of each split get: without folds only those for training."""
    folds = count_folds(table)
    if folds:
        _require_whole_groups(table)
        _require_all_classes(table, folds)
    return {split: views if split == "train" or folds else 0 for split in SPLITS}


def _require_whole_groups(table: pd.DataFrame) -> None:
    """Raise DataError where pictures of one group lie in different folds."""
    first = table.groupby("group")[["file", "fold"]].transform("first")
    apart = table["fold"] != first["fold"]
    if apart.any():
        raise DataError(
            f"'{first.loc[apart, 'file'].iloc[0]}' and '{table.loc[apart, 'file'].iloc[0]}' in different folds",
            "pictures of one group in one fold",
            "run: dvc repro -f split",
        )


def _require_all_classes(table: pd.DataFrame, folds: int) -> None:
    """Raise DataError where the run of a fold would have no picture of a class to train on."""
    classes = set(table["label"])
    for fold in range(folds):
        trained = set(table.loc[fold_roles(table["fold"], fold) == "train", "label"])
        if trained != classes:
            raise DataError(
                f"class '{min(classes - trained)}' with no picture to train on when fold {fold} tests",
                "each class in at least three folds",
                "lower split.folds, or add pictures to the class",
            )


def _index(table: pd.DataFrame, views: Mapping[str, int]) -> pd.DataFrame:
    """Return one row for each view of each picture, the rows counted anew in each split."""
    columns = ["file", "label", "fold"]
    records = [
        (split, file, label, view, fold)
        for split in SPLITS
        for file, label, fold in table.loc[table["split"] == split, columns].sort_values("file").to_numpy()
        for view in range(views[split] + 1)
    ]
    index = pd.DataFrame(records, columns=["split", "file", "label", "view", "fold"])
    index.insert(1, "row", index.groupby("split").cumcount())
    return index


def _writer(folder: Path, side: int, split: str, jobs: list[Job]) -> ArrayWriter:
    rows = sum(job.views + 1 for job in jobs)
    return ArrayWriter(folder / str(side) / f"{split}.npy", rows, (side, side, 3), np.uint8)


def _prepared(job: Job, raw: Path, params: PreprocessParams, number: int) -> list[Pixels]:
    """Return for each size the picture and its views, shape (views + 1, side, side, 3)."""
    picture = decode_accepted(raw / job.file)
    digest = picture.digest() if job.views else ""
    views = [draw(params.augmentation, number, digest, view) for view in range(1, job.views + 1)]
    arrays = []
    for side in params.sizes:
        square = squared(picture.image, side, params.fit)
        arrays.append(np.stack([square, *(apply(view, square, params.augmentation.fill) for view in views)]))
    return arrays


def squared(image: Image.Image, side: int, fit: str) -> Pixels:
    """Return `image` as a square of `side` pixels, resized once, linearly and without aliasing."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short) if fit == "crop" else (0, 0, width, height)
    inner = (max(1, round(width * side / long)), max(1, round(height * side / long))) if fit == "pad" else (side, side)
    resized = image.resize(inner, Image.Resampling.BILINEAR, box=box)
    if inner == (side, side):
        return np.asarray(resized)
    square = np.full((side, side, 3), GREY, np.uint8)
    left_edge, top_edge = (side - inner[0]) // 2, (side - inner[1]) // 2
    square[top_edge : top_edge + inner[1], left_edge : left_edge + inner[0]] = np.asarray(resized)
    return square


def _preview(index: pd.DataFrame, folder: Path, side: int) -> Image.Image:
    """Return a grid: a row for each class with its first training picture, and its views beside it."""
    training = index[index["split"] == "train"]
    rows = []
    for _, pictures in training.groupby("label"):
        views = pictures[pictures["file"] == pictures["file"].iloc[0]]["row"]
        array = read_rows(folder / str(side) / "train.npy", int(views.min()), int(views.max()) + 1)
        rows.append(np.concatenate(list(array), axis=1))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    """Read data/raw by data/splits.csv, write data/prepared."""
    params = load(PreprocessParams, "preprocess")
    table = read_csv(SPLIT_TABLE, text=("file", "label", "group", "split"))
    with replacing_folder(PREPARED) as folder:
        preprocess(table, RAW, params, seed(), folder)
    log.info("%d pictures prepared at %s pixels", table["split"].isin(SPLITS).sum(), ", ".join(map(str, params.sizes)))


if __name__ == "__main__":
    run(main)
