"""A small exported classifier that knows red images from blue ones, and images for it."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from stages.core.files import write_json
from stages.core.head import Head
from stages.core.manifest import PATHS, Form, Manifest, checksums, write_manifest
from stages.exports import exporting, prediction, reference
from stages.networks import architectures, keras_heads

CLASSES, SIDE = ("blue sky", "red, 1"), 32
HEAD = {"pooling": "average", "units": (8,), "activation": "relu", "dropout": 0.0, "l2": 0.0, "choose": "best"}


def arrays(count: int, seed: int, side: int = SIDE) -> np.ndarray:
    """Return noise, blue and red in turn, (count, side, side, 3), by some more than by others."""
    draw = np.random.default_rng(seed)
    found = draw.integers(0, 120, (count, side, side, 3))
    strength = draw.integers(10, 120, count)
    for number, image in enumerate(found):
        image[:, :, 0 if number % 2 else 2] += strength[number]
    return found.astype(np.uint8)


def save(folder: Path, images: np.ndarray) -> list[Path]:
    """Write each image, without loss, and return their paths in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def train(backbone: keras.Model, training: np.ndarray) -> Head:
    """Train a network together with a head, which is returned as one that normalises what it is given."""
    built = keras_heads.build(keras_heads.Head.model_validate(HEAD), 16, 2)
    model = keras.Model(backbone.input, built(backbone.output))
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    model.fit(training.astype(np.float32), np.arange(200) % 2, batch_size=20, epochs=4, verbose=0)
    mean, deviation = np.full(16, 0.5, np.float32), np.full(16, 2, np.float32)
    first, *others = keras_heads.arrays_of(built).layers
    # Of (x - mean) / deviation these make what the trained ones made of x.
    same = replace(first, kernel=first.kernel * deviation[:, None], bias=first.bias + mean @ first.kernel)
    return Head((same, *others), (mean, deviation))


def write(folder: Path) -> keras.Model:
    """Write the forms of Keras and OpenVINO, a reference and the manifest into `folder`; return the network."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    features = keras.layers.GlobalAveragePooling2D()(architectures._small_cnn(image, [8, 16]))
    backbone = keras.Model(image, features, name="backbone")
    training, validation = arrays(200, seed=1), arrays(200, seed=2)
    head = train(backbone, training)
    model = exporting.joined(backbone, None, head)
    classifier = exporting.Classifier(model, CLASSES, lambda: iter(training))
    for form in ("keras", "openvino"):
        exporting.write(classifier, form, folder)
    said = prediction.outputs(folder / PATHS["openvino"], 1, [((), training), ((), validation)])
    (_, trained), (_, held_out) = said
    labels = [number % 2 for number in range(200)]
    vectors = [reference.hashed(found.embedding) for found in (trained, held_out)]
    known = reference.fit(vectors[0], labels, vectors[1], labels, held_out.probabilities)
    write_json(folder / "reference.json", known.model_dump())
    write_manifest(
        folder,
        Manifest(
            backbone="scratch", classes=CLASSES, input_size=SIDE, fit="pad", temperature=1.0,
            weights={"source": "none"}, output="probabilities", reference=checksums(folder, "reference.json"),
            formats={form: Form(path=PATHS[form], files=checksums(folder, PATHS[form]))
                     for form in ("keras", "openvino")},
        ),
    )  # fmt: skip
    return model
