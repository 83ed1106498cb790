"""Arrays are appended to and read in slices; their bytes are those of numpy.save."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.errors import DataError
from stages.files import write_csv, write_json
from stages.images.prepared import ArrayWriter, array_path, batches, count_rows, read_classes, read_index, read_rows


@pytest.mark.parametrize(("shape", "kind"), [((4, 4, 3), np.uint8), ((7,), np.float32), ((), np.int64)])
def test_appended_rows_make_the_file_that_numpy_writes(tmp_path: Path, shape: tuple[int, ...], kind: type) -> None:
    array = np.random.default_rng(1).integers(0, 200, (10, *shape)).astype(kind)
    with ArrayWriter(tmp_path / "deep" / "a.npy", 10, shape, kind) as writer:
        writer.append(array[:3])
        writer.append(array[3:][::-1][::-1])
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "deep" / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_rows_that_are_not_contiguous_are_written_in_their_order(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    with ArrayWriter(tmp_path / "a.npy", 4, (2, 3), np.uint8) as writer:
        writer.append(array.transpose(0, 2, 1))
    assert np.array_equal(np.load(tmp_path / "a.npy"), array.transpose(0, 2, 1))


def test_no_rows_make_an_empty_array(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "a.npy", 0, (2, 3), np.uint8):
        pass
    assert np.load(tmp_path / "a.npy").shape == (0, 2, 3)
    assert list(batches(tmp_path / "a.npy", 4)) == []


@pytest.mark.parametrize("written", [1, 3])
def test_another_number_of_rows_than_announced_is_an_error(tmp_path: Path, written: int) -> None:
    with (
        pytest.raises(ValueError, match=f"a.npy: {written} rows written, 2 announced"),
        ArrayWriter(tmp_path / "a.npy", 2, (5,), np.float32) as writer,
    ):
        writer.append(np.zeros((written, 5), np.float32))


def test_rows_of_another_shape_or_type_are_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"rows of float64 \(5,\) for float32 \(5,\)"),
        ArrayWriter(tmp_path / "a.npy", 1, (5,), np.float32) as writer,
    ):
        writer.append(np.zeros((1, 5)))
    with (
        pytest.raises(ValueError, match=r"rows of float32 \(4,\) for float32 \(5,\)"),
        ArrayWriter(tmp_path / "a.npy", 1, (5,), np.float32) as writer,
    ):
        writer.append(np.zeros((1, 4), np.float32))


def test_an_exception_in_the_block_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(KeyError), ArrayWriter(tmp_path / "a.npy", 2, (), np.uint8):
        raise KeyError("mine")


def test_rows_are_read_in_slices(tmp_path: Path) -> None:
    array = np.arange(50).reshape(10, 5)
    np.save(tmp_path / "a.npy", array)
    rows = read_rows(tmp_path / "a.npy", 2, 5)
    assert np.array_equal(rows, array[2:5])
    assert rows.flags.owndata
    assert count_rows(tmp_path / "a.npy") == 10
    assert [len(batch) for batch in batches(tmp_path / "a.npy", 4)] == [4, 4, 2]
    assert np.array_equal(np.concatenate(list(batches(tmp_path / "a.npy", 4))), array)


def test_index_and_classes_are_read_as_written(tmp_path: Path) -> None:
    index = pd.DataFrame({"split": ["train"], "row": [0], "file": ["NA/1.jpg"], "label": ["NA"], "view": [0]})
    write_csv(tmp_path / "index.csv", index)
    write_json(tmp_path / "classes.json", {"classes": ["001", "NA"]})
    assert read_index(tmp_path).to_dict("records") == index.to_dict("records")
    assert read_classes(tmp_path) == ["001", "NA"]


def test_a_size_that_was_not_prepared_is_an_error_that_names_those_that_were(tmp_path: Path) -> None:
    for side in (224, 96):
        (tmp_path / str(side)).mkdir()
    np.save(tmp_path / "96" / "test.npy", np.zeros(1))
    assert array_path(tmp_path, 96, "test") == tmp_path / "96" / "test.npy"
    with pytest.raises(DataError, match=r"128 pixels are not prepared; expected one of 96, 224; add 128 to preproc"):
        array_path(tmp_path, 128, "test")
