"""ONNX files that lines of `backbones` name in place of a builder: a network with its weights.

Imports ONNX only to read one; stages/networks/onnx_file.py makes it a network of the inference engine.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from stages.core.addresses import holds_secret
from stages.core.builders.source import WEIGHT_FILES, is_fetchable
from stages.core.errors import WeightsError, first_line, require_machine

# The builder of a backbone whose line names an ONNX file.
ONNX = "onnx"
# How a sequence of tokens becomes a vector: its first token, or the mean of all.
Tokens = Literal["class_token", "mean"]


def known_file(value: str) -> str:
    """Return `value` if it may name an ONNX file, by its path or URL. Raise ValueError otherwise."""
    if holds_secret(value):
        raise ValueError("an address without a password or token, which git would keep; fetch the file yourself")
    if is_fetchable(value) and urlsplit(value).path.endswith(".onnx"):
        return value
    hint = "; a file that Keras wrote is named by 'weights'" if value.endswith(WEIGHT_FILES) else ""
    raise ValueError(f"an ONNX file (.onnx), by its path or http(s) URL{hint}")


def onnx_digest(path: Path) -> str:
    """Return the SHA-256 of an ONNX file; where it keeps weights in files beside it, of all, these by their names.

    Raises WeightsError when it is no such file, or one beside it is missing.
    """
    found = hashlib.sha256()
    for part in [path, *onnx_companions(path)]:
        with part.open("rb") as file:
            hashlib.file_digest(file, lambda: found)
    return f"sha256:{found.hexdigest()}"


def onnx_companions(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its weights, by their names. Raise WeightsError as `onnx_digest`.

    https://onnx.ai/onnx/repo-docs/ExternalData.html
    """
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
        entries = [entry for tensor in onnx_tensors(graph) for entry in tensor.external_data]
        names = sorted({entry.value for entry in entries if entry.key == "location"})
    except Exception as error:  # protobuf and onnx raise all kinds
        require_machine(error)
        raise onnx_fault(path, f"cannot be read ({first_line(error)})", "export or fetch it again") from error
    if not graph.node:
        raise onnx_fault(path, "holds no network", "export or fetch it again")
    for name in names:
        _require_companion(path, name)
    return [path.parent / name for name in names]


def onnx_fault(path: Path, what: str, remedy: str, expected: str = "an undamaged ONNX file") -> WeightsError:
    """Return the error of an ONNX file that cannot be used."""
    return WeightsError(f"'{path}' {what}", expected, remedy)


def onnx_tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors that a graph of ONNX holds, with those in its nodes and their subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from onnx_tensors(inner)


def _require_companion(path: Path, name: str) -> None:
    """Raise WeightsError unless the file `name` is there, in the folder of the ONNX file that names it."""
    place = path.parent / name
    if not place.resolve().is_relative_to(path.parent.resolve()):
        raise onnx_fault(path, f"keeps weights in '{name}', outside of its folder", "export it with its weights inside")
    if not place.is_file():
        raise onnx_fault(
            path,
            f"keeps weights in '{name}', which is not beside it",
            "put that file there, or export it with its weights inside",
        )
