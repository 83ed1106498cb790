"""One's own files of weights, ONNX files and presets: where they are, and whether DVC sees that they change."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.builders import hub
from stages.core.builders.onnx_files import ONNX, onnx_digest
from stages.core.builders.source import is_local_file
from stages.core.errors import ParameterError, UserError
from stages.core.manifest import checksum
from stages.core.params import shown
from stages.core.settings.backbones import Backbone, resolve
from stages.core.settings.weights import OWN_WEIGHTS
from stages.sources.presence import is_under_dvc


def preset_folders(params: Mapping[str, Any]) -> dict[str, Path]:
    """Return the folders of KerasHub's presets on this machine, by the names of the backbones; `params` are valid."""
    found = [resolve(name, params) for name in params["backbones"]]
    return {each.name: place for each in found if (place := hub.folder(each.builder, each.weights))}


def weights_files(params: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files of weights and ONNX files here, by the names of the backbones; `params` are valid."""
    found = [resolve(name, params) for name in params["backbones"]]
    return {each.name: _file_of(each) for each in found if is_local_file(each.weights) and not hub.is_hub(each.builder)}


def _file_of(backbone: Backbone) -> Path:
    return Path(backbone.weights.replace("{backbone}", backbone.name))


def faults(params: Mapping[str, Any]) -> list[UserError]:
    """Return the faults of `weights.folder`, on which stage check depends, and of what is in it; `params` are valid.

    A file of weights elsewhere needs its checksum, and so does the folder of a preset: DVC would not see that it
    changes.
    """
    folder = Path(params["weights"]["folder"])
    if not folder.is_dir() or _holds_outputs(folder):
        what = "is written by stages" if folder.is_dir() else "is no folder"
        return [
            ParameterError(
                f"weights.folder = {shown(str(folder))} {what}",
                f"a folder of your own files of weights: {OWN_WEIGHTS}, or one outside of data/",
                f"make it, or restore {OWN_WEIGHTS} from git",
                "weights.folder",
            )
        ]
    own = {**weights_files(params), **preset_folders(params)}
    return [
        fault
        for name in params["backbones"]
        if name in own
        for fault in _faults_of_own(resolve(name, params), own[name], folder)
    ]


def _holds_outputs(folder: Path) -> bool:
    """Return whether stages write into a folder, which would make DVC's graph a circle."""
    outputs, own = _absolute(Path("data")), _absolute(Path(OWN_WEIGHTS))
    place = _absolute(folder)
    return outputs.is_relative_to(place) or (place.is_relative_to(outputs) and not place.is_relative_to(own))


def _absolute(path: Path) -> Path:
    """Return a path as DVC names it: links stay what they are, and it reads what they lead to."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.resolve follows links)


def _faults_of_own(backbone: Backbone, own: Path, folder: Path) -> list[UserError]:
    """Return the fault of a file of weights, or of the folder of a preset, that is missing or that DVC cannot watch."""
    key, is_preset, is_onnx = f"backbones.{backbone.name}", hub.is_hub(backbone.builder), backbone.builder == ONNX
    what = f"{key}: {'preset' if is_preset else 'file' if is_onnx else 'weights'} '{own}'"
    if is_preset and not own.is_dir():
        expected = "a preset of KerasHub, or the folder of one, as save_to_preset writes it"
        return [ParameterError(f"{what} is not a folder", expected, _way_to(own, folder), key)]
    if not is_preset and not own.is_file():
        expected = "an ONNX file" if is_onnx else "imagenet, random, or a file that Keras wrote"
        return [ParameterError(f"{what} is not a file", expected, _way_to(own, folder), key)]
    if is_onnx:
        try:
            onnx_digest(own)
        except UserError as unreadable:
            return [unreadable]
    if backbone.checksum or _absolute(own).is_relative_to(_absolute(folder)):
        return []
    return [
        ParameterError(
            f"{what} lies outside of weights.folder = '{folder}'",
            f"a {'folder' if is_preset else 'file'} in it, which DVC watches for changes, or its checksum",
            _remedy(backbone, own),
            key,
        )
    ]


def digests(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of all of these, by the names of the backbones; `params` are valid."""
    found = {name: _digest(file) for name, file in weights_files(params).items()}
    return found | {name: hub.digest(place) for name, place in preset_folders(params).items()}


def _digest(own: Path) -> str:
    """Return the checksum of a file of weights, of an ONNX file with the weights beside it."""
    return onnx_digest(own) if own.suffix == ".onnx" else checksum(own)


def _way_to(own: Path, folder: Path) -> str:
    """Return what to do about missing weights: in another clone the path is right, and git has not brought the file."""
    if is_under_dvc(own):
        return f"run `dvc pull {own}`, or correct the path"
    if not _absolute(own).is_relative_to(_absolute(folder)):
        return "correct the path"
    shared = f"`dvc add {own}`, commit its .dvc file and `dvc push` where it is"
    return f"correct the path, or put it there: git does not carry it ({shared}, and `dvc pull` here, shares it)"


def _remedy(backbone: Backbone, own: Path) -> str:
    """Return what to do about weights that DVC does not watch; random ones have no checksum."""
    ways = ["move it"] + ([] if _holds_outputs(own.parent) else [f"set weights.folder to '{own.parent}'"])
    if backbone.weights != "random":
        digest = hub.weights_checksum(own)[1] if hub.is_hub(backbone.builder) else _digest(own)
        # Without quotes DVC could not read it between braces.
        ways.append(f"add to the line checksum: '{digest}'")
    return ", or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))
