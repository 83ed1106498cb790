"""Images are prepared once for all sizes; folds are looked at before."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages.core import params
from stages.core.dataset.prepared import SPLITS, array_path, read_classes, read_index
from stages.core.dataset.resizing import resize_to_square
from stages.core.errors import DataError, GroupedUserError
from stages.core.files import write_csv
from stages.core.params import parse
from stages.core.settings.preprocess import PreprocessParams, SquareParams
from stages.preprocess import main, preprocess

AUGMENTATION = {
    "rotation": 15,
    "flip_horizontal": True,
    "flip_vertical": False,
    "zoom": 0.1,
    "translation": 0.1,
    "contrast": 0.2,
    "fill": "reflect",
}
VALUES: dict[str, Any] = {"sizes": [32, 48], "fit": "pad", "views": 2, "augmentation": AUGMENTATION}


def image(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64 + seed, 50), Image.Resampling.BICUBIC)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Eight images of two classes below tmp_path/raw, four of them for training; 1 is a copy of 0."""
    parts = ["train", "train", "validation", "test", "train", "validation", "test", "train"]
    rows = []
    for number, part in enumerate(parts):
        label = "tree" if number < 4 else "plank"
        file = f"{label}/{number}.png"
        path = tmp_path / "raw" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        image(0 if number == 1 else number).save(path, compress_level=number)
        rows.append((file, label, str(number), part))
    columns = ["file", "label", "group", "split"]
    return pd.DataFrame(rows, columns=columns).assign(fold=-1).sort_values("file", ignore_index=True)


@pytest.fixture
def folded(table: pd.DataFrame) -> pd.DataFrame:
    """The same images in four folds, one of each class in each."""
    return table.assign(fold=table.groupby("label").cumcount())


def prepare(
    table: pd.DataFrame, tmp_path: Path, name: str = "prepared", workers: int = 2, sizes: tuple[int, ...] = (32, 48)
) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    write_csv(splits := tmp_path / f"{name}.csv", table)
    preprocess(splits, tmp_path / "raw", SquareParams(sizes=sizes, fit="pad"), folder, workers)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_index_says_what_each_row_is(table: pd.DataFrame, tmp_path: Path) -> None:
    folder = prepare(table, tmp_path)
    index = read_index(folder)
    assert read_classes(folder) == ["plank", "tree"]
    assert index["split"].drop_duplicates().tolist() == list(SPLITS)
    train = index[index["split"] == "train"]
    assert train["file"].tolist() == ["plank/4.png", "plank/7.png", "tree/0.png", "tree/1.png"]
    assert (index["label"] == index["file"].str.split("/").str[0]).all()
    for split, part in index.groupby("split", observed=True):
        assert part["row"].tolist() == list(range(len(part)))
        for side in (32, 48):
            array = np.load(array_path(folder, side, str(split)))
            assert array.shape == (len(part), side, side, 3)
            assert array.dtype == np.uint8


def test_a_row_is_the_image_as_a_square(table: pd.DataFrame, tmp_path: Path) -> None:
    folder = prepare(table, tmp_path)
    for split, numbers in {"train": (4, 7, 0, 0), "validation": (5, 2), "test": (6, 3)}.items():
        for side in (32, 48):
            expected = [resize_to_square(image(number), side, "pad") for number in numbers]
            assert np.array_equal(np.load(array_path(folder, side, split)), expected)


def test_without_folds_no_row_belongs_to_one(table: pd.DataFrame, tmp_path: Path) -> None:
    index = read_index(prepare(table, tmp_path))
    assert list(index) == ["split", "row", "file", "label", "fold", "group"]
    assert set(index["fold"]) == {-1}


def test_with_folds_the_images_are_prepared_as_without_and_have_the_fold_of_their_row(
    table: pd.DataFrame, folded: pd.DataFrame, tmp_path: Path
) -> None:
    within = prepare(folded, tmp_path, "two")
    found = read_index(within)[["file", "fold"]].astype({"file": str}).sort_values("file")
    assert found.to_numpy().tolist() == folded[["file", "fold"]].to_numpy().tolist()
    one, two = contents(prepare(table, tmp_path, "one")), contents(within)
    assert one.pop("index.csv") != two.pop("index.csv")
    assert one == two


def test_what_was_dropped_is_prepared_nowhere(table: pd.DataFrame, folded: pd.DataFrame, tmp_path: Path) -> None:
    left_out = table.iloc[:1].assign(file="fox/1.png", label="fox", split="dropped")
    for name, kept in {"one": table, "two": folded}.items():
        folder = prepare(pd.concat([left_out, kept]), tmp_path, name)
        assert set(read_index(folder)["file"]) == set(table["file"])
        assert read_classes(folder) == ["plank", "tree"]


def test_a_group_in_two_folds_is_one_line(folded: pd.DataFrame, tmp_path: Path) -> None:
    folded.loc[folded["file"] == "tree/3.png", "group"] = "0"
    with pytest.raises(DataError, match=r"^'tree/0.png' and 'tree/3.png' in different folds; expected images of one"):
        prepare(folded, tmp_path)


def test_a_class_with_nothing_to_train_on_in_a_folds_run_is_one_line(folded: pd.DataFrame, tmp_path: Path) -> None:
    folded.loc[folded["label"] == "plank", "fold"] = [1, 2, 1, 2]
    expected = r"class 'plank' with no image to train on when fold 1 tests; expected .* lower split.folds"
    with pytest.raises(DataError, match=expected):
        prepare(folded, tmp_path)


def test_two_workers_write_what_one_writes(table: pd.DataFrame, tmp_path: Path) -> None:
    one, two = prepare(table, tmp_path, "one", workers=1), prepare(table, tmp_path, "two", workers=2)
    assert contents(one) == contents(two)


def test_another_size_leaves_the_others_as_they_are(table: pd.DataFrame, tmp_path: Path) -> None:
    one, two = contents(prepare(table, tmp_path, "one")), contents(prepare(table, tmp_path, "two", sizes=(40, 48)))
    assert {name for name in one if one[name] != two.get(name)} == {f"32/{split}.npy" for split in SPLITS}


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_an_image_that_ingest_accepted_and_is_gone_is_an_error(
    table: pd.DataFrame, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "raw" / "tree" / "2.png"
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    reason = "No such file or directory" if damage == "missing" else "broken: "
    with pytest.raises(DataError, match=rf"raw/tree/2.png' cannot be read \({reason}.*; run: dvc repro -f ingest"):
        prepare(table, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": [96, 96]}, "preprocess.sizes = [96, 96]; expected each size once"),
        ({"sizes": [96, 16]}, "preprocess.sizes.1 = 16; expected at least 32"),
        ({"sizes": [2048]}, "preprocess.sizes.0 = 2048; expected at most 1024"),
        ({"sizes": []}, "preprocess.sizes = "),
        ({"fit": "padd"}, "preprocess.fit = 'padd'; expected 'stretch', 'crop' or 'pad'; did you mean 'pad'?"),
        ({"views": -1}, "preprocess.views = -1"),
        ({"augmentation": AUGMENTATION | {"zoom": 2.0}}, "preprocess.augmentation.zoom = 2.0"),
        ({"augmentation": AUGMENTATION | {"zom": 0.1}}, "unknown key 'preprocess.augmentation.zom'"),
    ],
)
def test_bad_parameters_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GroupedUserError) as caught:
        parse(PreprocessParams, VALUES | changes, "preprocess")
    assert str(caught.value).startswith(message)


def test_the_stage_replaces_what_was_prepared_before(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    params.read.cache_clear()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"preprocess": {"sizes": [32, 48], "fit": "pad"}}))
    (tmp_path / "data").mkdir()
    (tmp_path / "raw").rename(tmp_path / "data" / "raw")
    write_csv(tmp_path / "data" / "splits.csv", table)
    stale = tmp_path / "data" / "prepared" / "64"
    stale.mkdir(parents=True)
    main()
    assert not stale.exists()
    (tmp_path / "raw").symlink_to(tmp_path / "data" / "raw")
    assert contents(tmp_path / "data" / "prepared") == contents(prepare(table, tmp_path))
    assert caplog.messages == ["8 images prepared at 32, 48 pixels"]
