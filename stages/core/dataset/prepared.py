"""Prepared images: arrays of images of one size on disk, and the index that says what each row is.

    data/prepared/index.csv            split, row, file, label, fold, group
    data/prepared/<side>/<split>.npy   uint8 (rows, side, side, 3), RGB 0 to 255, rows as in the index

Arrays are appended to and read in slices, so that memory never holds a whole one.

With K folds (0 to K - 1; -1 without folds) every image is tested once: run k tests fold k, selects models
on fold (k + 1) mod K, and trains on the others.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from stages.core.errors import DataError
from stages.core.files import read_csv

# Training, model selection, final evaluation.
SPLITS = ("train", "validation", "test")
# In column `split`: an image that is in none of them, left out because of a leak in the source's split.
DROPPED = "dropped"
# In column `action` of data/leaks.csv: copies across a split of the source that is not used.
SPLIT_AGAIN = "split again"
# Too few training images to learn a class reliably, and its recall says little.
FEW = 10
# One fold tests, one selects, and at least one must be left to train on.
_MIN_FOLDS = 3


class ArrayWriter:
    """Appends rows to a new `.npy` file; the bytes are those of `numpy.save`.

    The number of rows is given beforehand because the header stands first. Closing without an
    exception raises ValueError when another number was written. It writes to `path` directly: pass a
    temporary one.
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
    return read_csv(root / "index.csv", categories=("split", "file", "label", "group"))


def read_classes(root: Path) -> list[str]:
    """Return the classes, sorted: the order of every probability."""
    return sorted(read_csv(root / "index.csv", text=("label",), columns=("label",))["label"].unique())


def count_folds(table: pd.DataFrame) -> int:
    """Return the number of folds in column fold, 0 for none.

    Raises DataError unless it holds only -1, or 0 to K - 1 with K at least 3.
    """
    found = sorted(table["fold"].unique(), key=str) if "fold" in table else []
    if found == [-1]:
        return 0
    if len(found) < _MIN_FOLDS or set(found) != set(range(len(found))):
        raise DataError(
            f"folds {', '.join(map(str, found[:5])) or 'nowhere'}",
            f"-1 for every image, or 0 to K - 1 with K at least {_MIN_FOLDS}",
            "run: dvc repro -f split",
        )
    return len(found)


def selected(index: pd.DataFrame, split: str, fold: int | None = None) -> pd.DataFrame:
    """Return the rows of the index that belong to `split` in the main run, or in the run of `fold`.

    The order of the rows of a fold's run does not depend on the main split.
    """
    if fold is None:
        return index[index["split"] == split].sort_values("row")
    return index[fold_roles(index["fold"], fold) == split].sort_values("file")


def fold_roles(folds: pd.Series, fold: int) -> pd.Series:
    """Return the split of each of `folds`, 0 to K - 1, in the run of `fold`: train, validation or test."""
    others = dict.fromkeys(range(int(folds.max()) + 1), "train")
    return folds.map(others | {(fold + 1) % len(others): "validation", fold: "test"})


class Lazy(ABC):
    """Rows that are read or computed on access, with the interface of an array."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, positions: slice | NDArray[np.int64]) -> NDArray[Any]: ...

    def batches(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the rows in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


class Rows(Lazy):
    """Rows of one or more array files.

    `chosen` has columns split and row, in the desired order; `files` names the array file of each split.
    """

    def __init__(self, chosen: pd.DataFrame, files: Mapping[str, Path]) -> None:
        self._files = list(files.values())
        numbers = {split: number for number, split in enumerate(files)}
        self._array = chosen["split"].astype(str).map(numbers).to_numpy(dtype=np.int64)
        self._row = chosen["row"].to_numpy(dtype=np.int64)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, positions: slice | NDArray[np.int64]) -> NDArray[Any]:
        which, row = self._array[positions], self._row[positions]
        # Reopened each time: pages that stay mapped count as this process's memory, in the end the whole file.
        arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in self._files]
        found = np.empty((len(row), *arrays[0].shape[1:]), arrays[0].dtype)
        for number, array in enumerate(arrays):
            found[which == number] = array[row[which == number]]
        return found


class Filed(Lazy):
    """The rows of one array file."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, positions: slice | NDArray[np.int64]) -> NDArray[Any]:
        # Reopened each time, as for `Rows`.
        return np.array(np.load(self._path, mmap_mode="r", allow_pickle=False)[positions])


class MappedRows(Lazy):
    """Other rows mapped by `function`, a batch at a time."""

    def __init__(self, rows: Lazy, function: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self._rows, self._function = rows, function

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, positions: slice | NDArray[np.int64]) -> NDArray[Any]:
        return self._function(self._rows[positions])


class Joined(Lazy):
    """The rows of all `parts`, concatenated; they have one shape and type."""

    def __init__(self, *parts: Lazy) -> None:
        self._parts = parts
        self._part = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self._row = np.concatenate([np.arange(len(part)) for part in parts])

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, positions: slice | NDArray[np.int64]) -> NDArray[Any]:
        which, row = self._part[positions], self._row[positions]
        found = np.concatenate([part[row[which == number]] for number, part in enumerate(self._parts)])
        wanted = np.empty_like(found)
        wanted[np.argsort(which, kind="stable")] = found
        return wanted


def array_path(root: Path, side: int, split: str) -> Path:
    """Return the file of the images of `side` pixels in `split`. Raise DataError when it was not prepared."""
    path = root / str(side) / f"{split}.npy"
    if not path.is_file():
        prepared = sorted(int(folder.name) for folder in root.iterdir() if folder.is_dir())
        raise DataError(
            f"images of {side} pixels are not prepared",
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
