"""Stage `explain@B`: heatmaps of a classifier, and a map of similar test images.

Writes `data/explanations/B/`:

    examples.csv     the most confident right and wrong predictions of the test split: file, label, predicted,
                     confidence, right, and the names of two small WebP files: `image` as the network gets it,
                     `overlay` with the heatmap of the predicted class (empty if the network has no feature map)
    embedding.csv    file, label, x, y: a map of the test images by the input features of the head
    precision.json   how far predictions from features in a reduced precision differ from those in float32, which
                     another machine may use: `precision`, that of the features; `images`, the number of test images
                     predicted again in float32; `differing`, how many of these get another class than in
                     `predictions.csv`; `right`, how many more of them are right as evaluated than in float32. If
                     everything is in float32, or nothing is frozen, no image is predicted again.

Separate from `finetune`, so that changes of the explanations retrain nothing.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core import head, predictions
from stages.core.dataset.prepared import Rows, array_path, read_classes, read_index, selected
from stages.core.errors import DataError, run
from stages.core.files import read_json, replacing_folder, write_csv, write_json
from stages.core.params import named_backbone
from stages.core.settings.recipes import ExplainRecipe, read_recipe
from stages.explanation.examples import choose
from stages.explanation.saliency import heatmaps
from stages.networks import engine, extraction
from stages.networks.engine import IMAGE, Choice

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
EXPLANATIONS = Path("data/explanations")
# Images in memory, each with all activations for its heatmap.
_BATCH = 4
# The most images that are predicted again in float32, and how many at once.
_AGAIN, _AT_ONCE = 200, 32


@dataclass(frozen=True)
class Network:
    """A classifier: the forward pass of raw images to "features" and "map", and the head on it.

    `tail` describes the operations from the map to the features, None without a map; `start` is the tensor below the
    trained blocks, None if there are none.
    """

    forward: extraction.Forward
    tail: Sequence[Mapping[str, Any]] | None
    head: head.Head
    start: str | None


@dataclass(frozen=True)
class Tested:
    """The test images of a backbone: their rows in the index, their array file, and their predictions.

    `predicted` has columns file, label, predicted and confidence, rows as `index`.
    """

    index: pd.DataFrame
    images: Path
    predicted: pd.DataFrame
    classes: list[str]

    def codes(self, labels: pd.Series) -> NDArray[np.int64]:
        """Return the positions of `labels` among the classes."""
        return np.array([self.classes.index(label) for label in labels], dtype=np.int64)


def read_network(weights: Path, model: Path, threads: int) -> Network:
    """Return the classifier in `model`, `data/models/B`, in float32 on the CPU.

    Its frozen layers are from `weights`, `data/weights/B`.
    """
    choice, kept = Choice("openvino", "float32", threads), head.load(model / "head.npz")
    if top := read_json(model / "provenance.json")["top"]:
        return _trained(weights, model, top["input"], choice, kept)
    known = read_json(weights / "backbone.json")["map"]
    outputs = ("features",) if known is None else ("features", "map")
    return Network(extraction.forward(weights, choice, outputs), known and known["tail"], kept, start=None)


def _trained(weights: Path, model: Path, start: str, choice: Choice, kept: head.Head) -> Network:
    """Return a classifier whose blocks above the tensor `start` were trained."""
    from stages.networks import explainable, keras_engine

    above, tail = explainable.of(keras_engine.load(model / engine.TOP), choice)
    below = None if start == IMAGE else extraction.forward(weights, choice, (start,))

    def forward(images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        return above(below(images)[start] if below else images)

    return Network(forward, tail, kept, start)


def read_tested(name: str, prepared: Path, size: int, model: Path) -> Tested:
    """Return the test images of backbone `name`, `size` pixels a side, with their predictions.

    Raises DataError when the predictions are missing, belong to other images, or cannot be scored.
    """
    index, classes = selected(read_index(prepared), "test"), read_classes(prepared)
    try:
        table = predictions.read_predictions(model / "predictions.csv")
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the predictions of '{name}'", f"run 'dvc repro finetune@{name}'"
        ) from error
    predicted = predictions.tested(table, tuple(classes))
    if predicted["file"].tolist() != index["file"].tolist():
        raise DataError(f"predictions of '{name}' for other images", "those of data/prepared", "run 'dvc repro'")
    return Tested(index, array_path(prepared, size, "test"), predicted, classes)


def write_examples(folder: Path, network: Network, tested: Tested, examples: pd.DataFrame) -> None:
    """Write `examples.csv` and its images; the index of `examples` is their position in the test split."""
    from stages.explanation.overlays import overlay, small, write_image

    rows = Rows(tested.index.iloc[examples.index], {"test": tested.images})
    named = _named(examples, overlays=network.tail is not None)
    for start in tqdm(range(0, len(named), _BATCH), desc="examples", unit="batch", disable=None):
        part, images = named[start : start + _BATCH], rows[start : start + _BATCH]
        for name, image in zip(part["image"], images, strict=True):
            write_image(folder / name, small(image))
        if network.tail is not None:
            maps = heatmaps(network.forward(images)["map"], network.tail, network.head, tested.codes(part["predicted"]))
            for name, image, found in zip(part["overlay"], images, maps, strict=True):
                write_image(folder / name, overlay(small(image), found))
    write_csv(folder / "examples.csv", named)


def _named(examples: pd.DataFrame, *, overlays: bool) -> pd.DataFrame:
    """Return `examples` with the names of their images, which are independent of the original file names."""
    kind = examples["right"].map({True: "right", False: "wrong"}).astype(str)
    stem = kind + "_" + (examples.groupby("right").cumcount() + 1).astype(str)
    right = examples["right"].map({True: "true", False: "false"})
    return examples.assign(right=right, image=stem + ".webp", overlay=stem + "_map.webp" if overlays else "")


def features_of(network: Network, tested: Tested, frozen: Path, rows: pd.DataFrame) -> NDArray[np.float32]:
    """Return the input features of the head for some rows of the index, (rows, width).

    They are those of stage `features`, in the folder `frozen`, unless blocks were trained.
    """
    if network.start is None:
        return np.asarray(Rows(rows, {"test": frozen / "test.npy"})[:])
    images = Rows(rows, {"test": tested.images})
    return np.concatenate([network.forward(batch)["features"] for batch in _shown(images, _BATCH, "map of images")])


def _shown(images: Rows, size: int, what: str) -> Iterator[NDArray[Any]]:
    """Yield the images, `size` at a time, with a progress bar."""
    with tqdm(total=len(images), desc=what, unit="image", disable=None) as bar:
        for batch in images.batches(size):
            yield batch
            bar.update(len(batch))


def place(name: str, network: Network, tested: Tested, frozen: Path, recipe: ExplainRecipe) -> pd.DataFrame:
    """Return file, label and position, x and y, of at most `explain.map_images` test images."""
    from stages.explanation.embedding import embed, sample

    chosen = sample(tested.codes(tested.predicted["label"]), network.head.width, recipe.map_images, recipe.seed)
    if len(chosen) < len(tested.index):
        log.info("%s: %d of %d test images are on the map", name, len(chosen), len(tested.index))
    x, y = embed(features_of(network, tested, frozen, tested.index.iloc[chosen]), recipe.seed).T
    return tested.predicted.iloc[chosen][["file", "label"]].assign(x=x, y=y)


def compare_precision(network: Network, tested: Tested, precision: str) -> dict[str, Any]:
    """Return `precision.json` of a classifier whose frozen features were computed in `precision`."""
    if precision == "float32" or network.start == IMAGE:
        return {"precision": "float32", "images": 0, "differing": 0, "right": 0}
    chosen = evenly_spaced(len(tested.index), _AGAIN)
    actual, evaluated = (tested.codes(tested.predicted[column].iloc[chosen]) for column in ("label", "predicted"))
    again = _predict(network, Rows(tested.index.iloc[chosen], {"test": tested.images}))
    differing, right = again != evaluated, (evaluated == actual).sum() - (again == actual).sum()
    return {"precision": precision, "images": len(chosen), "differing": int(differing.sum()), "right": int(right)}


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of `count` positions, evenly spaced."""
    wanted = min(count, most)
    return np.arange(wanted, dtype=np.int64) * count // wanted


def _predict(network: Network, images: Rows) -> NDArray[np.int64]:
    """Return the positions of the predicted classes of raw images."""
    batches = (network.forward(batch)["features"] for batch in _shown(images, _AT_ONCE, "again in float32"))
    return np.concatenate([network.head.probabilities(features).argmax(axis=1) for features in batches])


def main() -> None:
    """Write `data/explanations/B/` for the backbone named on the command line."""
    name = named_backbone()
    recipe = read_recipe(ExplainRecipe, name)
    weights, features, model = (Path(folder) / name for folder in ("data/weights", "data/features", "data/models"))
    tested = read_tested(name, PREPARED, read_json(weights / "backbone.json")["input_size"], model)
    network = read_network(weights, model, recipe.threads)
    examples = choose(tested.predicted, recipe.examples)
    log.info(
        "%s: %d examples, and a map of at most %d of %d test images",
        name,
        len(examples),
        recipe.map_images,
        len(tested.index),
    )
    if network.tail is None:
        log.warning("%s: the network has no feature map, so its examples have no heatmaps", name)
    with replacing_folder(EXPLANATIONS / name) as folder:
        write_examples(folder, network, tested, examples)
        write_csv(folder / "embedding.csv", place(name, network, tested, features, recipe))
        precision = read_json(features / "features.json")["precision"]
        write_json(folder / "precision.json", compare_precision(network, tested, precision))


if __name__ == "__main__":
    run(main)
