"""A backbone of KerasHub as its `builder` names it, such as `keras_hub:vit_base_patch16_224_imagenet`.

Imports no KerasHub: stages/networks/hub.py does, and says what may follow the colon.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from stages.core.errors import ParameterError
from stages.core.params import shown

HUB = "keras_hub:"
# Arguments of its classes that the stages set themselves.
RESERVED = frozenset({"image_shape", "input_shape", "load_weights", "data_format", "dtype", "name"})
# Other numbers in the names of presets, such as `resnet_152`, are smaller or no multiple of 16.
_SMALLEST, _MULTIPLE, _USUAL = 160, 16, 224


def is_hub(builder: str) -> bool:
    """Return whether a builder is one of KerasHub."""
    return builder.startswith(HUB)


def is_class(builder: str) -> bool:
    """Return whether a builder of KerasHub is a class, such as `keras_hub:ViTBackbone`, and no preset."""
    return re.fullmatch(r"[A-Z]\w*", builder.removeprefix(HUB)) is not None


def is_local(preset: str) -> bool:
    """Return whether a preset is a folder on this machine: its name is a path, and no address such as `hf://a/b`."""
    return "/" in preset and "://" not in preset


def preset(builder: str, weights: str) -> str | None:
    """Return the preset that a builder of KerasHub and its source of weights name, or None: a class, random weights."""
    if weights not in {"imagenet", "random"}:
        return weights
    return None if is_class(builder) else builder.removeprefix(HUB)


def of_preset(builder: str, weights: str) -> bool:
    """Return whether a backbone is a preset of KerasHub, which states its own preprocessing."""
    return is_hub(builder) and preset(builder, weights) is not None


def digest(builder: str, weights: str) -> str:
    """Return the SHA-256 of the files in a preset's folder, so that DVC notices other ones; "" without a folder."""
    named = preset(builder, weights) if is_hub(builder) else None
    if named is None or not is_local(named):
        return ""
    found = hashlib.sha256()
    for path in sorted(path for path in Path(named).glob("*") if path.is_file()):
        found.update(f"{path.name}\n".encode())
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def native_size(builder: str) -> int:
    """Return the side of the images that a preset was trained on, pixels, by its name; 224 where that has none."""
    numbers = map(int, re.findall(r"(?<!\d)\d{3}(?!\d)", builder.rpartition("/")[2]))
    return next((size for size in numbers if size >= _SMALLEST and size % _MULTIPLE == 0), _USUAL)


def source(value: str, builder: str) -> str:
    """Return a source of weights for a builder of KerasHub. Raise ValueError when there is none."""
    if value == "imagenet" and is_class(builder):
        raise ValueError("random, or a preset or its folder: a class of KerasHub has no weights of its own")
    return value


def known(builder: str, key: str) -> str:
    """Return a builder of KerasHub. Raise ParameterError when it names nothing, or KerasHub is not installed."""
    if builder == HUB:
        raise ParameterError(
            f"{key} = {shown(builder)}",
            f"{HUB} and a preset, its folder or a class",
            f"write for instance {HUB}vit_base_patch16_224_imagenet, see https://keras.io/keras_hub/presets/",
            key,
        )
    if find_spec("keras_hub") is None:
        raise ParameterError(
            f"{key} = {shown(builder)}, and KerasHub is not installed",
            "the extra 'hub'",
            "run 'uv sync --inexact --extra hub'",
            key,
        )
    return builder
