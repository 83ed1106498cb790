"""The data of one training of a backbone: its rows of the index, and their features or images.

Importing this module does not import Keras, so that an undeclared backbone is reported at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.dataset.augmentation import Augmentation
from stages.core.dataset.augmented import AugmentedRows
from stages.core.dataset.prepared import (
    Joined,
    Lazy,
    Rows,
    array_path,
    count_rows,
    read_classes,
    read_index,
    selected,
)
from stages.core.dataset.subsample import subsample
from stages.core.files import read_json
from stages.core.settings.backbones import Backbone
from stages.core.settings.recipes import FinetuneRecipe, UnfreezeRecipe
from stages.core.settings.tune import changed

if TYPE_CHECKING:
    from stages.training.batches import BatchedDataset

# Stands for the training and validation splits together.
BOTH = "train and validation"


@dataclass(frozen=True)
class TrainingData:
    """The data of a training: backbone and folders, prepared images, index and classes, seed, number of CPU threads.

    `fold` is None for the main run, or the fold that the run tests. `views` is the number of augmented views of each
    training image, besides the image itself: the first of those whose features are in the folder `view_features`, or
    drawn from the images by `augmentation`. `share` is the fraction of the training images that is used.
    `weights` is the folder of the network (`data/weights/B`), which is read only where blocks of it are trained.
    """

    backbone: Backbone
    features: Path
    prepared: Path
    index: pd.DataFrame
    classes: list[str]
    seed: int
    threads: int = 1
    fold: int | None = None
    views: int = 0
    view_features: Path | None = None
    augmentation: Augmentation | None = None
    share: float = 1.0
    weights: Path | None = None

    @classmethod
    def read(
        cls, recipe: FinetuneRecipe | UnfreezeRecipe, prepared: Path, features: Path, **further: Any
    ) -> "TrainingData":
        """Return the data of a backbone in the folders that the stages before have written."""
        index, classes = read_index(prepared), read_classes(prepared)
        own = features / recipe.name
        return cls(recipe, own, prepared, index, classes, recipe.seed, threads=recipe.threads, **further)

    @classmethod
    def with_view_features(cls, recipe: FinetuneRecipe, prepared: Path, features: Path, views: Path) -> "TrainingData":
        """Return the data of a backbone whose augmented views are known by their features."""
        own = views / recipe.name
        return cls.read(recipe, prepared, features, views=_count_views(own), view_features=own)

    def with_values(self, values: Mapping[str, Any]) -> "TrainingData":
        """Return the data with other values of hyperparameters, named as in section `tune.space`."""
        return replace(self, backbone=changed(self.backbone, values), views=values.get("views", self.views))

    @property
    def network(self) -> dict[str, Any]:
        """Return the properties of the frozen network, as stage weights wrote them (`backbone.json`)."""
        found: dict[str, Any] = self.computed["network"]
        return found

    @cached_property
    def computed(self) -> dict[str, Any]:
        """Return what `features.json` says: engine, precision, threads, network."""
        return read_json(self.features / "features.json")

    def selected(self, split: str) -> pd.DataFrame:
        """Return the rows of the index that belong to `split`, or to `BOTH`, in this run.

        With a `share`, the rows are repeated equally often, so that an epoch has as many steps as with all images:
        otherwise shorter training would be mistaken for the effect of fewer images.
        """
        if split == BOTH:
            return pd.concat([self.selected("train"), self.selected("validation")])
        rows = selected(self.index, split, self.fold)
        if split != "train" or self.share == 1:
            return rows
        part = rows[subsample(rows, self.share, self.seed)]
        return part.iloc[np.arange(len(rows)) * len(part) // len(rows)]

    def feature_rows(self, split: str) -> Lazy:
        """Return the features of the images of `selected`, in training followed by those of their views.

        Views are in the order of `AugmentedRows`: those of the first image, those of the second, and so on.
        """
        images = self._arrays(self.selected(split), lambda name: self.features / f"{name}.npy")
        return Joined(images, self._features_of_views(split)) if self._augmented(split) else images

    def image_rows(self, split: str) -> Lazy:
        """Return the images of `selected`, uint8, in training followed by their views, as in `feature_rows`."""
        chosen = self.selected(split)
        images = self._arrays(chosen, lambda name: array_path(self.prepared, self.backbone.input_size, name))
        if not self._augmented(split):
            return images
        assert self.augmentation is not None
        return Joined(images, AugmentedRows(images, chosen["file"].tolist(), self.views, self.augmentation))

    def targets(self, split: str) -> NDArray[np.int64]:
        """Return the position of the class of each row of `feature_rows` and `image_rows`."""
        numbers = {label: number for number, label in enumerate(self.classes)}
        images = np.array([numbers[label] for label in self.selected(split)["label"]], dtype=np.int64)
        return np.concatenate([images, images.repeat(self.views)]) if self._augmented(split) else images

    def batched(self, split: str, rows: Lazy) -> "BatchedDataset":
        """Return batches of `rows` of a split with their classes; training rows are shuffled, weighted and smoothed."""
        from stages.core.dataset.features import class_weights
        from stages.training.batches import BatchedDataset

        recipe, count, targets = self.backbone, len(self.classes), self.targets(split)
        training: dict[str, Any] = {}
        if split in ("train", BOTH):
            training = {
                "seed": self.seed,
                "class_weights": class_weights(targets, count, recipe.class_weight),
                "smoothing": recipe.label_smoothing,
            }
        return BatchedDataset(rows, targets, count, recipe.batch_size, **training)

    def _augmented(self, split: str) -> bool:
        return split in ("train", BOTH) and self.views > 0

    def _features_of_views(self, split: str) -> Rows:
        """Return the features of the first views of each image of `split`.

        Raises ValueError when there are fewer than `views`.
        """
        assert self.view_features is not None
        folder, each = self.view_features, int(read_json(self.view_features / "views.json")["views"])
        if each < self.views:
            raise ValueError(f"{folder} has {each} views of each image, expected {self.views}")
        chosen = self.selected(split)
        repeated = chosen.iloc[np.arange(len(chosen)).repeat(self.views)]
        rows = repeated["row"] * each + np.tile(np.arange(self.views), len(chosen))
        return self._arrays(repeated.assign(row=rows), lambda name: folder / f"{name}.npy", each)

    def _arrays(self, chosen: pd.DataFrame, file: Callable[[str], Path], each: int = 1) -> Rows:
        """Return the rows `chosen` of the arrays that `file` names for each split, which have `each` rows per image.

        Raises ValueError when the number of rows does not match the index.
        """
        counts = self.index["split"].value_counts() * each
        files = {name: file(name) for name in chosen["split"].unique()}
        for name, path in files.items():
            if count_rows(path) != counts[name]:
                raise ValueError(f"{path} has {count_rows(path)} rows, its index {counts[name]}")
        return Rows(chosen, files)


def _count_views(folder: Path) -> int:
    """Return how many augmented views of each image stage views has computed; none where it did not run."""
    path = folder / "views.json"
    return int(read_json(path)["views"]) if path.exists() else 0
