"""What one training of a backbone reads: its rows of the index, and their features, activations or pictures.

Importing this imports no Keras: a backbone that is not declared is said at once.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.files import read_json
from stages.images.prepared import Mapped, Rows, array_path, count_rows, selected
from stages.models.backbones import Backbone
from stages.models.engine import Choice
from stages.models.space import changed

if TYPE_CHECKING:
    from stages.models.training import Views


@dataclass(frozen=True)
class Inputs:
    """What training reads: the backbone and its folders, the prepared pictures, their index and classes, the seed.

    `fold` names the run: the main one, or the one that tests this fold. `share` is how much of the training
    pictures it sees, `most_views` how many augmented views of each, None for all.
    """

    backbone: Backbone
    weights: Path
    features: Path
    prepared: Path
    index: pd.DataFrame
    classes: list[str]
    seed: int
    fold: int | None = None
    share: float = 1.0
    most_views: int | None = None

    def with_values(self, values: Mapping[str, Any]) -> "Inputs":
        """Return the inputs of a training with these values of hyperparameters, as in section `tune.space`."""
        return replace(self, backbone=changed(self.backbone, values), most_views=values.get("views", self.most_views))

    @cached_property
    def computed(self) -> dict[str, Any]:
        """Return what `features.json` says: engine, precision, threads, and what became of the cut's activations."""
        return read_json(self.features / "features.json")

    def selected(self, split: str) -> pd.DataFrame:
        """Return the rows of the index that train, choose or test in this run, as `split` says."""
        rows = selected(self.index, split, self.fold)
        if self.most_views is not None:
            rows = rows[rows["view"] <= self.most_views]
        return drawn(rows, self.share, self.seed) if split == "train" and self.share < 1 else rows

    def rows(self, split: str) -> Rows | Mapped:
        """Return what phase 2 reads for `selected`: activations at the cut, or the pictures."""
        if self.backbone.unfreeze.blocks != "all" and self.computed["cut"] == "kept":
            kept = self._arrays(split, lambda name: self.features / f"cut_{name}.npy")
            return Mapped(kept, lambda batch: batch.astype(np.float32) / self.computed["cut_scale"])
        pictures = self._arrays(split, lambda name: array_path(self.prepared, self.backbone.input_size, name))
        return pictures if self.backbone.unfreeze.blocks == "all" else Mapped(pictures, self._below_the_cut)

    def feature_rows(self, split: str) -> Rows:
        """Return the frozen features for `selected`."""
        return self._arrays(split, lambda name: self.features / f"{name}.npy")

    @cached_property
    def _below_the_cut(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """Compute activations at the cut from pictures as stage `features` would have, were there room for them."""
        from stages.models.extraction import forward

        choice = Choice(*(self.computed[key] for key in ("engine", "precision", "threads")))
        network = forward(self.weights, choice, "cut")
        return lambda pictures: network(pictures)["cut"]

    def _arrays(self, split: str, file: Callable[[str], Path]) -> Rows:
        """Return the rows of `selected` in the arrays that `file` names for each of the prepared splits.

        Raises ValueError when one has other rows than the index.
        """
        chosen, counts = self.selected(split), self.index["split"].value_counts()
        files = {name: file(name) for name in chosen["split"].unique()}
        for name, path in files.items():
            if count_rows(path) != counts[name]:
                raise ValueError(f"{path} has {count_rows(path)} rows, its index {counts[name]}")
        return Rows(chosen, files)

    def views(self, split: str, rows: Rows | Mapped) -> "Views":
        """Return `rows` of a split with their classes in batches; those of `train` are shuffled, weighted, smoothed."""
        from stages.models.training import Views, class_weights

        recipe, count = self.backbone, len(self.classes)
        targets = np.array([self.classes.index(label) for label in self.selected(split)["label"]], dtype=np.int64)
        training: dict[str, Any] = {}
        if split == "train":
            training = {
                "seed": self.seed,
                "class_weights": class_weights(targets, count, recipe.class_weight),
                "smoothing": recipe.label_smoothing,
            }
        return Views(rows, targets, count, recipe.batch_size, **training)


def drawn(rows: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Return as many rows of the index as there are, all of a `share` of each class's pictures, one at the least.

    A picture's place in its class follows from the seed and its name, which is made of its content: every backbone
    gets the same, and a smaller share is a part of a larger. Its rows return over and over, equally often, so that an
    epoch has as many steps as with all pictures: else less training would pass for the effect of fewer pictures.
    """
    pictures = rows[["file", "label"]].astype(str).drop_duplicates()
    places = pictures["file"].map(lambda file: hashlib.sha256(f"{seed} {file}".encode()).hexdigest())
    classes = places.groupby(pictures["label"])
    kept = classes.rank() <= (share * classes.transform("size")).round().clip(lower=1)
    chosen = rows[rows["file"].isin(pictures["file"][kept])]
    return chosen.iloc[np.arange(len(rows)) * len(chosen) // len(rows)]
