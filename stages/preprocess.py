"""Stage `preprocess`: decode each image once, and resize it to squares of every size."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.dataset.augmentation import Pixels
from stages.core.dataset.prepared import SPLITS, ArrayWriter, count_folds, fold_roles
from stages.core.dataset.resizing import resize_to_square
from stages.core.decoding import decode_accepted, strict_pillow
from stages.core.errors import DataError, run
from stages.core.files import read_csv, read_csv_chunks, replacing_folder, to_bytes_array, write_csv_chunks
from stages.core.parallel import in_threads
from stages.core.params import load_part
from stages.core.settings.preprocess import SquareParams

RAW = Path("data/raw")
SPLIT_TABLE = Path("data/splits.csv")
PREPARED = Path("data/prepared")

log = logging.getLogger(__name__)


def preprocess(splits: Path, raw: Path, params: SquareParams, folder: Path, workers: int | None = None) -> int:
    """Write the arrays of every size and split to `folder`, with index and classes; return the number of images.

    The table `splits` has file, label, group, split and fold of each image below `raw`, in the order of the rows;
    images in no split are left out. Each worker decodes one image at a time, rows are appended as they are ready, and
    the table is read in chunks. Raises DataError for invalid folds.
    """
    table = read_csv(splits, categories=("label", "split"), columns=("label", "split", "fold"))
    table = table[table["split"].isin(SPLITS)].reset_index(drop=True)
    _require_usable_folds(table, splits)
    with strict_pillow():
        for split in SPLITS:
            _write_arrays(_column(splits, "file", split), split, raw, params, folder, workers)
    write_csv_chunks(folder / "index.csv", _index(splits))
    return len(table)


def _column(splits: Path, name: str, *among: str) -> NDArray[np.bytes_]:
    """Return a column of the table as bytes, for the images in one of the splits `among`."""
    chunks = read_csv_chunks(splits, (name, "split"))
    return np.concatenate([to_bytes_array(chunk.loc[chunk["split"].isin(among), name]) for chunk in chunks])


def _require_usable_folds(table: pd.DataFrame, splits: Path) -> None:
    if folds := count_folds(table):
        _require_whole_groups(table["fold"], splits)
        _require_all_classes(table, folds)


def _require_whole_groups(folds: "pd.Series[int]", splits: Path) -> None:
    """Raise DataError when images of one group are in different folds."""
    groups = np.unique(_column(splits, "group", *SPLITS), return_inverse=True)[1]
    apart = np.flatnonzero(folds != folds.groupby(groups).transform("first"))
    if len(apart):
        files = _column(splits, "file", *SPLITS)
        first = np.flatnonzero(groups == groups[apart[0]])[0]
        raise DataError(
            f"'{files[first].decode()}' and '{files[apart[0]].decode()}' in different folds",
            "images of one group in one fold",
            "run: dvc repro -f split",
        )


def _require_all_classes(table: pd.DataFrame, folds: int) -> None:
    """Raise DataError when the run of a fold would have no image of a class to train on."""
    classes = set(table["label"].unique())
    for fold in range(folds):
        trained = set(table.loc[fold_roles(table["fold"], fold) == "train", "label"].unique())
        if trained != classes:
            raise DataError(
                f"class '{min(classes - trained)}' with no image to train on when fold {fold} tests",
                "each class in at least three folds",
                "lower split.folds, or add images to the class",
            )


def _index(splits: Path) -> Iterator[pd.DataFrame]:
    """Yield one row for each image, rows numbered from 0 in each split, some thousand at a time."""
    for split in SPLITS:
        start = 0
        for chunk in read_csv_chunks(splits, ("file", "label", "split", "fold", "group")):
            part = chunk[chunk["split"] == split]
            found = part.assign(row=np.arange(start, start + len(part)))
            yield found[["split", "row", "file", "label", "fold", "group"]]
            start += len(part)


def _write_arrays(
    files: NDArray[np.bytes_], split: str, raw: Path, params: SquareParams, folder: Path, workers: int | None
) -> None:
    """Write the array of the images `files` at every size."""
    prepare = partial(_prepared, files=files, raw=raw, params=params)
    with ExitStack() as stack:
        writers = [stack.enter_context(_writer(folder, side, split, len(files))) for side in params.sizes]
        for arrays in in_threads(prepare, range(len(files)), f"preprocess {split}", workers):
            for writer, array in zip(writers, arrays, strict=True):
                writer.append(array)


def _writer(folder: Path, side: int, split: str, rows: int) -> ArrayWriter:
    return ArrayWriter(folder / str(side) / f"{split}.npy", rows, (side, side, 3), np.uint8)


def _prepared(position: int, files: NDArray[np.bytes_], raw: Path, params: SquareParams) -> list[Pixels]:
    """Return the image at `position` in `files` at each size, as an array of one row (1, side, side, 3)."""
    image = decode_accepted(raw / files[position].decode()).image
    return [resize_to_square(image, side, params.fit)[np.newaxis] for side in params.sizes]


def main() -> None:
    """Read data/raw by data/splits.csv, write data/prepared."""
    params = load_part(SquareParams, "preprocess")
    with replacing_folder(PREPARED) as folder:
        count = preprocess(SPLIT_TABLE, RAW, params, folder)
    log.info("%d images prepared at %s pixels", count, ", ".join(map(str, params.sizes)))


if __name__ == "__main__":
    run(main)
