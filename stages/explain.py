"""Stage `explain@B`: where a fine-tuned backbone looks, and which test pictures it sees as alike.

Writes `data/explanations/B/`: `examples.csv`, the surest right and wrong predictions of the test part (file, label,
predicted, confidence, right), each with the names of two small WebP files beside it, the `picture` as the network
gets it and an `overlay` with the Grad-CAM of the predicted class (empty where the network has no feature map); and
`embedding.csv` (file, label, x, y), a map of the test pictures by the features that the head is given.

Of a backbone that was not fine-tuned both tables are empty files.

Apart from `finetune`, so that a prettier overlay or another number of examples trains nothing.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.errors import DataError, run
from stages.fates import is_fine_tuned
from stages.files import read_csv, replacing_folder, write_csv
from stages.images.prepared import Rows, array_path, read_classes, read_index
from stages.models.backbones import resolve
from stages.models.inputs import Inputs
from stages.params import load, named_backbone, read, seed, threads
from stages.results import predictions
from stages.results.examples import ExplainParams, choose

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
EXPLANATIONS = Path("data/explanations")
# Pictures in memory, each with all the activations that lead to its map.
_BATCH = 4


def read_test(inputs: Inputs, model: Path) -> pd.DataFrame:
    """Return file, label, predicted and confidence of each test picture, as the index has them.

    Raises DataError when they are not there, not of these pictures, or cannot be scored.
    """
    name = inputs.backbone.name
    try:
        table = read_csv(model / "predictions.csv", text=("split", "file", "label", "predicted"))
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the predictions of '{name}'", f"run 'dvc repro finetune@{name}'"
        ) from error
    rows = predictions.tested(table, tuple(inputs.classes))
    if rows["file"].tolist() != inputs.selected("test")["file"].tolist():
        raise DataError(f"predictions of '{name}' for other pictures", "those of data/prepared", "run 'dvc repro'")
    return rows


def write_examples(folder: Path, classifier: "keras.Model", inputs: Inputs, examples: pd.DataFrame) -> None:
    """Write `examples.csv` and its pictures; the index of `examples` is their places in the test part."""
    from stages.models.gradcam import grad_cam
    from stages.results.overlays import overlay, small, write_picture

    files = array_path(inputs.prepared, inputs.backbone.input_size, "test")
    rows = Rows(inputs.selected("test").iloc[examples.index], {"test": files})
    maps_of = grad_cam(classifier)
    if maps_of is None:
        log.warning("%s: the network has no feature map, so its examples have no overlay", inputs.backbone.name)
    named = _named(examples, overlays=maps_of is not None)
    for start in range(0, len(named), _BATCH):
        part, pictures = named[start : start + _BATCH], rows[start : start + _BATCH]
        for name, picture in zip(part["picture"], pictures, strict=True):
            write_picture(folder / name, small(picture))
        if maps_of is not None:
            maps = maps_of(pictures, np.array([inputs.classes.index(label) for label in part["predicted"]]))
            for name, picture, found in zip(part["overlay"], pictures, maps, strict=True):
                write_picture(folder / name, overlay(small(picture), found))
    write_csv(folder / "examples.csv", named)


def _named(examples: pd.DataFrame, *, overlays: bool) -> pd.DataFrame:
    """Return `examples` with the names of their pictures, which say nothing of the files' own names."""
    kind = examples["right"].map({True: "right", False: "wrong"}).astype(str)
    stem = kind + "_" + (examples.groupby("right").cumcount() + 1).astype(str)
    right = examples["right"].map({True: "true", False: "false"})
    return examples.assign(right=right, picture=stem + ".webp", overlay=stem + "_map.webp" if overlays else "")


def place(classifier: "keras.Model", inputs: Inputs, test: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return file, label and place, x and y, of at most `most` test pictures."""
    from stages.results.embedding import embed, sample

    backbone = classifier.get_layer("backbone")
    labels = np.array([inputs.classes.index(label) for label in test["label"]])
    chosen = sample(labels, backbone.output.shape[-1], most, inputs.seed)
    if len(chosen) < len(test):
        log.info("%s: %d of %d test pictures are on the map", inputs.backbone.name, len(chosen), len(test))
    features = _features(backbone, inputs)
    found = [features(chosen[start : start + _BATCH]) for start in range(0, len(chosen), _BATCH)]
    x, y = embed(np.concatenate(found), inputs.seed).T
    return test.iloc[chosen][["file", "label"]].assign(x=x, y=y)


def _features(backbone: "keras.Model", inputs: Inputs) -> "Callable[[NDArray[np.int64]], NDArray[np.float32]]":
    """Return what gives the features of the test pictures at some places: read where they are frozen, else computed."""
    blocks = inputs.backbone.unfreeze.blocks
    if not blocks:
        frozen = inputs.feature_rows("test")
        return lambda places: frozen[places]
    import keras

    from stages.models.networks import cut

    rows, bottom = inputs.rows("test"), cut(backbone, blocks, inputs.backbone.name)
    above = backbone if bottom is backbone.input else keras.Model(bottom, backbone.output)
    return lambda places: np.asarray(above(rows[places].astype(np.float32), training=False))


def main() -> None:
    """Write `data/explanations/B/` for the backbone named on the command line."""
    backbone, params = resolve(named_backbone(), read()), load(ExplainParams, "explain")
    if not is_fine_tuned(backbone.name):
        log.info("%s: not fine-tuned, so there is nothing to explain", backbone.name)
        with replacing_folder(EXPLANATIONS / backbone.name) as folder:
            for table in ("examples.csv", "embedding.csv"):
                (folder / table).touch()
        return
    weights, features, model = (
        Path(folder) / backbone.name for folder in ("data/weights", "data/features", "data/models")
    )
    inputs = Inputs(backbone, weights, features, PREPARED, read_index(PREPARED), read_classes(PREPARED), seed())
    test = read_test(inputs, model)
    from stages.models import keras_engine

    keras_engine.repeatable(seed(), threads())
    classifier = keras_engine.load(model / "model.keras")
    with replacing_folder(EXPLANATIONS / backbone.name) as folder:
        write_examples(folder, classifier, inputs, choose(test, params.examples))
        write_csv(folder / "embedding.csv", place(classifier, inputs, test, params.map_pictures))


if __name__ == "__main__":
    run(main)
