"""Networks in Keras: backbones that take raw images, their blocks and feature maps, and the small CNN `scratch`.

Every backbone takes raw RGB images, 0 to 255, of shape (batch, size, size, 3), and returns one vector per
image: preprocessing is done by the network's first layers and is part of every saved file.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from stages.core.builders.families import SCRATCH
from stages.core.builders.inputs import Inputs, mean_and_deviation
from stages.core.errors import ParameterError, first_line
from stages.core.settings.backbones import Network
from stages.networks.engine import IMAGE

_NORMALISING = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.Normalization)
_LOCAL_POOLING = (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
# The attribute of a flat network with the network of KerasHub it was made of, and what it begins with (unrolled.py).
NESTED = "nested"
# Dimensions of activations (images, height, width, channels), and of vectors (images, width).
_RANK, _VECTORS = 4, 2


def build(backbone: Network, weights: str | None) -> keras.Model:
    """Build a backbone without its classifier: raw images in, one feature vector per image out.

    `weights` is passed to the builder of `keras.applications`: "imagenet", or None for random ones. Raises
    ParameterError when the builder rejects its `arguments`.
    """
    image = keras.Input((backbone.input_size, backbone.input_size, 3), name=IMAGE)
    if backbone.builder == SCRATCH:
        output = _scratch(backbone, image)
    else:
        output = _application(backbone, weights, preprocess(image, backbone.inputs))
    if backbone.pooling == "flatten":
        output = keras.layers.Flatten(name="features")(output)
    elif backbone.builder == SCRATCH:
        output = POOLING[backbone.pooling](name="features")(output)
    return keras.Model(image, output, name="backbone")


POOLING: dict[str, Callable[..., keras.layers.Layer]] = {
    "average": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}


def preprocess(image: keras.KerasTensor, inputs: Inputs) -> keras.KerasTensor:
    """Turn raw RGB into the format that a network was trained on, by built-in layers of Keras."""
    if inputs == "raw":
        return image
    if inputs == "caffe":
        image = keras.ops.flip(image, axis=-1)
    mean, deviation = mean_and_deviation(inputs)
    variance = [value**2 for value in deviation]
    return keras.layers.Normalization(mean=mean, variance=variance, name="preprocess")(image)


def _application(backbone: Network, weights: str | None, tensor: keras.KerasTensor) -> keras.KerasTensor:
    pooling = {"average": "avg", "max": "max", "flatten": None}[backbone.pooling]
    builder = getattr(keras.applications, backbone.builder)
    try:
        # MobileNetV2 chooses its weight file by input_shape, and ignores the shape of the tensor.
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
            f"backbones.{backbone.name}.arguments = {backbone.arguments} ({first_line(error)})",
            f"arguments of keras.applications.{backbone.builder}",
            "see https://keras.io/api/applications/",
        ) from error
    return network.output


def _scratch(backbone: Network, image: keras.KerasTensor) -> keras.KerasTensor:
    try:
        return _small_cnn(image, **backbone.arguments)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"backbones.{backbone.name}.arguments = {backbone.arguments} ({first_line(error)})",
            "filters, a list of widths, each halving the image's side",
            "for instance {filters: [32, 64, 128]}",
        ) from error


def _small_cnn(image: keras.KerasTensor, filters: list[int] | None = None) -> keras.KerasTensor:
    """Convolution, ReLU and max pooling, once for each number of `filters`."""
    tensor = keras.layers.Rescaling(1 / 255, name="preprocess")(image)
    for number, width in enumerate((32, 64, 128) if filters is None else filters, 1):
        tensor = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=f"convolution_{number}")(tensor)
        tensor = keras.layers.MaxPooling2D(name=f"pooling_{number}")(tensor)
    return tensor


def outputs(backbone: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return the tensors of `backbone` that stages use, by name.

    They are the "features"; the "map", `feature_map`, if `tail` knows how features follow from it; "block_1",
    "block_2", ...: the inputs of the top block, the top two, and so on, except the images themselves; and "normalized",
    what the first BatchNormalization normalises, unless that is one of these.
    """
    found = {"features": backbone.output}
    if tail(backbone) is not None:
        found["map"] = feature_map(backbone)
    bottoms = [bottom for bottom in _block_bottoms(backbone) if bottom is not backbone.input]
    found |= {f"block_{number}": bottom for number, bottom in enumerate(bottoms, 1)}
    first = _first_normalization(backbone)
    if first is None or any(tensor is first[1] for tensor in found.values()):
        return found
    return found | {"normalized": first[1]}


def normalization(backbone: keras.Model) -> dict[str, Any] | None:
    """Return what the first BatchNormalization after a convolution expects; None without one.

    Its name (`layer`), the name in `outputs` of what it normalises (`output`), and the `mean` and `variance` of each
    channel of that over the images that the network was trained on.
    """
    first = _first_normalization(backbone)
    if first is None:
        return None
    layer, taken = first
    output = next(name for name, tensor in outputs(backbone).items() if tensor is taken)
    mean, variance = (values.numpy().tolist() for values in (layer.moving_mean, layer.moving_variance + layer.epsilon))
    return {"layer": layer.name, "output": output, "mean": mean, "variance": variance}


def _first_normalization(backbone: keras.Model) -> tuple[Any, keras.KerasTensor] | None:
    """Return the first BatchNormalization after a convolution, and what it normalises in `backbone`."""
    taken = {node.operation.name: node.input_tensors[0] for node in _nodes(backbone) if node.input_tensors}
    convolved = False
    for layer in backbone.layers:
        if convolved and isinstance(layer, keras.layers.BatchNormalization):
            return layer, taken[layer.name]
        convolved = convolved or isinstance(layer, keras.layers.Conv2D)
    return None


def split_point(backbone: keras.Model, blocks: float | str, name: str) -> str:
    """Return the name in `outputs` of the tensor below the top `blocks` blocks, or "image" if that is all of them.

    `blocks` is a count of at least 1, a fraction of the blocks (between 0 and 1; at least one block), or "all". A block
    is a sequence of layers with weights that has one input and one output tensor: a convolution of VGG16, a residual
    block of a ResNet, a module of InceptionV3. Normalisation alone is not a block. Raises ParameterError when there are
    fewer blocks.
    """
    if blocks == "all":
        return IMAGE
    bottoms = list(_block_bottoms(backbone))
    count = max(round(float(blocks) * len(bottoms)), 1) if float(blocks) < 1 else int(blocks)
    if count > len(bottoms):
        raise ParameterError(
            f"unfreeze.blocks = {blocks} for backbone '{name}'", f"at most its {len(bottoms)} blocks", "or set 'all'"
        )
    return IMAGE if bottoms[count - 1] is backbone.input else f"block_{count}"


def _block_bottoms(backbone: keras.Model) -> Iterator[keras.KerasTensor]:
    """Yield the input tensor of each block, from the top of the network down."""
    tensors, weighted = _tensors(backbone), False
    for layer, narrow in reversed(list(_layers_in_order(backbone))):
        if narrow and weighted:
            yield tensors[layer.name]
            weighted = False
        trained = bool(getattr(layer, "trainable_variables", ())) and not isinstance(layer, _NORMALISING)
        weighted = weighted or trained


def _layers_in_order(backbone: keras.Model) -> Iterator[tuple[Any, bool]]:
    """Yield each operation in order of execution, and whether all later ones depend on its output alone."""
    sources, uses = _sources(backbone), dict[str, set[str]]()
    for name, found in sources.items():
        for source in found:
            uses.setdefault(source, set()).add(name)
    waiting: dict[str, set[str]] = {}
    for operation in backbone.operations:
        for source in sources[operation.name]:
            waiting[source].discard(operation.name)
        waiting = {source: users for source, users in waiting.items() if users}
        waiting[operation.name] = set(uses.get(operation.name, ()))
        yield operation, len(waiting) == 1


def _sources(backbone: keras.Model) -> dict[str, set[str]]:
    """Return the names of the operations whose outputs each operation takes."""
    found = {operation.name: set[str]() for operation in backbone.operations}
    for node in _nodes(backbone):
        found[node.operation.name] |= {tensor._keras_history.operation.name for tensor in node.input_tensors}  # noqa: SLF001
    return found


def _tensors(backbone: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return the output of each operation in `backbone`, by its name; of several outputs the first.

    An operation's own `output` is another where it belongs to two networks.
    """
    return {node.operation.name: node.outputs[0] for node in _nodes(backbone)}


def _nodes(backbone: keras.Model) -> list[Any]:
    """Return where operations are called in `backbone`. Their configuration says so, too, if they can be saved."""
    return [node for nodes in backbone._nodes_by_depth.values() for node in nodes]  # noqa: SLF001 (Keras has no other way)


def feature_map(backbone: keras.Model) -> keras.KerasTensor | None:
    """Return the last activations with spatial positions, (images, height, width, channels), or None.

    All later layers depend on them alone. They are below pooling, as in the paper on Grad-CAM (VGG16's last
    convolution), and above a layer with weights. They have more than one position, unlike the last activations of small
    images.
    """
    last = _last_with_positions(backbone)
    return None if last is None else _tensors(backbone)[last.name]


def _last_with_positions(backbone: keras.Model) -> Any | None:
    tensors, found, weighted = _tensors(backbone), None, False
    for layer, narrow in _layers_in_order(backbone):
        weighted = weighted or (bool(getattr(layer, "weights", ())) and not isinstance(layer, _NORMALISING))
        if weighted and narrow and not isinstance(layer, _LOCAL_POOLING) and _has_positions(tensors[layer.name]):
            found = layer
    return found


def _has_positions(tensor: keras.KerasTensor) -> bool:
    return len(tensor.shape) == _RANK and tensor.shape[1] * tensor.shape[2] > 1


def tail(backbone: keras.Model) -> list[dict[str, Any]] | None:
    """Describe the operations from the feature map to the features, for stages/explanation/saliency.py.

    None without such a map, or when an unsupported operation follows it.
    """
    last = _last_with_positions(backbone)
    if last is None:
        return None
    layers = [layer for layer, _ in _layers_in_order(backbone)]
    found = [_described(layer) for layer in layers[layers.index(last) + 1 :]]
    return None if None in found else [known for known in found if known]


def _described(layer: Any) -> dict[str, Any] | None:
    for kind, described in _KINDS.items():
        if isinstance(layer, kind):
            return described(layer)
    return None


def _max_pooling(layer: keras.layers.MaxPooling2D) -> dict[str, Any] | None:
    """Describe pooling by adjacent windows that do not overlap, without padding; other pooling is unsupported."""
    if (layer.padding, layer.strides) != ("valid", layer.pool_size):
        return None
    return {"kind": "max_pooling", "pool": list(layer.pool_size)}


def _layer_normalization(layer: keras.layers.LayerNormalization) -> dict[str, Any] | None:
    if len(layer.output.shape) != _VECTORS or not (layer.center and layer.scale):
        return None
    gamma, beta = (values.numpy().tolist() for values in (layer.gamma, layer.beta))
    return {"kind": "layer_normalization", "gamma": gamma, "beta": beta, "epsilon": layer.epsilon}


_KINDS: dict[type, Callable[[Any], dict[str, Any] | None]] = {
    keras.layers.GlobalAveragePooling2D: lambda _: {"kind": "average"},
    keras.layers.GlobalMaxPooling2D: lambda _: {"kind": "max"},
    keras.layers.MaxPooling2D: _max_pooling,
    keras.layers.Flatten: lambda _: {"kind": "flatten"},
    keras.layers.LayerNormalization: _layer_normalization,
}


def top(backbone: keras.Model, name: str, *, train_normalization: bool = False) -> keras.Model:
    """Return the trainable part of `backbone` above what `split_point` names; it shares the backbone's layers.

    Unless `train_normalization`, BatchNormalization stays frozen: a frozen layer also keeps its moving statistics and
    normalises by them (https://keras.io/guides/transfer_learning/).
    """
    backbone.trainable = True
    part = backbone if name == IMAGE else above(name, backbone)
    for layer in leaves(part):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = train_normalization
    return part


def above(name: str, backbone: keras.Model) -> keras.Model:
    """Return the part of `backbone` above what `outputs` calls `name`; it shares the backbone's layers."""
    below = outputs(backbone)[name]
    # The default name counts the tensors of the process, and is written to the file.
    below.name = name
    part = keras.Model(below, backbone.output, name="top")
    if NESTED in vars(backbone):
        vars(part)[NESTED] = vars(backbone)[NESTED][0], name
    return part


def depths(part: keras.Model) -> dict[str, int]:
    """Return the block of each variable of a network, by its path: 0 for the top block, 1 below it, ..."""
    found: dict[str, int] = {}
    depth, weighted = 0, False
    for layer, narrow in reversed(list(_layers_in_order(part))):
        if narrow and weighted:
            depth, weighted = depth + 1, False
        found |= {variable.path: depth for variable in getattr(layer, "variables", ())}
        trained = bool(getattr(layer, "trainable_variables", ())) and not isinstance(layer, _NORMALISING)
        weighted = weighted or trained
    return found


def leaves(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yield the layers inside `layer`, including those of nested models and of layers made of others."""
    yield from layer._flatten_layers(include_self=False)  # noqa: SLF001 (Keras has no other way)
