"""The course's way, as its reader would write it: one network, every image through it in every epoch.

    python benchmarks/plain_keras.py vgg16 --images FOLDER [--epochs 1] [--unfreeze 0] [--weights FILE]

FOLDER has the folders train, validation and test of class folders. Prints one line of JSON: seconds for
set-up (imports, building, tracing) and for each epoch, and the accuracy on the test images. `--weights`
names a `backbone.keras` of the pipeline, so that both start from the same weights.
"""

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

BEGIN = time.perf_counter()
BATCH = 32


def generators(options: argparse.Namespace, preprocess: Any) -> list[Any]:
    """Return the generators of training, validation and test images, the first with augmentation."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    plain = ImageDataGenerator(preprocessing_function=preprocess)
    augmented = ImageDataGenerator(
        preprocessing_function=preprocess,
        rotation_range=12,
        width_shift_range=0.08,
        height_shift_range=0.08,
        zoom_range=0.15,
        horizontal_flip=True,
    )
    size = (options.side, options.side)
    return [
        (augmented if split == "train" else plain).flow_from_directory(
            options.images / split, size, batch_size=BATCH, shuffle=split == "train", seed=1
        )
        for split in ("train", "validation", "test")
    ]


def classifier(options: argparse.Namespace, backbone: Any, classes: int) -> Any:
    """Return the network with the course's head: the backbone frozen, or frozen below the top blocks."""
    import keras

    from stages.networks.architectures import cut, unfreeze

    shape = (options.side, options.side, 3)
    network = getattr(keras.applications, backbone.builder)(weights=None, include_top=False, input_shape=shape)
    if options.weights:
        network.set_weights(keras.models.load_model(options.weights, compile=False).get_weights())
    # The layers that the pipeline trains in phase 2, none without unfrozen blocks.
    bottom = cut(network, options.unfreeze, options.backbone)
    above = [] if bottom is None else [layer for layer in unfreeze(network, bottom).layers if layer.trainable]
    for layer in network.layers:
        layer.trainable = layer in above
    pooling = keras.layers.Flatten() if backbone.head.pooling == "flatten" else keras.layers.GlobalAveragePooling2D()
    layers = [keras.layers.Dense(512, activation="relu"), keras.layers.Dropout(0.5)]
    model = keras.Sequential([network, pooling, *layers, keras.layers.Dense(classes, activation="softmax")])
    optimizer = keras.optimizers.RMSprop if backbone.optimizer.name == "rmsprop" else keras.optimizers.Adam
    model.compile(optimizer=optimizer(5e-4), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--unfreeze", type=int, default=0, help="blocks to train, from the top")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()

    import keras

    from stages.core.params import read
    from stages.core.settings.backbones import resolve

    keras.utils.set_random_seed(1)
    backbone = resolve(options.backbone, read())
    module = importlib.import_module(f"keras.applications.{backbone.family.module}")
    train, validation, test = generators(options, module.preprocess_input)
    model = classifier(options, backbone, train.num_classes)
    # One step of each kind, so that tracing counts as set-up and an epoch can be multiplied.
    model.fit(train, validation_data=validation, steps_per_epoch=1, validation_steps=1, verbose=0)
    setup, epochs = time.perf_counter() - BEGIN, []
    for _ in range(options.epochs):
        begin = time.perf_counter()
        model.fit(train, validation_data=validation, verbose=0)
        epochs.append(time.perf_counter() - begin)
    accuracy = model.evaluate(test, verbose=0)[1]
    print(json.dumps({"setup": setup, "epochs": epochs, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
