"""Prepared pictures: arrays of equally large pictures on disk, and the index that says what each row is.

    data/prepared/classes.json   the classes, sorted: the order of every probability
    data/prepared/index.csv      split, row, file, label, view; view 0 is the picture itself
    data/prepared/<side>/<split>.npy   uint8 (rows, side, side, 3), RGB 0 to 255, rows as in the index

Arrays are written by appending and read in slices, so that memory never holds a whole one.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from stages.errors import DataError
from stages.files import read_csv, read_json

# Trained on, chosen by, read once.
SPLITS = ("train", "validation", "test")
# In the column `split` of a picture that is in none of them: left out because of a leak in the source's split.
DROPPED = "dropped"


class ArrayWriter:
    """Appends rows to a new `.npy` file; the bytes are those of `numpy.save`.

    The number of rows is given beforehand because the header stands first. Closing without an
    exception raises ValueError when another number was written. Writes to `path` directly: give it
    a temporary one.
    """

    def __init__(self, path: Path, rows: int, row_shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.path, self.rows, self.row_shape, self.dtype = path, rows, row_shape, np.dtype(dtype)
        self.written = 0

    def __enter__(self) -> "ArrayWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("wb")
        description = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.rows, *self.row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self

    def append(self, array: NDArray[Any]) -> None:
        """Write the rows of `array`, shape (n, *row_shape), of the writer's type."""
        if array.shape[1:] != self.row_shape or array.dtype != self.dtype:
            raise ValueError(f"rows of {array.dtype} {array.shape[1:]} for {self.dtype} {self.row_shape}")
        self._file.write(np.ascontiguousarray(array).data)
        self.written += len(array)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self.written != self.rows:
            raise ValueError(f"{self.path.name}: {self.written} rows written, {self.rows} announced")


def read_index(root: Path) -> pd.DataFrame:
    """Return the index; rows count from 0 in each split."""
    return read_csv(root / "index.csv", text=("split", "file", "label"))


def read_classes(root: Path) -> list[str]:
    """Return the classes in the order of every probability."""
    classes: list[str] = read_json(root / "classes.json")["classes"]
    return classes


def array_path(root: Path, side: int, split: str) -> Path:
    """Return the file of the pictures of `side` pixels in `split`. Raise DataError when it was not prepared."""
    path = root / str(side) / f"{split}.npy"
    if not path.is_file():
        prepared = sorted(int(folder.name) for folder in root.iterdir() if folder.is_dir())
        raise DataError(
            f"pictures of {side} pixels are not prepared",
            f"one of {', '.join(map(str, prepared))}",
            f"add {side} to preprocess.sizes",
        )
    return path


def read_rows(path: Path, start: int, stop: int) -> NDArray[Any]:
    """Return rows `start` to `stop` (not included) in memory of their own."""
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[start:stop])


def count_rows(path: Path) -> int:
    """Return how many rows a `.npy` file has."""
    return int(np.load(path, mmap_mode="r", allow_pickle=False).shape[0])


def batches(path: Path, size: int) -> Iterator[NDArray[Any]]:
    """Yield the rows in order, `size` at a time; the last batch may be smaller."""
    for start in range(0, count_rows(path), size):
        yield read_rows(path, start, start + size)
