"""Stage preprocess: decode each picture once, make it square, and add the augmented views for training.

Without folds the training pictures have views; with folds all pictures, for each trains in some fold's run.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator

from stages.errors import DataError, run
from stages.files import packed, read_csv, read_csv_chunks, replacing_folder, write_csv_chunks, write_json
from stages.images.augmentation import AugmentationParams, Pixels, apply, draw
from stages.images.decoding import decode_accepted, strict_pillow
from stages.images.parallel import in_threads
from stages.images.prepared import SPLITS, ArrayWriter, count_folds, fold_roles, read_rows
from stages.images.squares import squared
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


def preprocess(
    splits: Path, raw: Path, params: PreprocessParams, number: int, folder: Path, workers: int | None = None
) -> int:
    """Write the arrays of every size and split into `folder`, with index, classes and preview; count the pictures.

    The table `splits` has file, label, group, split and fold of each picture below `raw`, in the order that the rows
    get; pictures that lie in none of the splits are left out. `number` is the seed. One picture a worker is decoded
    at a time, rows are appended as they come, and the table is read in pieces. Raises DataError for folds that
    cannot be used.
    """
    import cv2

    # The pictures are worked on side by side already.
    cv2.setNumThreads(1)
    table = read_csv(splits, categories=("label", "split"), columns=("label", "split", "fold"))
    table = table[table["split"].isin(SPLITS)].reset_index(drop=True)
    views = _views(table, splits, params.views)
    with strict_pillow():
        for split in SPLITS:
            files = _column(splits, "file", split)
            prepare = partial(_prepared, files=files, views=views[split], raw=raw, params=params, number=number)
            rows = len(files) * (views[split] + 1)
            with ExitStack() as stack:
                writers = [stack.enter_context(_writer(folder, side, split, rows)) for side in params.sizes]
                for arrays in in_threads(prepare, range(len(files)), f"preprocess {split}", workers):
                    for writer, array in zip(writers, arrays, strict=True):
                        writer.append(array)
    write_csv_chunks(folder / "index.csv", _index(splits, views))
    write_json(folder / "classes.json", {"classes": sorted(table["label"].unique())})
    training = table.loc[table["split"] == "train", "label"]
    _preview(training, views["train"], folder, min(params.sizes)).save(folder / "preview.png")
    return len(table)


def _column(splits: Path, name: str, *among: str) -> NDArray[np.bytes_]:
    """Return a column of the table, packed, of the pictures in one of the splits `among`."""
    chunks = read_csv_chunks(splits, (name, "split"))
    return np.concatenate([packed(chunk.loc[chunk["split"].isin(among), name]) for chunk in chunks])


def _views(table: pd.DataFrame, splits: Path, views: int) -> dict[str, int]:
    """Return how many augmented views the pictures of each split get: without folds only those for training."""
    folds = count_folds(table)
    if folds:
        _require_whole_groups(table["fold"], splits)
        _require_all_classes(table, folds)
    return {split: views if split == "train" or folds else 0 for split in SPLITS}


def _require_whole_groups(folds: "pd.Series[int]", splits: Path) -> None:
    """Raise DataError where pictures of one group lie in different folds."""
    groups = np.unique(_column(splits, "group", *SPLITS), return_inverse=True)[1]
    apart = np.flatnonzero(folds != folds.groupby(groups).transform("first"))
    if len(apart):
        files = _column(splits, "file", *SPLITS)
        first = np.flatnonzero(groups == groups[apart[0]])[0]
        raise DataError(
            f"'{files[first].decode()}' and '{files[apart[0]].decode()}' in different folds",
            "pictures of one group in one fold",
            "run: dvc repro -f split",
        )


def _require_all_classes(table: pd.DataFrame, folds: int) -> None:
    """Raise DataError where the run of a fold would have no picture of a class to train on."""
    classes = set(table["label"].unique())
    for fold in range(folds):
        trained = set(table.loc[fold_roles(table["fold"], fold) == "train", "label"].unique())
        if trained != classes:
            raise DataError(
                f"class '{min(classes - trained)}' with no picture to train on when fold {fold} tests",
                "each class in at least three folds",
                "lower split.folds, or add pictures to the class",
            )


def _index(splits: Path, views: Mapping[str, int]) -> Iterator[pd.DataFrame]:
    """Yield one row for each view of each picture, the rows counted anew in each split, some thousand at a time."""
    for split in SPLITS:
        each, start = views[split] + 1, 0
        for chunk in read_csv_chunks(splits, ("file", "label", "split", "fold")):
            part = chunk[chunk["split"] == split]
            count = len(part) * each
            rows, view = np.arange(start, start + count), np.tile(np.arange(each), len(part))
            found = part.loc[part.index.repeat(each)].assign(row=rows, view=view)
            yield found[["split", "row", "file", "label", "view", "fold"]]
            start += count


def _writer(folder: Path, side: int, split: str, rows: int) -> ArrayWriter:
    return ArrayWriter(folder / str(side) / f"{split}.npy", rows, (side, side, 3), np.uint8)


def _prepared(
    position: int, files: NDArray[np.bytes_], views: int, raw: Path, params: PreprocessParams, number: int
) -> list[Pixels]:
    """Return for each size the picture at `position` in `files` and its views, shape (views + 1, side, side, 3)."""
    picture = decode_accepted(raw / files[position].decode())
    digest = picture.digest() if views else ""
    drawn = [draw(params.augmentation, number, digest, view) for view in range(1, views + 1)]
    arrays = []
    for side in params.sizes:
        square = squared(picture.image, side, params.fit)
        arrays.append(np.stack([square, *(apply(view, square, params.augmentation.fill) for view in drawn)]))
    return arrays


def _preview(training: "pd.Series[str]", views: int, folder: Path, side: int) -> Image.Image:
    """Return a grid: a row for each class with its first training picture, and its views beside it.

    `training` are the labels of the training pictures in their order.
    """
    first = training.reset_index(drop=True).drop_duplicates().astype(str).sort_values()
    rows = []
    for position in first.index:
        array = read_rows(folder / str(side) / "train.npy", position * (views + 1), (position + 1) * (views + 1))
        rows.append(np.concatenate(list(array), axis=1))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    """Read data/raw by data/splits.csv, write data/prepared."""
    params = load(PreprocessParams, "preprocess")
    with replacing_folder(PREPARED) as folder:
        count = preprocess(SPLIT_TABLE, RAW, params, seed(), folder)
    log.info("%d pictures prepared at %s pixels", count, ", ".join(map(str, params.sizes)))


if __name__ == "__main__":
    run(main)
