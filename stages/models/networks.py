"""Networks in Keras: a backbone that takes raw pictures, its blocks, and the small CNN `scratch`.

Every backbone here takes raw RGB pictures, 0 to 255, of shape (batch, size, size, 3), and returns one
vector a picture: preprocessing is the network's first layers and travels with it into every saved file.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from stages.errors import ParameterError
from stages.models.backbones import SCRATCH, Backbone

# The numbers of keras.src.applications.imagenet_utils.preprocess_input, for pictures of 0 to 255.
_MEAN_AND_DEVIATION = {
    "tf": ([127.5] * 3, [127.5] * 3),
    "caffe": ([103.939, 116.779, 123.68], [1.0] * 3),
    "torch": ([0.485 * 255, 0.456 * 255, 0.406 * 255], [0.229 * 255, 0.224 * 255, 0.225 * 255]),
}
NORMALISING = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.Normalization)


def build(backbone: Backbone, weights: str | None) -> keras.Model:
    """Build a backbone without its classes: raw pictures in, one feature vector a picture out.

    `weights` goes to the builder of `keras.applications`: "imagenet", or None for random ones. Raises
    ParameterError when the builder refuses its `arguments`.
    """
    picture = keras.Input((backbone.input_size, backbone.input_size, 3), name="picture")
    if backbone.builder == SCRATCH:
        output = _scratch(backbone, picture)
    else:
        output = _application(backbone, weights, preprocess(picture, backbone.family.inputs))
    if backbone.head.pooling == "flatten":
        output = keras.layers.Flatten(name="features")(output)
    elif backbone.builder == SCRATCH:
        output = _POOLING[backbone.head.pooling](name="features")(output)
    return keras.Model(picture, output, name="backbone")


_POOLING: dict[str, Callable[..., keras.layers.Layer]] = {
    "average": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}


def preprocess(picture: keras.KerasTensor, inputs: str) -> keras.KerasTensor:
    """Turn raw RGB into what a family of networks was trained on, by layers that any Keras can load."""
    if inputs == "raw":
        return picture
    mean, deviation = _MEAN_AND_DEVIATION[inputs]
    if inputs == "caffe":
        picture = keras.ops.flip(picture, axis=-1)
    variance = [value**2 for value in deviation]
    return keras.layers.Normalization(mean=mean, variance=variance, name="preprocess")(picture)


def _application(backbone: Backbone, weights: str | None, tensor: keras.KerasTensor) -> keras.KerasTensor:
    pooling = {"average": "avg", "max": "max", "flatten": None}[backbone.head.pooling]
    builder = getattr(keras.applications, backbone.builder)
    try:
        # By the shape MobileNetV2 chooses among files; the tensor's it does not look at.
        network = builder(
            weights=weights,
            include_top=False,
            input_tensor=tensor,
            input_shape=tuple(tensor.shape[1:]),
            pooling=pooling,
            **backbone.arguments,
        )
    except (TypeError, ValueError) as error:
        if not backbone.arguments:
            raise
        raise ParameterError(
            f"backbones.{backbone.name}.arguments = {backbone.arguments} ({error})",
            f"arguments of keras.applications.{backbone.builder}",
            "see https://keras.io/api/applications/",
        ) from error
    return network.output


def _scratch(backbone: Backbone, picture: keras.KerasTensor) -> keras.KerasTensor:
    try:
        return _small_cnn(picture, **backbone.arguments)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"backbones.{backbone.name}.arguments = {backbone.arguments} ({str(error).splitlines()[0]})",
            "filters, a list of widths, each halving the picture's side",
            "for instance {filters: [32, 64, 128]}",
        ) from error


def _small_cnn(picture: keras.KerasTensor, filters: list[int] | None = None) -> keras.KerasTensor:
    """Convolution, ReLU and max pooling, once for each number of `filters`."""
    tensor = keras.layers.Rescaling(1 / 255, name="preprocess")(picture)
    for number, width in enumerate((32, 64, 128) if filters is None else filters, 1):
        tensor = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=f"convolution_{number}")(tensor)
        tensor = keras.layers.MaxPooling2D(name=f"pooling_{number}")(tensor)
    return tensor


def cut(backbone: keras.Model, blocks: int | str, name: str) -> keras.KerasTensor | None:
    """Return the tensor below the top `blocks` blocks: what is above it is trained in phase 2.

    A block is a stretch of layers with weights that one tensor enters and one leaves: a convolution of
    VGG16, a residual block of a ResNet, a module of InceptionV3. Normalisation alone is no block.
    Returns None for 0 blocks and the network's input for "all". Raises ParameterError when there are
    fewer blocks.
    """
    if blocks == 0:
        return None
    bottoms = list(_block_bottoms(backbone))
    if blocks == "all":
        return backbone.input
    if int(blocks) > len(bottoms):
        raise ParameterError(
            f"unfreeze.blocks = {blocks} for backbone '{name}'", f"at most its {len(bottoms)} blocks", "or say 'all'"
        )
    return bottoms[int(blocks) - 1]


def _block_bottoms(backbone: keras.Model) -> Iterator[keras.KerasTensor]:
    """Yield the tensor that enters each block, from the top of the network to its input."""
    weighted = False
    for layer, narrow in reversed(list(layers_in_order(backbone))):
        if narrow and weighted:
            yield layer.output
            weighted = False
        trained = bool(getattr(layer, "trainable_variables", ())) and not isinstance(layer, NORMALISING)
        weighted = weighted or trained


def layers_in_order(backbone: keras.Model) -> Iterator[tuple[Any, bool]]:
    """Yield each operation in order of execution, and whether all that follows needs its output alone."""
    uses: dict[str, set[str]] = {}
    order = [(config["name"], _sources(config["inbound_nodes"])) for config in backbone.get_config()["layers"]]
    for name, sources in order:
        for source in sources:
            uses.setdefault(source, set()).add(name)
    waiting: dict[str, set[str]] = {}
    operations = {operation.name: operation for operation in backbone.operations}
    for name, sources in order:
        for source in sources:
            waiting[source].discard(name)
        waiting = {source: users for source, users in waiting.items() if users}
        waiting[name] = set(uses.get(name, ()))
        yield operations[name], len(waiting) == 1


def _sources(value: Any) -> set[str]:
    """Return the names of the operations whose outputs stand anywhere in an operation's `inbound_nodes`."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return {value["config"]["keras_history"][0]}
        return set[str]().union(*map(_sources, value.values()))
    if isinstance(value, list | tuple):
        return set[str]().union(*map(_sources, value))
    return set()


def unfreeze(backbone: keras.Model, bottom: keras.KerasTensor) -> keras.Model:
    """Return the part of `backbone` above `bottom`, sharing its layers, trainable but for BatchNormalization.

    A frozen BatchNormalization layer also keeps its moving statistics and normalises by them
    (https://keras.io/guides/transfer_learning/).
    """
    backbone.trainable = True
    part = backbone if bottom is backbone.input else keras.Model(bottom, backbone.output, name="unfrozen")
    for layer in _leaves(part):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return part


def _leaves(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yield the layers inside `layer`, those of nested models too."""
    for inner in getattr(layer, "layers", ()):
        yield from _leaves(inner)
        yield inner
