"""Networks of KerasHub with their blocks in sight, and ended in one vector per image.

KerasHub has its transformer blocks inside a layer (`ViTEncoder`), and many of its layers cannot be saved by themselves
(0.32: `get_config` of ViT's, MiT's and Swin's is wrong). Phase 2 trains blocks, so these have to be layers of the
network itself. Therefore there are two forms, with the same layers and weights:

    nested    raw images, preprocessing, KerasHub's network as one layer, pooling: what files hold
    flat      the same with the layers of KerasHub's network for it: what stages work with

Imports no KerasHub: Keras does, when it reads such a file.
"""

import importlib
import logging
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stages.networks.architectures import NESTED, POOLING, above
from stages.networks.engine import IMAGE

log = logging.getLogger(__name__)
BACKBONE = "backbone"
# Dimensions of what a network ends in: (images, width), (images, tokens, width), (images, height, width, channels).
_VECTORS, _MAP = 2, 4
_TOLERANCE = 1e-4


def saved_form(model: keras.Model) -> keras.Model:
    """Return what to save for `model`, a flat network or the top of one: the nested form, and any other as it is.

    The name of the nested form says what `model` begins with: `backbone` for images, else as in
    `architectures.outputs`. The file of a top has the frozen weights as well.
    """
    if NESTED not in vars(model):
        return model
    nested, nested.name = vars(model)[NESTED]
    return nested


def loaded(model: keras.Model) -> keras.Model:
    """Return the network that `saved_form` stands for."""
    if not any(map(_is_of_hub, model.layers)):
        return model
    start, model.name = model.name, BACKBONE
    network = flat(model)
    return network if start == BACKBONE else above(start, network)


def _is_of_hub(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and type(layer).__module__.startswith("keras_hub.")


def flat(nested: keras.Model) -> keras.Model:
    """Return the flat form of a network: layers that hold a stack of blocks are replaced by what they hold."""
    _use_common_operations()
    image = keras.Input(nested.input.shape[1:], name=IMAGE)
    output = _Unrolled(image).run(nested, image)
    if not _same(nested, keras.Model(image, output)):
        log.warning("the blocks of %s cannot be told apart: phase 2 trains it whole", nested.name)
        output = _Unrolled(image).run(nested, image, stacks=False)
    found = keras.Model(image, output, name=BACKBONE)
    # Not by assignment: Keras would add it to the layers.
    vars(found)[NESTED] = nested, BACKBONE
    return found


def _use_common_operations() -> None:
    """Let Keras update slices without an operation of XLA's that no converter knows: Swin's masks are made so."""
    core: Any = importlib.import_module("keras.src.backend.tensorflow.core")
    core.slice_update = _slice_update


def _slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
    """Return what `keras.ops.slice_update` does, for slices of a known size."""
    updates = tf.convert_to_tensor(updates)
    places = np.stack(np.meshgrid(*map(np.arange, updates.shape), indexing="ij"), axis=-1) + np.array(start_indices)
    return tf.tensor_scatter_nd_update(inputs, places.reshape(-1, places.shape[-1]), tf.reshape(updates, (-1,)))


def last(output: Any) -> keras.KerasTensor:
    """Return the last of a network's outputs: of a pyramid the smallest level."""
    if isinstance(output, dict):
        output = list(output.values())
    return output[-1] if isinstance(output, list | tuple) else output


def _same(network: keras.Model, other: keras.Model) -> bool:
    """Return whether two networks return the same for a random image."""
    image = np.random.default_rng(0).integers(0, 256, (1, *network.input.shape[1:])).astype(np.float32)
    expected, found = (np.asarray(one(image, training=False)) for one in (network, other))
    return np.allclose(expected, found, rtol=_TOLERANCE, atol=_TOLERANCE * float(np.abs(expected).max()))


class _Unrolled:
    """Calls the layers of a network anew on symbolic images, those inside KerasHub's network one by one."""

    def __init__(self, image: keras.KerasTensor) -> None:
        self.size = image.shape[1]
        self.network: Any = None
        self._special = {"DeiTEncoder": self._deit, "DINOV3Encoder": self._dinov3}

    def run(self, network: keras.Model, tensor: keras.KerasTensor, *, stacks: bool = True) -> Any:
        """Return what `network` returns for `tensor`, stacks of blocks unrolled or not."""
        call = self._call if stacks else self._call_layer
        return network._run_through_graph([tensor], operation_fn=lambda layer: layer, call_fn=call)  # noqa: SLF001

    def _call_layer(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_of_hub(layer):
            return layer(*args, **kwargs)
        return self.run(layer, keras.tree.flatten(args)[0], stacks=False)

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_of_hub(layer):
            self.network = layer
            return self.run(layer, keras.tree.flatten(args)[0])
        if not _is_stack(layer):
            return layer(*args, **kwargs)
        _name_within(layer)
        try:
            return self._special.get(type(layer).__name__, layer.call)(*args, **kwargs)
        except (TypeError, ValueError):
            # Some compute with the number of images, which is not known yet.
            return layer(*args, **kwargs)

    def _deit(self, tokens: keras.KerasTensor, **_: Any) -> tuple[keras.KerasTensor]:
        """Unroll DeiT's encoder, whose blocks return None beside their tokens unless asked for their attention."""
        encoder = self.network.get_layer("deit_encoder")
        for block in encoder.encoder_layers:
            tokens, _attention = block(tokens, return_attention_scores=True)
        return (encoder.layer_norm(tokens),)

    def _dinov3(self, tokens: keras.KerasTensor, **arguments: Any) -> tuple[keras.KerasTensor]:
        """Unroll DINOv3's encoder.

        The rotary positions follow from the size of the images alone, but KerasHub computes them from the images, once
        for all blocks, so that no block depends on the one below it alone. Here each computes them from blank images.
        """
        for block in self.network.encoder.layers:
            positions = _copy(self.network.rope_embedding, f"{block.name}_positions")
            tokens = block(tokens, **arguments | {"position_embeddings": positions(_blank(tokens, self.size))})
        return (tokens,)


def _copy(layer: Any, name: str) -> Any:
    """Return a copy of a layer of constants under another name."""
    copied = type(layer).from_config(layer.get_config() | {"name": name})
    copied.build((None, 1, 1, 1))
    copied.set_weights(layer.get_weights())
    return copied


def _is_stack(layer: Any) -> bool:
    """Return whether a layer of KerasHub has a list of layers, and no weights beside those of its layers."""
    if not type(layer).__module__.startswith("keras_hub.") or _has_own_weights(layer):
        return False
    held = (value for name, value in vars(layer).items() if not name.startswith("_"))
    return any(
        isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(one, keras.Layer) for one in value)
        for value in held
    )


def _has_own_weights(layer: Any) -> bool:
    inner = {id(weight) for one in _within(layer) for weight in one.weights}
    return any(id(weight) not in inner for weight in layer.weights)


def _within(layer: Any) -> list[keras.Layer]:
    """Return the layers that `layer` is made of."""
    return list(layer._flatten_layers(include_self=False, recursive=False))  # noqa: SLF001 (Keras has no other way)


def _name_within(layer: Any) -> None:
    """Name the layers inside `layer` after it: two stages of Swin each have a `block_0`."""
    for inner in _within(layer):
        if not inner.name.startswith(f"{layer.name}_"):
            inner.name = f"{layer.name}_{inner.name}"


def _blank(tokens: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Return images of one channel, (images, size, size, 1), without content; (images, tokens, width) in."""
    numbers = keras.layers.Reshape((tokens.shape[1] * tokens.shape[2], 1))(tokens)
    single = keras.layers.RepeatVector(size * size)(keras.layers.GlobalMaxPooling1D()(numbers))
    return keras.layers.Reshape((size, size, 1))(single)


def pooled(output: keras.KerasTensor, pooling: str, patch: int | None, size: int) -> keras.KerasTensor:
    """Return one vector per image of what a network ends in, as the docstring of hub.py says.

    `patch` is the side of its patches, pixels, where the network says so, of images of `size` pixels.
    """
    dimensions = len(output.shape)
    if dimensions == _VECTORS:
        return output
    if pooling == "flatten":
        return keras.layers.Flatten(name="features")(output)
    if dimensions == _MAP:
        return POOLING[pooling](name="features")(output)
    return _pooled_tokens(output, pooling, size // patch if patch else 0)


def _pooled_tokens(tokens: keras.KerasTensor, pooling: str, patches: int) -> keras.KerasTensor:
    """Pool tokens, (images, tokens, width), of which `patches` times as many are patches of images."""
    count, width = tokens.shape[1:]
    # Swin merges patches, so that there are fewer than at its start.
    side = patches if patches and patches**2 <= count else math.isqrt(count)
    before = count - side**2
    if before and pooling == "average":
        # The class token comes first; those of distillation and registers follow.
        first = keras.layers.Cropping1D((0, count - 1), name="class_token")(tokens)
        return keras.layers.Flatten(name="features")(first)
    of_patches = keras.layers.Cropping1D((before, 0), name="patches")(tokens) if before else tokens
    return POOLING[pooling](name="features")(keras.layers.Reshape((side, side, width), name="map")(of_patches))
