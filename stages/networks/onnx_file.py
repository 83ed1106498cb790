"""Networks from ONNX files, run frozen: whatever library trained them, OpenVINO runs them.

    nets/dinov2.onnx    one image input, NCHW or NHWC, its side fixed or not; batches of any size, or of one image

What such a file puts out becomes one vector per image:

    a feature map     pooled over its positions, or flattened, as `head.pooling` says
    tokens            the first one (class_token) or the mean of all (mean), as `pooling` of the backbone's line says
    a vector          as it is

`obtain` returns a network like any other backbone: raw RGB images in, 0 to 255, with preprocessing as its first
operations. A network for single images becomes the body of a loop over those of a batch (ONNX's Scan). Imports no
Keras. Sources: https://onnx.ai/onnx/repo-docs/IR.html, https://onnx.ai/onnx/operators/.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from stages.core.builders.onnx_files import onnx_companions, onnx_digest, onnx_fault
from stages.core.builders.source import is_local_file
from stages.core.errors import EngineError, first_line, require_machine
from stages.core.files import replacing
from stages.core.params import nearest
from stages.core.settings.backbones import Network
from stages.core.settings.weights import FetchParams
from stages.networks.download import fetch_own, require_expected
from stages.networks.engine import Choice, compile_openvino, flops, name_by_position
from stages.networks.onnx_graph import (
    CHANNELS,
    KINDS,
    MAPS,
    PREFIX,
    Graph,
    dims_of,
    joined,
    measured,
    model_of,
    needed,
    port,
)
from stages.networks.origin import Origin

BACKBONE = "backbone.onnx"
# From this set of operations on there are those that are added, here and by stages/exports/onnx_export.py.
_OLDEST = 9
# Protocol buffers hold no more.
_MOST_BYTES = 2**31 - 1
# How far OpenVINO's features of two images at once may lie from ONNX Runtime's of one by one, by the largest.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Loaded:
    """A network from an ONNX file: `model` in ONNX, `converted` for OpenVINO, both with the outputs of `facts`.

    `facts` are what backbone.json says of it: width, parameters, map and normalization.
    """

    model: Any
    converted: Any
    facts: dict[str, Any]


def obtain(backbone: Network, params: FetchParams) -> tuple[Loaded, Origin]:
    """Return the network in an ONNX file with its origin.

    Raises WeightsError when the file is damaged, has no image input of this size or no such output, and EngineError
    when OpenVINO does not run it as ONNX Runtime does.
    """
    path = _located(backbone, params)
    digest = onnx_digest(path)
    require_expected(path, digest, backbone)
    graph = _with_shapes(_chosen(_read(path), path, backbone), path, backbone)
    model, facts = joined(graph, backbone, path)
    converted = _converted(model, backbone)
    facts["width"] = converted.output("features").get_partial_shape()[1].get_length()
    origin = Origin(backbone.weights, "an ONNX file; what it was trained on is unknown", path.name, digest)
    return Loaded(model, converted, facts), origin


def save(model: Any, path: Path) -> None:
    """Write an ONNX model completely or not at all; equal models give equal bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _located(backbone: Network, params: FetchParams) -> Path:
    if not is_local_file(backbone.weights):
        return fetch_own(backbone.weights, backbone.checksum, params)
    path = Path(backbone.weights.replace("{backbone}", backbone.name))
    if not path.is_file():
        raise onnx_fault(path, "is not a file", "correct the path", "an ONNX file")
    return path


def _read(path: Path) -> Any:
    """Return a file's model with its weights, whose tensors have names that nothing else has."""
    size = sum(part.stat().st_size for part in (path, *onnx_companions(path)))
    if size > _MOST_BYTES:
        raise onnx_fault(path, f"holds {size / 1e9:.1f} GB", "choose a smaller network", "at most 2 GB of weights")
    try:
        model = onnx.load(path)
        renamed = onnx.compose.add_prefix(model, PREFIX)
    except Exception as error:  # protobuf and onnx raise all kinds
        require_machine(error)
        raise onnx_fault(path, f"cannot be read ({first_line(error)})", "export or fetch it again") from error
    version = max((each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}), default=0)
    if version < _OLDEST:
        raise onnx_fault(path, f"has operations of opset {version}", "export it again", f"opset {_OLDEST} or later")
    return renamed


def _chosen(model: Any, path: Path, backbone: Network) -> Graph:
    """Return the part of a graph that the declared output depends on. Raise WeightsError without one image input."""
    output = _output(model.graph, path, backbone)
    nodes, used = needed(model.graph.node, {output})
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [each for each in model.graph.input if each.name in used - constants]
    if len(given) != 1 or not _is_image(given[0].type.tensor_type):
        shapes = ", ".join(map(_shown, given)) or "nothing"
        expected = "one image input: (n, 3, height, width) or (n, height, width, 3), numbers"
        raise onnx_fault(path, f"takes {shapes}", "export the part of it that takes images", expected)
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(nodes, "network", given, [port(output)], initializer=initializers)
    return Graph(model_of(graph, model), given[0].name, output)


def _output(graph: Any, path: Path, backbone: Network) -> str:
    """Return the tensor that a line names: an output of the file, or any other of its tensors."""
    outputs = [each.name.removeprefix(PREFIX) for each in graph.output]
    wanted = backbone.output or (outputs[0] if len(outputs) == 1 else None)
    known = {name.removeprefix(PREFIX) for node in graph.node for name in node.output} | set(outputs)
    if wanted in known:
        return f"{PREFIX}{wanted}"
    what = f"has no output '{wanted}'" if wanted else f"has {len(outputs)} outputs"
    remedy = nearest(wanted or "", [*outputs, *sorted(known)]) or f"name one as output of backbones.{backbone.name}"
    raise onnx_fault(path, what, remedy, f"the name of one of its outputs ({', '.join(outputs)}) or other tensors")


def _is_image(kind: Any) -> bool:
    dims = dims_of(kind)
    return kind.elem_type in KINDS and len(dims) == MAPS and bool({dims[1], dims[3]} & {None, CHANNELS})


def _shown(given: Any) -> str:
    dims = ", ".join("?" if dim is None else str(dim) for dim in dims_of(given.type.tensor_type))
    return f"{given.name.removeprefix(PREFIX)} ({dims})"


def _with_shapes(graph: Graph, path: Path, backbone: Network) -> Graph:
    """Return a graph with the order of its channels, the kind of its batches and the shape of its output.

    Where the file leaves the dimensions open, the first order that its operations accept is taken. Raises WeightsError
    when none fits images of the backbone's size.
    """
    kind, size = graph.model.graph.input[0].type.tensor_type, backbone.input_size
    batch, *dims = dims_of(kind)
    orders = [
        last
        for last, shape in ((False, (CHANNELS, size, size)), (True, (size, size, CHANNELS)))
        if all(dim in (None, wanted) for dim, wanted in zip(dims, shape, strict=True))
    ]
    if not orders:
        sides = dims[:2] if dims[2] == CHANNELS else dims[1:]
        taken = " x ".join("any" if side is None else str(side) for side in sides)
        remedy = f"set input_size to {sides[0]}, and add it to preprocess.sizes" if len({*sides}) == 1 else "export it"
        raise onnx_fault(path, f"takes images of {taken} pixels", remedy, f"{size} x {size}, its input_size")
    if batch not in (None, 1):
        raise onnx_fault(path, f"takes {batch} images at a time", "export it again", "batches of any size, or of one")
    return _first_that_fits([replace(graph, last=last, single=batch == 1) for last in orders], backbone)


def _first_that_fits(graphs: list[Graph], backbone: Network) -> Graph:
    try:
        return measured(graphs[0], backbone.input_size)
    except Exception as error:  # OpenVINO raises all kinds
        require_machine(error)
        if len(graphs) == 1:
            raise _not_run(backbone, error) from error
    return _first_that_fits(graphs[1:], backbone)


def _not_run(backbone: Network, error: Exception) -> EngineError:
    return EngineError(
        f"'{backbone.weights}' of backbone '{backbone.name}' cannot be run ({first_line(error)[:300]})",
        f"a network that OpenVINO runs on images of {backbone.input_size} pixels as ONNX Runtime does",
        "try another input_size or opset, or export it for batches of any size",
    )


def _converted(model: Any, backbone: Network) -> Any:
    """Return a network for OpenVINO. Raise EngineError unless it runs a batch as ONNX Runtime does its images."""
    import openvino

    try:
        found = openvino.Core().read_model(data := model.SerializeToString())
        name_by_position(found)
        flops(found, backbone.input_size)
        _require_same(found, data, backbone.input_size)
    except Exception as error:
        require_machine(error)
        raise _not_run(backbone, error) from error
    return found


def _require_same(network: Any, data: bytes, size: int) -> None:
    """Raise AssertionError unless OpenVINO's features of two images are those of ONNX Runtime, one by one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Nothing but what ends the program: its warnings are about the exporter's work.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, CHANNELS)).astype(np.float32)
    expected = np.concatenate([session.run(["features"], {given: image[None]})[0] for image in images])
    found = compile_openvino(network, Choice("openvino", "float32", 1))(images)["features"]
    np.testing.assert_allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * float(np.abs(expected).max()))
