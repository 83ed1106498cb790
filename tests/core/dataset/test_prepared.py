"""Arrays are appended to and read in slices; their bytes are those of numpy.save."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.dataset.prepared import (
    SPLITS,
    ArrayWriter,
    Joined,
    MappedRows,
    Rows,
    array_path,
    batches,
    count_folds,
    count_rows,
    read_classes,
    read_index,
    read_rows,
    selected,
)
from stages.core.errors import DataError
from stages.core.files import write_csv


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
    row = {"split": "train", "row": 0, "file": "NA/1.jpg", "label": "NA", "fold": -1, "group": "01"}
    index = pd.DataFrame([row, row | {"file": "001/1.jpg", "label": "001", "row": 1}])
    write_csv(tmp_path / "index.csv", index)
    assert read_index(tmp_path).to_dict("records") == index.to_dict("records")
    assert read_classes(tmp_path) == ["001", "NA"]


def test_a_size_that_was_not_prepared_is_an_error_that_names_those_that_were(tmp_path: Path) -> None:
    for side in (224, 96):
        (tmp_path / str(side)).mkdir()
    np.save(tmp_path / "96" / "test.npy", np.zeros(1))
    assert array_path(tmp_path, 96, "test") == tmp_path / "96" / "test.npy"
    with pytest.raises(DataError, match=r"128 pixels are not prepared; expected one of 96, 224; add 128 to preproc"):
        array_path(tmp_path, 128, "test")


def folded(folds: int) -> pd.DataFrame:
    """Return the index of ten images, assigned to this many folds across the splits."""
    splits = ["train"] * 5 + ["validation"] * 2 + ["test"] * 3
    rows = [(split, f"{9 - n}.png", n % folds) for n, split in enumerate(splits)]
    index = pd.DataFrame(rows, columns=["split", "file", "fold"])
    index.insert(1, "row", index.groupby("split").cumcount())
    return index


@pytest.mark.parametrize("count", [3, 5])
def test_over_the_folds_every_image_tests_once_chooses_once_and_trains_otherwise(count: int) -> None:
    index = folded(count)
    files: dict[str, list[str]] = {split: [] for split in SPLITS}
    for fold in range(count):
        parts = {split: selected(index, split, fold) for split in SPLITS}
        assert sorted(pd.concat(parts)["file"]) == sorted(index["file"])
        for split, part in parts.items():
            files[split] += part["file"].tolist()
        assert set(parts["test"]["fold"]) == {fold}
        assert set(parts["validation"]["fold"]) == {(fold + 1) % count}
    assert sorted(files["test"]) == sorted(files["validation"]) == sorted(index["file"])
    assert len(files["train"]) == (count - 2) * 10


def test_the_main_run_has_the_rows_of_its_splits_in_their_order() -> None:
    index = folded(3).sample(frac=1, random_state=1)
    for split, count in (("train", 5), ("validation", 2), ("test", 3)):
        chosen = selected(index, split)
        assert set(chosen["split"]) == {split}
        assert chosen["row"].tolist() == list(range(count))


def test_a_folds_rows_stand_in_an_order_that_the_main_split_has_no_part_in() -> None:
    index = folded(3)
    other = index.assign(split=index["split"].to_numpy()[::-1])
    for split in SPLITS:
        files = [selected(table, split, 1)["file"].tolist() for table in (index, other)]
        assert files[0] == files[1] == sorted(files[0])


@pytest.mark.parametrize(("folds", "count"), [([-1, -1], 0), ([0, 1, 2, 0], 3), ([4, 3, 2, 1, 0], 5)])
def test_folds_are_counted(folds: list[int], count: int) -> None:
    assert count_folds(pd.DataFrame({"fold": folds})) == count


@pytest.mark.parametrize(
    ("folds", "named"),
    [
        ([-1, 0, 1, 2], "-1, 0, 1, 2"),
        ([0, 1], "0, 1"),
        ([0, 2, 3], "0, 2, 3"),
        (["0", "", "1"], ", 0, 1"),
        ([], "nowhere"),
    ],
)
def test_folds_that_are_not_all_there_are_one_line(folds: list[object], named: str) -> None:
    expected = f"folds {named}; expected -1 for every image, or 0 to K - 1 with K at least 3; run: dvc repro -f split"
    with pytest.raises(DataError) as caught:
        count_folds(pd.DataFrame({"fold": folds}))
    assert str(caught.value) == expected


def test_a_table_without_folds_is_one_line() -> None:
    with pytest.raises(DataError, match=r"folds nowhere; expected -1 for every image"):
        count_folds(pd.DataFrame({"file": ["a"]}))


def test_rows_of_several_files_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    arrays = {"train": np.arange(12).reshape(4, 3), "test": -np.arange(9).reshape(3, 3)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    chosen = pd.DataFrame({"split": ["test", "train", "train", "test", "train"], "row": [2, 0, 3, 0, 1]})
    rows = Rows(chosen, {name: tmp_path / f"{name}.npy" for name in arrays})
    expected = np.stack([arrays[split][row] for split, row in chosen.to_numpy()])
    assert len(rows) == 5
    assert np.array_equal(rows[np.array([4, 0, 3])], expected[[4, 0, 3]])
    assert np.array_equal(rows[1:3], expected[1:3])
    assert [len(batch) for batch in rows.batches(2)] == [2, 2, 1]
    assert np.array_equal(np.concatenate(list(rows.batches(2))), expected)


def test_a_row_that_a_file_does_not_have_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    rows = Rows(pd.DataFrame({"split": ["test"], "row": [2]}), {"test": tmp_path / "a.npy"})
    with pytest.raises(IndexError):
        rows[:1]


def lazy(path: Path, array: np.ndarray) -> Rows:
    """Return the rows of an array as those of a file."""
    np.save(path, array)
    return Rows(pd.DataFrame({"split": "test", "row": range(len(array))}), {"test": path})


def test_joined_rows_stand_behind_each_other(tmp_path: Path) -> None:
    first, second = np.arange(12.0).reshape(4, 3), -np.arange(6.0).reshape(2, 3)
    rows = Joined(lazy(tmp_path / "a.npy", first), lazy(tmp_path / "b.npy", second))
    expected = np.concatenate([first, second])
    assert len(rows) == 6
    for positions in (np.array([5, 0, 4, 3, 0]), np.array([1, 2]), np.array([5]), slice(2, 5), slice(0, 0)):
        assert np.array_equal(rows[positions], expected[positions])
    assert [batch.tolist() for batch in rows.batches(4)] == [expected[:4].tolist(), expected[4:].tolist()]


def test_mapped_rows_are_made_of_those_that_are_asked_for(tmp_path: Path) -> None:
    array, asked = np.arange(12.0).reshape(4, 3), []
    rows = MappedRows(lazy(tmp_path / "a.npy", array), lambda batch: asked.append(len(batch)) or batch * 2)
    assert len(rows) == 4
    assert np.array_equal(rows[np.array([3, 1])], array[[3, 1]] * 2)
    assert [len(batch) for batch in rows.batches(3)] == [3, 1]
    assert asked == [2, 3, 1]
