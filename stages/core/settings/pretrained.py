"""Where the weights of a backbone come from, and which pixels they were trained on.

Used by the lines of `backbones` and by section `weights` of params.yaml. A line may name an ONNX `file` in place of a
builder: a network with its weights, see stages/networks/onnx_file.py.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError

from stages.core.addresses import holds_secret
from stages.core.errors import WeightsError, first_line, require_machine
from stages.core.params import Section, Tuple, nearest

# Formats of weights that Keras writes: whole models, `.weights.h5` and Keras 2's `.h5`.
WEIGHT_FILES = (".keras", ".h5")
# Sources of weights that are no file of the user's own.
PUBLISHED = frozenset({"imagenet", "random"})
_FORMATS = ("raw", "tf", "torch", "caffe")
# What a preset of KerasHub states itself.
PRESET = "preset"
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The constants of keras.src.applications.imagenet_utils.preprocess_input, for images of 0 to 255; those of "caffe" are
# in the order blue, green, red.
_MEAN_AND_DEVIATION = {
    "tf": ([127.5] * 3, [127.5] * 3),
    "caffe": ([103.939, 116.779, 123.68], [1.0] * 3),
    "torch": ([255 * mean for mean in IMAGENET_MEAN], [255 * deviation for deviation in IMAGENET_DEVIATION]),
}
# The builder of a backbone whose line names an ONNX file.
ONNX = "onnx"
# How a sequence of tokens becomes a vector: its first token, or the mean of all.
Tokens = Literal["class_token", "mean"]


class Standardised(Section):
    """Pixels as a network expects them: RGB of 0 to 255, less `mean`, divided by `deviation`, channel by channel."""

    mean: Tuple[Annotated[float, Field(ge=-1e6, le=1e6)]] = Field(min_length=3, max_length=3)
    deviation: Tuple[Annotated[float, Field(gt=0, le=1e6)]] = Field(min_length=3, max_length=3)


def _known_inputs(value: object) -> object:
    """Return `inputs` of a line, parsed; raise one ValueError for whatever is wrong with it."""
    if value in (*_FORMATS, PRESET) or isinstance(value, Standardised):
        return value
    try:
        return Standardised.model_validate(value)
    except ValidationError as error:
        hint = nearest(value, list(_FORMATS)) if isinstance(value, str) else ""
        raise ValueError(
            f"{', '.join(_FORMATS)}, or {{mean: [R, G, B], deviation: [R, G, B]}} of images of 0 to 255, with "
            f"deviations above 0{f' ({hint})' if hint else ''}"
        ) from error


Inputs = Annotated[Literal["raw", "tf", "torch", "caffe", "preset"] | Standardised, BeforeValidator(_known_inputs)]


def mean_and_deviation(inputs: Inputs) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of each channel of `inputs` but "raw" and "preset", images of 0 to 255."""
    if isinstance(inputs, str):
        return _MEAN_AND_DEVIATION[inputs]
    return list(inputs.mean), list(inputs.deviation)


def known_source(value: str) -> str:
    """Return `value` if it is a valid source of weights. Raise ValueError with the nearest match otherwise."""
    if holds_secret(value):
        raise ValueError("an address without a password or token, which git would keep; fetch the file yourself")
    if value in PUBLISHED or (_is_fetchable(value) and urlsplit(value).path.endswith(WEIGHT_FILES)):
        return value
    hint = nearest(value, ["imagenet", "random"])
    raise ValueError(
        "imagenet, random, or a file that Keras wrote (.keras, .weights.h5, .h5), by its path or http(s) URL"
        f"{f' ({hint})' if hint else ''}"
    )


def _is_fetchable(source: str) -> bool:
    return "://" not in source or source.startswith(("http://", "https://"))


def is_local_file(source: str) -> bool:
    """Return whether a known source of weights is a file on this machine."""
    return source not in PUBLISHED and "://" not in source


def known_file(value: str) -> str:
    """Return `value` if it may name an ONNX file, by its path or URL. Raise ValueError otherwise."""
    if holds_secret(value):
        raise ValueError("an address without a password or token, which git would keep; fetch the file yourself")
    if _is_fetchable(value) and urlsplit(value).path.endswith(".onnx"):
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
