"""Views are drawn from the images when they are asked for, each by its image's name and its own number."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from stages.core.dataset.augmentation import Augmentation
from stages.core.dataset.augmented import AugmentedRows
from stages.core.dataset.prepared import Rows
from stages.core.settings.preprocess import AugmentationParams

PARAMS = AugmentationParams(
    rotation=15, flip_horizontal=True, flip_vertical=False, zoom=0.1, translation=0.1, contrast=0.2, fill="reflect"
)
AUGMENTATION = Augmentation(PARAMS, 20)
FILES = ["tree/0a.png", "plank/1b.png", "tree/2c.png", "plank/3d.png"]
ARRAY = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Rows:
    """The images of a file, from the last to the first."""
    np.save(tmp_path / "train.npy", ARRAY[::-1])
    return Rows(pd.DataFrame({"split": "train", "row": [3, 2, 1, 0]}), {"train": tmp_path / "train.npy"})


def view(image: int, number: int) -> NDArray[Any]:
    return AUGMENTATION.view(ARRAY[image], FILES[image], number)


def test_the_views_of_an_image_stand_behind_each_other(images: Rows) -> None:
    rows = AugmentedRows(images, FILES, 3, AUGMENTATION)
    assert len(rows) == 12
    assert np.array_equal(rows[:], [view(image, number) for image in range(4) for number in (1, 2, 3)])


def test_rows_come_in_the_order_asked_for(images: Rows) -> None:
    rows = AugmentedRows(images, FILES, 3, AUGMENTATION)
    assert np.array_equal(rows[np.array([11, 0, 7])], [view(3, 3), view(0, 1), view(2, 2)])
    assert rows[:0].shape == (0, 32, 32, 3)
    assert np.array_equal(np.concatenate(list(rows.batches(5))), rows[:])


def test_a_view_does_not_depend_on_the_other_images_nor_on_how_many_views_there_are(images: Rows) -> None:
    one, three = AugmentedRows(images, FILES, 1, AUGMENTATION), AugmentedRows(images, FILES, 3, AUGMENTATION)
    assert np.array_equal(one[:], three[np.array([0, 3, 6, 9])])


def test_views_differ_from_the_image_and_from_each_other(images: Rows) -> None:
    shown = [images[:], *(AugmentedRows(images, FILES, 2, AUGMENTATION)[np.arange(4) * 2 + n] for n in (0, 1))]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (np.abs(shown[first].astype(int) - shown[second]).mean(axis=(1, 2, 3)) > 1).all()


def test_another_seed_and_another_name_give_other_views(images: Rows) -> None:
    found = AugmentedRows(images, FILES, 1, AUGMENTATION)[:]
    reseeded = AugmentedRows(images, FILES, 1, Augmentation(PARAMS, 21))[:]
    renamed = AugmentedRows(images, [f"new/{file}" for file in FILES], 1, AUGMENTATION)[:]
    assert (found != reseeded).any(axis=(1, 2, 3)).all()
    assert (found != renamed).any(axis=(1, 2, 3)).all()
