"""What a training reads: images, their features, and those of as many views as are trained on, with their classes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.dataset.augmentation import Augmentation
from stages.core.files import write_json
from stages.core.settings.backbones import Backbone
from stages.core.settings.preprocess import AugmentationParams
from stages.training.inputs import TrainingData

SIDE, WIDTH, VIEWS, FOLDS = 32, 3, 3, 3
CLASSES = ["cold", "warm"]
COUNTS = {"train": 6, "validation": 4, "test": 2}
AUGMENTATION = Augmentation(
    AugmentationParams(
        rotation=15, flip_horizontal=True, flip_vertical=False, zoom=0.1, translation=0.1, contrast=0.2, fill="nearest"
    ),
    20,
)


def table() -> pd.DataFrame:
    """Return the index of images with alternating classes, assigned to folds across the splits."""
    numbers = [(split, row) for split, count in COUNTS.items() for row in range(count)]
    rows = [
        (split, row, f"{CLASSES[row % 2]}/{9 - row}{split}.png", CLASSES[row % 2], number % FOLDS)
        for number, (split, row) in enumerate(numbers)
    ]
    columns = ["split", "row", "file", "label", "fold"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("split", "file", "label"), "category"))


@pytest.fixture
def inputs(tmp_path: Path, declare: Callable[..., Backbone]) -> TrainingData:
    """Data with two views; a feature of an image is 100 x split + row, that of a view the same plus a fraction of 1."""
    draw = np.random.default_rng(0)
    for name in ("features", "views", f"prepared/{SIDE}"):
        (tmp_path / name).mkdir(parents=True)
    for number, (split, count) in enumerate(COUNTS.items()):
        features = np.repeat(100.0 * number + np.arange(count)[:, np.newaxis], WIDTH, axis=1)
        views = (features[:, np.newaxis] + np.arange(1, VIEWS + 1)[:, np.newaxis] / 10).reshape(-1, WIDTH)
        np.save(tmp_path / f"features/{split}.npy", features.astype(np.float32))
        np.save(tmp_path / f"views/{split}.npy", views.astype(np.float32))
        images = draw.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        np.save(tmp_path / f"prepared/{SIDE}/{split}.npy", images)
    write_json(tmp_path / "views/views.json", {"views": VIEWS})
    return TrainingData(
        declare("vgg16", input_size=SIDE), tmp_path / "features", tmp_path / "prepared", table(),
        CLASSES, 20, views=2, view_features=tmp_path / "views", augmentation=AUGMENTATION,
    )  # fmt: skip


def first(rows: np.ndarray) -> list[float]:
    return np.round(rows[:, 0], 3).tolist()


def test_training_reads_the_features_of_the_images_and_then_of_their_first_views(inputs: TrainingData) -> None:
    rows = inputs.feature_rows("train")
    own = [0, 1, 2, 3, 4, 5]
    views = [0.1, 0.2, 1.1, 1.2, 2.1, 2.2, 3.1, 3.2, 4.1, 4.2, 5.1, 5.2]
    assert first(rows[:]) == pytest.approx(own + views)
    assert first(rows[np.array([7, 0, 17])]) == pytest.approx([0.2, 0, 5.2])
    assert inputs.targets("train").tolist() == [0, 1] * 3 + [0, 0, 1, 1] * 3


@pytest.mark.parametrize(("split", "expected"), [("validation", [100, 101, 102, 103]), ("test", [200, 201])])
def test_no_views_choose_or_test(inputs: TrainingData, split: str, expected: list[float]) -> None:
    assert first(inputs.feature_rows(split)[:]) == expected
    assert inputs.image_rows(split)[:].shape == (len(expected), SIDE, SIDE, 3)
    assert inputs.targets(split).tolist() == [number % 2 for number in range(len(expected))]


def test_without_views_the_images_alone_are_read_and_no_folder_of_views_is_needed(inputs: TrainingData) -> None:
    plain = replace(inputs, views=0, view_features=None, augmentation=None)
    assert first(plain.feature_rows("train")[:]) == [0, 1, 2, 3, 4, 5]
    assert len(plain.image_rows("train")) == len(plain.targets("train")) == 6


def test_the_run_of_a_fold_reads_features_and_views_of_all_splits_by_its_files(inputs: TrainingData) -> None:
    part = replace(inputs, fold=1, views=1)
    chosen = part.selected("train")
    assert set(chosen["fold"]) == {0}
    assert set(chosen["split"]) == {"train", "validation"}
    own = [100 * list(COUNTS).index(split) + row for split, row in chosen[["split", "row"]].to_numpy()]
    assert first(part.feature_rows("train")[:]) == pytest.approx(own + [value + 0.1 for value in own])
    assert part.targets("train").tolist() == [CLASSES.index(label) for label in chosen["label"]] * 2


def test_images_are_followed_by_the_views_that_are_drawn_of_them(inputs: TrainingData) -> None:
    files, found = inputs.selected("train")["file"].tolist(), inputs.image_rows("train")[:]
    images = np.load(inputs.prepared / f"{SIDE}/train.npy")
    views = [AUGMENTATION.view(images[row], file, view) for row, file in enumerate(files) for view in (1, 2)]
    assert np.array_equal(found[:6], images)
    assert np.array_equal(found[6:], views)


def test_another_seed_of_the_training_leaves_the_views_as_they_are(inputs: TrainingData) -> None:
    other = replace(inputs, seed=inputs.seed + 1)
    assert np.array_equal(inputs.image_rows("train")[:], other.image_rows("train")[:])


def test_a_search_says_how_many_views_are_trained_on(inputs: TrainingData) -> None:
    tried = inputs.with_values({"views": 0, "units": [4]})
    assert (tried.views, tried.backbone.head.units) == (0, (4,))
    assert inputs.with_values({"dropout": 0.1}).views == 2


def test_batches_pair_each_row_with_its_class(inputs: TrainingData) -> None:
    numbers, targets = [], []
    for features, one_hot, _ in inputs.batched("train", inputs.feature_rows("train")).dataset():
        numbers += first(features.numpy())
        targets += one_hot.numpy().argmax(axis=1).tolist()
    assert len(numbers) == 18
    assert targets == [int(number) % 2 for number in numbers]


def test_more_views_than_there_are_is_an_error(inputs: TrainingData) -> None:
    with pytest.raises(ValueError, match=r"views has 3 views of each image, expected 4"):
        replace(inputs, views=4).feature_rows("train")


@pytest.mark.parametrize(("folder", "found", "expected"), [("features", 6, 5), ("views", 18, 15)])
def test_an_array_that_does_not_fit_the_index_is_an_error(
    inputs: TrainingData, folder: str, found: int, expected: int
) -> None:
    shorter = replace(inputs, index=inputs.index[inputs.index["file"] != "warm/4train.png"])
    if folder == "views":
        np.save(inputs.features / "train.npy", np.zeros((5, WIDTH), np.float32))
    with pytest.raises(ValueError, match=f"{folder}/train.npy has {found} rows, its index {expected}"):
        shorter.feature_rows("train")
