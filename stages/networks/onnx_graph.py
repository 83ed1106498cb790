"""Graphs of ONNX: the part of a file that is used, and what is put before and behind it.

Imports no Keras. Sources: https://onnx.ai/onnx/repo-docs/IR.html, https://onnx.ai/onnx/operators/.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from stages.core.builders.inputs import Inputs, mean_and_deviation
from stages.core.builders.onnx_files import Tokens, onnx_fault, onnx_tensors
from stages.core.errors import UserError
from stages.core.settings.backbones import Network
from stages.networks.engine import IMAGE

# What the tensors of a file are called, so that none has a name of ours.
PREFIX = "network/"
CHANNELS = 3
# Kinds of tensors that may hold images, and that weights have.
KINDS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8}
_WEIGHTS = {*KINDS, TensorProto.BFLOAT16, TensorProto.INT8}
# The dimensions of feature maps and images, of tokens (images, tokens, width), and of vectors.
MAPS, _TOKENS, _VECTORS = 4, 3, 2
_UNCHANGED, _TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1)
# The dimensions of each output for one image, whatever their sizes.
_ONE: dict[str, list[None]] = {"features": [None], "map": [None] * 3, "normalized": [None] * 3}
# Operations that leave each value of a pooled feature map what it is, and where.
_RESHAPING = {"Flatten", "Squeeze", "Reshape", "Identity", "Dropout", "Unsqueeze"}
_POOLING = {"GlobalAveragePool": "average", "ReduceMean": "average", "GlobalMaxPool": "max", "ReduceMax": "max"}


@dataclass(frozen=True)
class Graph:
    """The part of a file's graph that its chosen `output` depends on, with its own names; `image` is its input.

    `last` says whether channels come last, `shape` is the output's for one image, `single` whether it takes but one.
    """

    model: Any
    image: str
    output: str
    last: bool = False
    single: bool = False
    shape: tuple[int, ...] = ()


@dataclass
class Nodes:
    """Operations and constants that are added to a graph, each named after its output."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operation with one output, and return that."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any, kind: Any = np.float32) -> str:
        """Add a constant tensor."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name


def port(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int | str | None] | None = None) -> Any:
    """Return an input or output of a graph; a dimension with a name varies, None is any."""
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(graph: Any, like: Any) -> Any:
    """Return a model of a graph with the operations that another one knows."""
    return helper.make_model(
        graph, opset_imports=like.opset_import, functions=like.functions, ir_version=like.ir_version
    )


def needed(nodes: Iterable[Any], outputs: Iterable[str]) -> tuple[list[Any], set[str]]:
    """Return the operations that some tensors depend on, in their order, and the names of all tensors they use."""
    used, kept = set(outputs), list[Any]()
    for node in reversed([*nodes]):
        # What is left out has no name.
        if (used - {""}) & set(node.output):
            kept.append(node)
            used |= set(_taken(node))
    return kept[::-1], used


def _taken(node: Any) -> Iterator[str]:
    """Yield the names of the tensors that an operation takes, also within its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for below in inner.node:
                yield from _taken(below)
            yield from (each.name for each in inner.output)


def dims_of(kind: Any) -> list[int | None]:
    """Return the dimensions of a tensor's type, None for those that vary."""
    return [each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None for each in kind.shape.dim]


def measured(graph: Graph, size: int) -> Graph:
    """Return a graph that takes images of this size, and the shape of its output for one image."""
    shape = [size, size, CHANNELS] if graph.last else [CHANNELS, size, size]
    given = graph.model.graph.input[0]
    sized = port(graph.image, given.type.tensor_type.elem_type, [1 if graph.single else "n", *shape])
    del graph.model.graph.input[:]
    graph.model.graph.input.append(sized)
    return replace(graph, shape=_shape(graph, graph.output))


def _shape(graph: Graph, tensor: str) -> tuple[int, ...]:
    """Return the shape of a tensor for one image. Raise an exception of OpenVINO's where its operations do not fit."""
    import openvino

    own = graph.model.graph
    part = helper.make_graph(own.node, "part", own.input, [port(tensor)], initializer=own.initializer)
    found = openvino.Core().read_model(model_of(part, graph.model).SerializeToString())
    found.reshape([1, *found.inputs[0].get_partial_shape()[1:]])
    if not found.outputs[0].get_element_type().is_real():
        raise ValueError("its output is no tensor of real numbers")
    return tuple(found.outputs[0].get_shape())


def joined(graph: Graph, backbone: Network, path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the model from raw images to features, and its facts."""
    before, after, own = Nodes(), Nodes(), graph.model.graph
    _prepare(before, backbone.inputs, graph)
    shown, outputs = _add_features(after, graph, backbone, path), ["features"]
    if shown:
        outputs.append("map")
    if normal := _normalization(graph):
        cast = after.add("Cast", [normal.pop("tensor")], "not_normalized", to=TensorProto.FLOAT)
        after.add("Transpose", [cast], "normalized", perm=_TO_CHANNELS_LAST)
        outputs.append("normalized")
    facts = {
        "map": shown,
        "normalization": normal and normal | {"output": "normalized"},
        "parameters": sum(
            int(np.prod(each.dims)) for each in onnx_tensors(own) if each.data_type in _WEIGHTS and each.dims
        ),
    }
    initializers = [*own.initializer, *before.constants, *after.constants]
    nodes = [*before.nodes, *own.node, *after.nodes]
    return model_of(_whole(nodes, initializers, outputs, graph, backbone.input_size), graph.model), facts


def _parameters(graph: Any) -> int:
    """Return the number of weights: of real numbers, or quantised ones, in tensors that are no single number."""
    return sum(int(np.prod(each.dims)) for each in onnx_tensors(graph) if each.data_type in _WEIGHTS and each.dims)


def _prepare(found: Nodes, inputs: Inputs, graph: Graph) -> None:
    """Add what turns raw RGB (n, size, size, 3) into what the network takes."""
    tensor = IMAGE
    if inputs == "caffe":
        tensor = found.add("Gather", [tensor, found.constant("bgr", [2, 1, 0], np.int64)], "flipped", axis=3)
    if inputs != "raw":
        mean, deviation = mean_and_deviation(inputs)
        tensor = found.add("Sub", [tensor, found.constant("pixel_mean", mean)], "centred")
        tensor = found.add("Div", [tensor, found.constant("pixel_deviation", deviation)], "scaled")
    if not graph.last:
        tensor = found.add("Transpose", [tensor], "channels_first", perm=_TO_CHANNELS_FIRST)
    found.add("Cast", [tensor], graph.image, to=graph.model.graph.input[0].type.tensor_type.elem_type)


def _add_features(found: Nodes, graph: Graph, backbone: Network, path: Path) -> dict[str, Any] | None:
    """Add what turns the output into "features", and "map" where there is one; return what is known of that, or None.

    Raises WeightsError when the output is none of the three kinds, or `pooling` does not suit it.
    """
    rank = len(graph.shape)
    if rank not in (_VECTORS, _TOKENS, MAPS) or (backbone.pooling in get_args(Tokens)) != (rank == _TOKENS):
        raise _other_output(graph, backbone, path)
    output = found.add("Cast", [graph.output], "output", to=TensorProto.FLOAT)
    if rank == _TOKENS:
        _pool_tokens(found, output, backbone.pooling)
        return None
    if rank == MAPS:
        return _pool_map(found, output, backbone.pooling, _order(graph.shape, last=graph.last), graph.shape)
    found.add("Identity", [output], "features")
    return _add_map_below(found, graph)


def _other_output(graph: Graph, backbone: Network, path: Path) -> UserError:
    what = f"puts out {graph.shape} for one image at '{graph.output.removeprefix(PREFIX)}'"
    if len(graph.shape) == _TOKENS:
        remedy = f"add pooling: class_token or pooling: mean to backbones.{backbone.name}"
        return onnx_fault(path, what, remedy, "pooling in its line, for a sequence of tokens")
    if len(graph.shape) in (_VECTORS, MAPS):
        return onnx_fault(path, what, "leave pooling out", "pooling in its line only for a sequence of tokens")
    return onnx_fault(path, what, "name another output", "a feature map, tokens or a vector for each image")


def _pool_tokens(found: Nodes, output: str, pooling: str) -> None:
    """Take the first of the tokens (n, tokens, width), or their mean."""
    if pooling == "class_token":
        found.add("Gather", [output, found.constant("first", 0, np.int64)], "features", axis=1)
        return
    across = found.add("Transpose", [output], "across", perm=(0, 2, 1))
    found.add("Flatten", [found.add("GlobalAveragePool", [across], "pooled")], "features", axis=1)


def _pool_map(
    found: Nodes, output: str, pooling: str, order: tuple[int, ...], shape: tuple[int, ...]
) -> dict[str, Any] | None:
    """Pool or flatten an output of this `shape`, whose dimensions in `order` are (n, height, width, channels)."""
    shown = found.add("Transpose", [output], "map", perm=order)
    if pooling == "flatten":
        found.add("Flatten", [shown], "features", axis=1)
    else:
        across = found.add("Transpose", [shown], "across", perm=_TO_CHANNELS_FIRST)
        kind = "GlobalMaxPool" if pooling == "max" else "GlobalAveragePool"
        found.add("Flatten", [found.add(kind, [across], "pooled")], "features", axis=1)
    return _described(shape, order, pooling)


def _add_map_below(found: Nodes, graph: Graph) -> dict[str, Any] | None:
    """Add the feature map that a vector is pooled from, if nothing but pooling is between them."""
    makers = {name: node for node in graph.model.graph.node for name in node.output}
    node = makers.get(graph.output)
    while node is not None and node.op_type in _RESHAPING:
        node = makers.get(node.input[0])
    if node is None or (order := _pooled_order(node, graph)) is None:
        return None
    shape = _shape(graph, node.input[0])
    if len(shape) != MAPS or shape[order[3]] != graph.shape[1]:
        return None
    cast = found.add("Cast", [node.input[0]], "pooled_map", to=TensorProto.FLOAT)
    found.add("Transpose", [cast], "map", perm=order)
    return _described(shape, order, _POOLING[node.op_type])


def _described(shape: tuple[int, ...], order: tuple[int, ...], kind: str) -> dict[str, Any] | None:
    """Return what backbone.json says of a feature map, None where it has a single position."""
    _, height, width, channels = (shape[axis] for axis in order)
    return {"shape": [height, width, channels], "tail": [{"kind": kind}]} if height * width > 1 else None


def _order(shape: tuple[int, ...], *, last: bool) -> tuple[int, ...]:
    """Return the dimensions of a feature map, whose height and width are the same, as (n, height, width, channels).

    Where all are the same the order is that of the images: `last` says whether their channels come last.
    """
    _, first, second, third = shape
    if first == second == third:
        return _UNCHANGED if last else _TO_CHANNELS_LAST
    return _UNCHANGED if first == second else _TO_CHANNELS_LAST


def _pooled_order(node: Any, graph: Graph) -> tuple[int, ...] | None:
    """Return the order of what a pooling operation takes, by the dimensions that it pools over; None for another."""
    if node.op_type not in _POOLING:
        return None
    if node.op_type.startswith("Global"):
        return _TO_CHANNELS_LAST
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    axes = attributes.get("axes", _constants(graph.model.graph).get(node.input[1]) if len(node.input) > 1 else None)
    pooled = tuple(sorted(axis % MAPS for axis in ([] if axes is None else axes)))
    return {(1, 2): _UNCHANGED, (2, 3): _TO_CHANNELS_LAST}.get(pooled)


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    """Return the small constant tensors of a graph, by name."""
    named = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            named += [(node.output[0], each.t) for each in node.attribute if each.name == "value"]
    return {name: numpy_helper.to_array(tensor) for name, tensor in named if len(tensor.dims) == 1}


def _normalization(graph: Graph) -> dict[str, Any] | None:
    """Return what the first BatchNormalization after a convolution expects, and the `tensor` that it normalises.

    None without one, as in most files: exporters merge it with the convolution before it.
    """
    convolved = False
    for node in graph.model.graph.node:
        if convolved and node.op_type == "BatchNormalization":
            return _expected(node, graph)
        convolved = convolved or node.op_type == "Conv"
    return None


def _expected(node: Any, graph: Graph) -> dict[str, Any] | None:
    constants = _constants(graph.model.graph)
    mean, variance = (constants.get(name) for name in node.input[3:5])
    if mean is None or variance is None or len(_shape(graph, node.input[0])) != MAPS:
        return None
    epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)
    name = (node.name or node.output[0]).removeprefix(PREFIX)
    return {
        "layer": name,
        "mean": mean.astype(np.float64).tolist(),
        "variance": (variance.astype(np.float64) + epsilon).tolist(),
        "tensor": node.input[0],
    }


def _whole(nodes: list[Any], constants: list[Any], outputs: list[str], graph: Graph, size: int) -> Any:
    """Return a graph from raw images to `outputs`; what takes single images is run on one after the other."""
    dims, inner = [size, size, CHANNELS], Nodes()
    given, found = port(IMAGE, shape=["n", *dims]), [port(name, shape=["n", *_ONE[name]]) for name in outputs]
    if not graph.single:
        return helper.make_graph(nodes, "network", [given], found, initializer=constants)
    inner.add("Reshape", ["one_image", inner.constant("batch_of_one", [1, *dims], np.int64)], IMAGE)
    inner.nodes += nodes
    start = inner.constant("its_only_row", 0, np.int64)
    last = [port(inner.add("Gather", [name, start], f"one_{name}", axis=0), shape=_ONE[name]) for name in outputs]
    first, constants = port("one_image", shape=dims), [*constants, *inner.constants]
    body = helper.make_graph(inner.nodes, "one", [first], last, initializer=constants)
    # Its tensors must not be called like those outside.
    body = compose.add_prefix_graph(body, "each/")
    loop = helper.make_node("Scan", [IMAGE], outputs, name="each_image", body=body, num_scan_inputs=1)
    return helper.make_graph([loop], "network", [given], found)
