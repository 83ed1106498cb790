"""Backbones of KerasHub: by preset, from the folder of one, or by class.

    keras_hub:vit_base_patch16_224_imagenet    a preset of KerasHub's: from its cache, or else from Kaggle
    keras_hub:hf://timm/resnet18.a1_in1k       a preset, or weights that KerasHub converts, of Hugging Face
    keras_hub:nets/my_vit                      the folder of a preset (`save_to_preset`), or of weights that it converts
    keras_hub:ViTBackbone                      a class with `arguments`; its weights are random, or those of a preset

What such a network ends in becomes one vector per image, as `head.pooling` says:

    a feature map     pooled over its positions, or flattened; of a pyramid the last level
    tokens            average: the class token, without one the mean of the patches; max: of the patches; or flattened
    a vector          as it is (SigLIP pools by attention)

Imports KerasHub, which takes one to two seconds. Sources: https://keras.io/keras_hub/presets/ and
https://github.com/keras-team/keras-hub/tree/v0.32.0.
"""

import inspect
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import yaml
from keras_hub.src.utils import preset_utils

from stages.core.builders.hub import HUB, is_class, is_local, weights_checksum
from stages.core.builders.hub import preset as preset_of
from stages.core.builders.inputs import PRESET
from stages.core.errors import EngineError, ParameterError, UserError, WeightsError, first_line, require_machine
from stages.core.params import nearest
from stages.core.settings.backbones import Network
from stages.networks import keras_engine
from stages.networks.architectures import preprocess
from stages.networks.download import UnreachableError
from stages.networks.engine import IMAGE, Choice, compile_openvino
from stages.networks.origin import Origin
from stages.networks.unrolled import BACKBONE, flat, last, pooled

log = logging.getLogger(__name__)
_IMAGES = 4
# How far OpenVINO's features may lie from Keras's, as a fraction of the largest.
_TOLERANCE = 1e-3

Step = Callable[[keras.KerasTensor], keras.KerasTensor]


def obtain(backbone: Network) -> tuple[keras.Model, Origin]:
    """Build a backbone of KerasHub, raw images in and one vector per image out; return it with its origin.

    Raises UnreachableError when a preset is unavailable: its architecture is then unknown, so that random weights are
    no way out. Raises WeightsError or ParameterError for one that takes no images, or none of this size.
    """
    preset, random = preset_of(backbone.builder, backbone.weights), backbone.weights == "random"
    if preset is None:
        network, step = _of_class(backbone), _declared(backbone)
    else:
        network = _of_preset(backbone, preset, with_weights=not random)
        step = _stated(backbone, preset) if backbone.inputs == PRESET else _declared(backbone)
    origin = Origin("random", "as set in params.yaml") if preset is None or random else _origin(preset)
    _require_expected(origin, backbone)
    return flat(_joined(backbone, network, step)), origin


def _joined(backbone: Network, network: keras.Model, step: Step) -> keras.Model:
    """Return a network with its preprocessing before it and pooling behind it."""
    image = keras.Input((backbone.input_size, backbone.input_size, 3), name=IMAGE)
    inputs = dict.fromkeys(network.input, step(image)) if isinstance(network.input, dict) else step(image)
    patch = getattr(network, "patch_size", None)
    side = patch if isinstance(patch, int | None) else patch[0]
    features = pooled(last(network(inputs)), backbone.pooling, side, backbone.input_size)
    return keras.Model(image, features, name=BACKBONE)


def _declared(backbone: Network) -> Step:
    """Return the preprocessing that the backbone's line declares."""
    return lambda image: preprocess(image, backbone.inputs)


def _of_class(backbone: Network) -> keras.Model:
    """Build a class of KerasHub with random weights. Raise ParameterError when there is none, or for its arguments."""
    kind = _class(backbone)
    with _arguments(backbone, kind):
        network = kind(**_shape(kind, backbone.input_size), **backbone.arguments)
    return _tower(network, backbone)


@contextmanager
def _arguments(backbone: Network, kind: type) -> Iterator[None]:
    """Raise ParameterError for what KerasHub raises: its classes check few of their arguments."""
    try:
        yield
    except Exception as error:
        accepted = [name for name in inspect.signature(kind).parameters if name not in {"kwargs", "dtype"}]
        raise ParameterError(
            f"backbones.{backbone.name}.arguments = {backbone.arguments} at {backbone.input_size} pixels "
            f"({first_line(error)})",
            f"those of keras_hub.models.{kind.__name__} ({', '.join(accepted)})",
            "see https://keras.io/keras_hub/api/models/",
            f"backbones.{backbone.name}.arguments",
        ) from error


def _class(backbone: Network) -> type[keras.Model]:
    """Return the class that a builder, or the preset of its weights, names."""
    name, known = backbone.builder.removeprefix(HUB), _classes()
    if name not in known:
        raise ParameterError(
            f"backbones.{backbone.name}.builder = '{backbone.builder}'",
            f"a class of keras_hub.models that takes images ({', '.join(sorted(known))})",
            nearest(name, list(known)) or "see https://keras.io/keras_hub/api/models/",
            f"backbones.{backbone.name}.builder",
        )
    return known[name]


def _classes() -> dict[str, type[keras.Model]]:
    """Return the classes of KerasHub that take images, by name."""
    return {
        name: kind
        for name, kind in vars(keras_hub.models).items()
        if isinstance(kind, type) and issubclass(kind, keras_hub.models.Backbone) and _shape(kind, 1)
    }


def _shape(kind: type, size: int) -> dict[str, Any]:
    """Return the argument of a class for images of `size` pixels, {} if it has none."""
    accepted = inspect.signature(kind).parameters
    return {name: (size, size, 3) for name in ("image_shape", "input_shape") if name in accepted}


def _of_preset(backbone: Network, preset: str, *, with_weights: bool) -> keras.Model:
    """Load a preset at the size of the backbone."""
    loader = _loader(backbone, preset)
    try:
        kind = loader.check_backbone_class()
        changed = _shape(kind, backbone.input_size) | backbone.arguments
        network = loader.load_backbone(kind, with_weights, dtype="float32", **changed)
    except Exception as error:
        # KerasHub, Keras and h5py raise all kinds: for another size, a damaged file, a missing one, no connection.
        raise _unfit(backbone, preset, loader.config, error) from error
    if is_class(backbone.builder) and kind is not _class(backbone):
        raise WeightsError(
            f"'{preset}' holds a {kind.__name__}, and backbone '{backbone.name}' is a {backbone.builder}",
            "a preset of the same class",
            f"set its builder to '{HUB}{preset}'",
        )
    return _tower(network, backbone)


def _loader(backbone: Network, preset: str) -> Any:
    """Return KerasHub's reader of a preset; its configuration is then on this machine."""
    if is_local(preset) and not (Path(preset) / preset_utils.CONFIG_FILE).is_file():
        raise WeightsError(
            f"'{preset}' of backbone '{backbone.name}' is not the folder of a preset",
            f"a folder with {preset_utils.CONFIG_FILE} and its weights, as save_to_preset writes it",
            "correct the path",
        )
    if "/" not in preset and preset not in preset_utils.BUILTIN_PRESETS:
        raise ParameterError(
            f"backbone '{backbone.name}' names '{preset}', no preset of KerasHub {keras_hub.__version__}",
            "one of https://keras.io/keras_hub/presets/, an address such as hf://timm/resnet18.a1_in1k, or ./folder",
            nearest(preset, list(preset_utils.BUILTIN_PRESETS)) or "correct it",
        )
    try:
        return preset_utils.get_preset_loader(preset)
    except Exception as error:
        if is_local(preset):
            raise WeightsError(
                f"'{preset}' cannot be read as a preset ({first_line(error)})", "one that KerasHub reads", "correct it"
            ) from error
        raise _unreachable(backbone, preset, error) from error


def _unreachable(backbone: Network, preset: str, error: Exception) -> UnreachableError:
    return UnreachableError(
        f"the preset '{preset}' of backbone '{backbone.name}' is unavailable ({first_line(error)})",
        "it in KerasHub's cache or at its host; random weights would need its architecture, too",
        "load it once where there is a connection and save it and its ImageConverter with save_to_preset: the folder "
        "may be the builder or `weights`; or name a class of keras_hub.models with its arguments and weights: random",
    )


def _unfit(backbone: Network, preset: str, config: dict[str, Any], error: Exception) -> UserError:
    """Return what to say of a preset that cannot be loaded at the size of the backbone."""
    if not is_local(preset) and isinstance(error, OSError):
        return _unreachable(backbone, preset, error)
    native = (config.get("config") or {}).get("image_shape") or [None]
    other = f", at its own size, {native[0]} pixels" if native[0] not in {None, backbone.input_size} else ""
    return WeightsError(
        f"'{preset}' cannot be loaded for backbone '{backbone.name}' at {backbone.input_size} pixels "
        f"({first_line(error)})",
        f"an undamaged preset of an image network{other}",
        "set input_size, and preprocess.sizes" if other else "choose another, or load it anew",
    )


def _tower(network: keras.Model, backbone: Network) -> keras.Model:
    """Return the part of a network that takes images: of SigLIP and CLIP their vision encoder.

    Raises WeightsError when no part takes images of the size of the backbone.
    """
    found = network if len(network.inputs) == 1 else getattr(network, "vision_encoder", network)
    size, inputs = backbone.input_size, found.inputs
    if len(inputs) == 1 and len(inputs[0].shape) == _IMAGES and inputs[0].shape[1:] == (size, size, 3):
        return found
    shapes = ", ".join(str(tuple(one.shape[1:])) for one in inputs)
    raise WeightsError(
        f"{type(network).__name__} of backbone '{backbone.name}' takes {shapes}",
        f"images of its input_size, ({size}, {size}, 3)",
        "set input_size to the size that it takes, or choose a network for images",
    )


def _stated(backbone: Network, preset: str) -> Step:
    """Return the preprocessing that a preset states, as layers of Keras. Raise WeightsError where it states none."""
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception as error:
        if not is_local(preset) and not isinstance(error, FileNotFoundError):
            raise _unreachable(backbone, preset, error) from error
        raise WeightsError(
            f"'{preset}' of backbone '{backbone.name}' states no preprocessing ({first_line(error)})",
            "the pixels that its weights were trained on",
            "set inputs in its line, or save its ImageConverter into the folder as well (save_to_preset)",
        ) from error
    if converter.scale is None and converter.offset is None:
        return lambda image: image
    scale = np.broadcast_to(np.asarray(1.0 if converter.scale is None else converter.scale, np.float64), 3)
    offset = np.broadcast_to(np.asarray(0.0 if converter.offset is None else converter.offset, np.float64), 3)
    # x * scale + offset = (x - mean) / deviation
    mean, variance = (-offset / scale).tolist(), (1 / scale**2).tolist()
    normalise: Step = keras.layers.Normalization(mean=mean, variance=variance, name="preprocess")
    return normalise


def converted(network: keras.Model, outputs: dict[str, keras.KerasTensor], name: str) -> Any:
    """Return `keras_engine.convert` of a network of KerasHub, compared with Keras on random images.

    Raises EngineError when OpenVINO lacks an operation, or computes something else: 2026.4 does where an attention of
    Swin has a single head.
    """
    images = np.random.default_rng(0).integers(0, 256, (2, *network.input.shape[1:])).astype(np.float32)
    expected = np.asarray(network(images, training=False))
    try:
        found = keras_engine.convert(network.input, outputs)
        features = compile_openvino(found, Choice("openvino", "float32", 1))(images)["features"]
        np.testing.assert_allclose(features, expected, rtol=_TOLERANCE, atol=_TOLERANCE * float(np.abs(expected).max()))
    except Exception as error:
        raise EngineError(
            f"the network of backbone '{name}' cannot be run by OpenVINO ({first_line(error)})",
            "the same features from OpenVINO as from Keras",
            "leave the backbone out, or change its arguments",
        ) from error
    return found


def _origin(preset: str) -> Origin:
    """Return the origin of a preset's weights: their file, checksum, and licence where the preset states one."""
    folder = Path(preset_utils.get_file(preset, preset_utils.CONFIG_FILE)).parent
    names, digest = weights_checksum(folder)
    licence = _licence(preset)
    reason = f"a preset that states the licence {licence}" if licence else "a preset without a licence in its files"
    return Origin(f"{HUB}{preset}", reason, ", ".join(names), digest, licence)


def _require_expected(origin: Origin, backbone: Network) -> None:
    """Raise WeightsError when the files of a preset's weights have another checksum than the backbone's line says."""
    if backbone.checksum not in (None, origin.checksum):
        raise WeightsError(
            f"'{origin.source}' ({origin.file}) has {origin.checksum}",
            f"{backbone.checksum}, as backbones.{backbone.name}.checksum says",
            "its files are damaged or not the expected ones: load them anew, or correct the checksum",
        )


def _licence(preset: str) -> str:
    """Return the licence that the metadata of a preset states, or the head of its README as model cards have it.

    https://huggingface.co/docs/hub/model-cards#model-card-metadata
    """
    stated = _mapping(json.loads(_text(preset, preset_utils.METADATA_FILE) or "{}"))
    if head := re.match(r"---\n(.*?)\n---", _text(preset, preset_utils.README_FILE), re.DOTALL):
        stated = _mapping(yaml.safe_load(head[1])) | stated
    return str(stated.get("license") or "")


def _text(preset: str, name: str) -> str:
    """Return a file of a preset, fetched where need be; "" where there is none, or no connection by now."""
    try:
        return Path(preset_utils.get_file(preset, name)).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        require_machine(error)
        return ""


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
