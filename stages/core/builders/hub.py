"""A backbone of KerasHub as its `builder` names it, such as `keras_hub:vit_base_patch16_224_imagenet`.

Imports no KerasHub: stages/networks/hub.py does, and says what may follow the colon.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from stages.core.addresses import holds_secret, redacted
from stages.core.builders.source import PUBLISHED, WEIGHT_FILES
from stages.core.errors import ParameterError
from stages.core.params import nearest, shown

HUB = "keras_hub:"
# Arguments of its classes that the stages set themselves.
RESERVED = frozenset({"image_shape", "input_shape", "load_weights", "data_format", "dtype", "name"})
# Other numbers in the names of presets are no such sizes: depths (`resnet_152`), numbers of parameters (`so400m`), of
# training images (`b160k`) and of epochs (`e3600`). Patches are 14 or 16 pixels wide, or a multiple of 16.
_NUMBER = re.compile(r"(?<![\db])\d{3,4}(?![\dm])")
_SMALLEST, _LARGEST, _PATCHES, _USUAL = 160, 1024, (14, 16), 224
# Where presets may lie elsewhere than with Kaggle, under KerasHub's own names.
_SCHEMES = ("hf://", "kaggle://", "modelscope://")
# The files of weights in the folder of a preset: KerasHub's own, in one part or several, and those that it converts.
_WEIGHTS = ("model.weights.h5", "model_*.weights.h5", "*.safetensors")


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
    if weights not in PUBLISHED:
        return weights
    return None if is_class(builder) else builder.removeprefix(HUB)


def of_preset(builder: str, weights: str) -> bool:
    """Return whether a backbone is a preset of KerasHub, which states its own preprocessing."""
    return is_hub(builder) and preset(builder, weights) is not None


def digest(place: Path) -> str:
    """Return the SHA-256 of all files in a preset's folder and of their names."""
    found = hashlib.sha256()
    for path in sorted(path for path in place.glob("*") if path.is_file()):
        found.update(f"{path.name}\n".encode())
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{found.hexdigest()}"


def folder(builder: str, weights: str) -> Path | None:
    """Return the folder on this machine that a backbone's preset is read from, or None."""
    named = preset(builder, weights) if is_hub(builder) else None
    return Path(named) if named is not None and is_local(named) else None


def weights_checksum(place: Path) -> tuple[list[str], str]:
    """Return the names of the files of weights in a preset's folder, sorted, and the SHA-256 of all in this order."""
    files = sorted({path for pattern in _WEIGHTS for path in place.glob(pattern)})
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: found)
    return [path.name for path in files], f"sha256:{found.hexdigest()}"


def native_size(builder: str) -> int:
    """Return the side of the images that a preset was trained on, pixels, by its name; 224 where that has none."""
    numbers = map(int, reversed(_NUMBER.findall(builder.rpartition("/")[2])))
    return next((size for size in numbers if _is_size(size)), _USUAL)


def _is_size(number: int) -> bool:
    return _SMALLEST <= number <= _LARGEST and any(number % patch == 0 for patch in _PATCHES)


def source(value: str, builder: str) -> str:
    """Return a source of weights for a builder of KerasHub. Raise ValueError when there is none."""
    if value == "imagenet" and is_class(builder):
        raise ValueError("random, or a preset or its folder: a class of KerasHub has no weights of its own")
    if value not in PUBLISHED and (expected := _expected(value)):
        raise ValueError(expected)
    if value.startswith(HUB):
        raise ValueError(f"a preset or its folder without '{HUB}', which is for the builder")
    if value not in PUBLISHED and not is_class(builder) and not is_local(value):
        raise ValueError("imagenet, random, or the preset's folder: the builder names the preset")
    return value


def _expected(named: str) -> str:
    """Return what is expected in place of a text that names no preset, or an empty string."""
    if holds_secret(named):
        return "an address without a password or token, which git would keep; save the preset in a folder yourself"
    if "://" in named:
        known = ", ".join(_SCHEMES)
        return "" if named.startswith(_SCHEMES) else f"a preset of KerasHub, its folder, or an address with {known}"
    if named.endswith(WEIGHT_FILES):
        return "imagenet, random, or a preset of KerasHub or its folder: it takes no file"
    # All names of presets but one have an underscore.
    hint = "" if set(named) & {"/", "_"} else nearest(named, sorted(PUBLISHED))
    return f"imagenet, random, or a preset of KerasHub or its folder ({hint})" if hint else ""


def known(builder: str, key: str) -> str:
    """Return a builder of KerasHub. Raise ParameterError when it names nothing, or KerasHub is not installed."""
    if builder == HUB:
        raise ParameterError(
            f"{key} = {shown(builder)}",
            f"'{HUB}' and a preset, its folder or a class",
            f"write for instance '{HUB}vit_base_patch16_224_imagenet', see https://keras.io/keras_hub/presets/",
            key,
        )
    if expected := _expected(builder.removeprefix(HUB)):
        raise ParameterError(f"{key} = {shown(redacted(builder))}", expected, "correct it", key)
    if find_spec("keras_hub") is None:
        raise ParameterError(
            f"{key} = {shown(builder)}, and KerasHub is not installed",
            "the extra 'hub'",
            "run 'uv sync --inexact --extra hub'",
            key,
        )
    return builder
