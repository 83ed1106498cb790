"""A backbone of three blocks, each a convolution with BatchNormalization, and images that it can tell apart."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

from stages import weights
from stages.core.builders.families import SCRATCH
from stages.core.dataset.prepared import SPLITS
from stages.core.files import write_csv
from stages.core.settings.backbones import Network
from stages.networks import architectures
from stages.networks.origin import Origin

SIDE, CLASSES, BLOCKS, WIDTH = 32, ("cold", "warm"), 3, 12
COUNTS = {"train": 24, "validation": 12, "test": 8}
FOLDS = 3


def build() -> keras.Model:
    """Return the network, raw images in, features out; its BatchNormalization has seen other images."""
    keras.utils.set_random_seed(5)
    draw = np.random.default_rng(5)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    tensor = keras.layers.Rescaling(1 / 255)(image)
    for block in range(1, BLOCKS + 1):
        convolution = keras.layers.Conv2D(4 * block, 3, strides=2, use_bias=False, name=f"convolution_{block}")
        normalization = keras.layers.BatchNormalization(name=f"normalization_{block}")
        tensor = keras.layers.ReLU()(normalization(convolution(tensor)))
        normalization.set_weights(list(draw.uniform(0.5, 1, (4, 4 * block)) * [[1], [0.5], [0.5], [0.1]]))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="features")(tensor), name="backbone")


def write_weights(folder: Path) -> keras.Model:
    """Write into `folder`, named after the backbone, what stage weights writes; return the network."""
    declared = Network(
        name=folder.name, builder="MobileNetV3Small", input_size=SIDE, pooling="average", weights="random",
        checksum=None, inputs="raw", arguments={},
    )  # fmt: skip
    network = build()
    weights.write(folder, network, declared, Origin("random", "as set in params.yaml"))
    return network


def write_small_cnn(folder: Path, origin: str) -> keras.Model:
    """Write into `folder` what stage weights writes of two convolutions of this origin; return the network."""
    declared = Network(
        name=folder.name,
        builder=SCRATCH,
        input_size=SIDE,
        pooling="average",
        weights="random",
        checksum=None,
        inputs="raw",
        arguments={"filters": [4, 8]},
    )
    network = architectures.build(declared, None)
    weights.write(folder, network, declared, Origin(origin))
    return network


def prepare(root: Path, folds: int = 0) -> pd.DataFrame:
    """Write into `root` what stage preprocess writes: images that are rather blue or red; return their index."""
    draw, rows = np.random.default_rng(0), []
    (root / str(SIDE)).mkdir(parents=True)
    for split in SPLITS:
        numbers = np.arange(COUNTS[split]) % 2
        images = draw.integers(0, 200, (len(numbers), SIDE, SIDE, 3))
        images[numbers == 0, :, :, 2] += 50
        images[numbers == 1, :, :, 0] += 50
        np.save(root / str(SIDE) / f"{split}.npy", images.astype(np.uint8))
        rows += [
            (split, row, f"{CLASSES[number]}/{split}{row:02}.png", CLASSES[number], row // 2 % folds if folds else -1)
            for row, number in enumerate(numbers)
        ]
    index = pd.DataFrame(rows, columns=["split", "row", "file", "label", "fold"])
    index["group"] = index["file"]
    write_csv(root / "index.csv", index)
    return index
