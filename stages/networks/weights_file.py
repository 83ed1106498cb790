"""Reading files of weights that Keras wrote, without running anything that they hold.

Three formats: `.h5` as Keras 2 wrote it, of weights alone or of a whole model (groups named by the attributes
`layer_names` and `weight_names`, below `model_weights` in a whole model; keras/src/legacy/saving/legacy_h5_format.py);
`.weights.h5` of Keras 3 (groups `layers/NAME/vars`; keras/src/saving/saving_lib.py); and `.keras`, a zip archive of
such a file and of the model's description. The content decides, not the suffix. Layers and their shapes are read here;
`weights_match.py` puts them into a network. Imports no Keras, and builds no Python object that a file describes.
"""

import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import h5py

from stages.core.errors import WeightsError, first_line, require_machine

# What the file begins with: HDF5 (its specification, II.A), zip, and pickles of protocol 2 to 5.
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_DESCRIPTION, _WEIGHTS = "config.json", "model.weights.h5"
# Weights hardly compress: what unpacks to much more is no file of weights, but meant to fill the disk.
_MOST_DESCRIPTION_BYTES, _SLACK_BYTES, _MOST_RATIO = 100_000_000, 100_000_000, 20
# Layers that run Python code of the file.
_CODE = {"Lambda", "__lambda__"}
_REMEDY = "save the backbone alone, with its `save_weights('own.weights.h5')`"


@dataclass(frozen=True)
class StoredLayer:
    """A layer with weights in a file: its own name, its place among the groups, and its HDF5 datasets.

    Datasets are in Keras's order: trainable ones first.
    """

    name: str
    place: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each of its weights."""
        return tuple(tuple(value.shape) for value in self.values)


@dataclass(frozen=True)
class StoredNetwork:
    """A network in a file, the whole model or one nested in it, and its layers with weights.

    `names` are those of all its layers, or in Keras 3 their classes with numbers; None where the file does not say.
    `in_order` says whether the layers have the order of the network: Keras 3's are sorted by their class.
    """

    layers: Sequence[StoredLayer]
    names: Sequence[str] | None
    in_order: bool


@contextmanager
def opened(path: Path) -> Iterator[list[StoredNetwork]]:
    """Open a file of weights, and provide the networks in it, the whole model first.

    Raises WeightsError when the file is none that Keras wrote, is damaged, or holds Python code.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, h5py.File(_hdf5(path, Path(folder)), "r") as file:
            yield _networks(file, path)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        require_machine(error)
        raise fault(path, f"is damaged ({first_line(error)})", "fetch or save it again") from error


def fault(path: Path, what: str, remedy: str = _REMEDY) -> WeightsError:
    """Return the error of a file that cannot be used."""
    return WeightsError(f"'{path}' {what}", "weights that Keras wrote as .keras, .weights.h5 or .h5", remedy)


def _hdf5(path: Path, folder: Path) -> Path:
    """Return the HDF5 file of weights: `path` itself, or what `folder` then holds of an archive."""
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start == _HDF5:
        return path
    if start.startswith(_ZIP):
        return _unpacked(path, folder)
    if not start:
        raise fault(path, "is empty", "fetch or save it again")
    if start.startswith(_PICKLES):
        raise fault(path, "is a pickle, which can run any code and is not opened")
    raise fault(path, "is neither an HDF5 file nor a .keras archive")


def _unpacked(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            raise fault(path, "is a file of PyTorch", "convert it in Keras first, and save that network's weights")
        if _DESCRIPTION not in names or _WEIGHTS not in names:
            raise fault(path, f"is a zip archive without {_DESCRIPTION} and {_WEIGHTS}")
        for name in (_DESCRIPTION, _WEIGHTS):
            _require_likely_size(path, archive.getinfo(name))
        _require_no_code(path, json.loads(archive.read(_DESCRIPTION)))
        return Path(archive.extract(_WEIGHTS, folder))


def _require_likely_size(path: Path, member: zipfile.ZipInfo) -> None:
    most = _SLACK_BYTES + _MOST_RATIO * member.compress_size
    if member.file_size > (min(most, _MOST_DESCRIPTION_BYTES) if member.filename == _DESCRIPTION else most):
        raise fault(
            path, f"unpacks to {member.file_size / 1e6:.0f} MB of {member.filename}, from {member.compress_size} bytes"
        )


def _require_no_code(path: Path, description: object) -> None:
    """Raise WeightsError when a model's description holds Python code, such as a Lambda layer."""
    if any(found in _CODE for found in _classes(description)):
        raise fault(path, "holds Python code in a Lambda layer, which is not run")


def _classes(value: object) -> Iterator[str]:
    """Yield the class names that occur anywhere in a model's description."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            yield str(found.get("class_name"))
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _networks(file: h5py.File, path: Path) -> list[StoredNetwork]:
    description = json.loads(_text(file.attrs["model_config"])) if "model_config" in file.attrs else {}
    _require_no_code(path, description)
    root = _child(file, "model_weights") if "model_weights" in file else file
    if _attribute(root, "layer_names"):
        return _of_keras_2(root, description)
    found = list(_of_keras_3(root))
    if not found:
        kind = "only the state of an optimiser" if any("optimizer" in name for name in file) else "no layer_names"
        raise fault(path, f"holds {kind}, and no layers")
    return found


def _of_keras_2(root: h5py.Group, description: Mapping[str, Any]) -> list[StoredNetwork]:
    """Return the whole model, and each layer of several layers, that is a nested model."""
    names = _attribute(root, "layer_names")
    parts = {name: _leaves(_child(root, name), name) for name in names}
    whole = [layer for layers in parts.values() for layer in layers]
    nested = [
        StoredNetwork(layers, _described(description, name), in_order=True)
        for name, layers in parts.items()
        if len(layers) > 1
    ]
    return [StoredNetwork(whole, names, in_order=True), *nested]


def _leaves(group: h5py.Group, name: str) -> list[StoredLayer]:
    """Return the layers in the group of a layer, which are several where that is a model.

    Keras lists the trainable weights of all of them first, then the others; what a weight's name begins with is its
    layer. In Keras 1's files (VGG16's) it is no path.
    """
    values: dict[str, list[Any]] = {}
    for weight in _attribute(group, "weight_names"):
        *_, layer = weight.rpartition("/")[0].split("/")
        values.setdefault(layer or name, []).append(_dataset(group, weight))
    return [StoredLayer(layer, (layer,), tuple(found)) for layer, found in values.items()]


def _described(description: Mapping[str, Any], name: str) -> list[str] | None:
    """Return the names of the layers of the nested model `name`."""
    layers = description.get("config", {}).get("layers", [])
    for layer in layers:
        if layer.get("config", {}).get("name") == name and "layers" in layer["config"]:
            return [inner["config"]["name"] for inner in layer["config"]["layers"]]
    return None


def _of_keras_3(group: h5py.Group) -> Iterator[StoredNetwork]:
    """Yield the model in `group`, if it is one, and those nested in it."""
    if "layers" in group:
        yield StoredNetwork(list(layers_below(group)), list(_child(group, "layers")), in_order=False)
    for name in group:
        if name != "vars" and group.get(name, getclass=True) is h5py.Group:
            yield from _of_keras_3(_child(group, name))


def layers_below(group: h5py.Group, place: tuple[str, ...] = ()) -> Iterator[StoredLayer]:
    """Yield everything in or below `group` that has weights, but for states of random numbers and optimisers."""
    for key in sorted(group, key=numbered):
        if key in {"optimizer", "seed_generator"} or group.get(key, getclass=True) is not h5py.Group:
            continue
        child = _child(group, key)
        if key == "vars":
            if len(child):
                name = _text(child.attrs["name"]) if "name" in child.attrs else place[-1]
                yield StoredLayer(name, place, tuple(_dataset(child, index) for index in sorted(child, key=numbered)))
        else:
            yield from layers_below(child, place if key == "layers" else (*place, key))


def numbered(name: str) -> tuple[str, int]:
    """Split a name into what it begins with and the number that Keras appended to it, 0 for none: conv2d_12."""
    found = re.fullmatch(r"(?:(.*)_)?(\d{1,9})", name, re.DOTALL)
    return (found[1] or "", int(found[2])) if found else (name, 0)


def _attribute(group: h5py.Group, name: str) -> list[str]:
    """Return a list of names: an attribute, or name0, name1, ... where it is too long for one; [] without it."""
    keys = (
        [name] if name in group.attrs else list(takewhile(group.attrs.__contains__, map(f"{name}{{}}".format, count())))
    )
    return [_text(value) for key in keys for value in group.attrs[key]]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _child(group: h5py.Group, name: str) -> Any:
    """Return what lies at a path below `group`. Raise KeyError where it is a link."""
    for part in filter(None, name.split("/")):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"{part} is missing, or a link to elsewhere")
        group = group[part]
    return group


def _dataset(group: h5py.Group, name: str) -> Any:
    found = _child(group, name)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise ValueError(f"'{name}' is no array of this file")
    return found
