"""Inference engines and their precision: OpenVINO on a CPU, TensorFlow on a GPU.

On a CPU OpenVINO is several times faster than TensorFlow, and takes under a second to import. TensorFlow is
imported only if it is the engine.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.builders.onnx_files import ONNX
from stages.core.errors import EngineError
from stages.core.files import read_json, write_json
from stages.core.settings.features import Engine, EngineParams, Precision

if TYPE_CHECKING:
    from stages.core.head import Head

FROZEN, TOP = "frozen.xml", "top.keras"
# The name of the input tensor: raw images, 0 to 255.
IMAGE = "image"
_ARCHITECTURE, _TOP = "architecture.json", "top.xml"

_OPENVINO_PRECISION = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# Far from zero and from overflow, which change the speed of arithmetic.
_ANY_WEIGHT = 0.01
_OPENVINO_CAPABILITY = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}


@dataclass(frozen=True)
class Choice:
    """The engine and precision for this machine, and the number of CPU threads."""

    engine: Engine
    precision: Precision
    threads: int


def choose(params: EngineParams, threads: int, builder: str = "") -> Choice:
    """Resolve `auto` for this machine and a backbone of this `builder`: an ONNX file is run by OpenVINO alone.

    Raises EngineError when the machine does not support the requested precision, or the builder not the engine.
    """
    automatic: Engine = "tensorflow" if has_gpu() and builder != ONNX else "openvino"
    engine = automatic if params.engine == "auto" else params.engine
    if engine == "tensorflow" and builder == ONNX:
        raise EngineError(
            "features.engine = 'tensorflow' with a network from an ONNX file",
            "OpenVINO, which alone runs it",
            "set features.engine to auto or openvino",
        )
    # Never float16 by default: networks trained without it overflow, while bfloat16 has float32's range.
    offered = _offered(engine)
    if params.precision == "auto":
        return Choice(engine, offered[-1], threads)
    if params.precision not in offered:
        raise EngineError(
            f"features.precision = '{params.precision}'",
            f"a precision that {engine} supports on this processor ({', '.join(offered)})",
            "choose one of these or 'auto'",
        )
    return Choice(engine, params.precision, threads)


def has_gpu() -> bool:
    """Return whether an NVIDIA GPU is visible, without importing TensorFlow."""
    return Path("/dev/nvidia0").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def _offered(engine: Engine) -> list[Precision]:
    """Return the precisions this machine supports; the last is that of `auto`."""
    if engine == "tensorflow":
        return ["float32", "float16", "bfloat16"] if has_gpu() else ["bfloat16", "float32"]
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    order: list[Precision] = ["float16", "bfloat16", "float32"]
    if faster_in_bfloat16():
        order = ["float16", "float32", "bfloat16"]
    return [precision for precision in order if _OPENVINO_CAPABILITY[precision] in capabilities]


def faster_in_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor runs networks faster in bfloat16 than in float32.

    It does with AMX, which multiplies whole tiles, and on AMD with AVX-512's dot products: 1.5 (MobileNetV3Small) to
    2.0 times (ResNet50V2) on Zen 5. Intel processors with these products but no AMX are slower: 1.2 to 1.8 times
    (VGG16).
    """
    try:
        words = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return False
    return "amx_bf16" in words or {"AuthenticAMD", "avx512_bf16"} <= words


def compile_openvino(model: Any, choice: Choice) -> Any:
    """Compile an OpenVINO model (or its path) for one stream on `choice.threads` CPU threads."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[choice.precision],
        "INFERENCE_NUM_THREADS": choice.threads,
        "NUM_STREAMS": 1,
        # With more cores than threads, pinning would put concurrent stages on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    return openvino.Core().compile_model(str(model) if isinstance(model, Path) else model, "CPU", settings)


def without_weights(model: Any) -> Any:
    """Return an OpenVINO model of the same operations with a constant instead of each weight.

    The cost of a network depends only on its architecture, and this is its byte-identical description for any training,
    in some kilobytes. When it is compiled, each constant is broadcast to the shape of the weights.
    """
    weightless = model.clone()
    for node in weightless.get_ordered_ops():
        if node.get_type_name() != "Constant" or not node.get_element_type().is_real():
            continue
        node.output(0).replace(_any_weights(list(node.get_shape()), node.get_element_type()).output(0))
    name_by_position(weightless)
    return weightless


def _any_weights(shape: list[int], kind: Any = None) -> Any:
    """Return an operation whose output is a constant tensor of `shape`, of float32 or the OpenVINO type `kind`."""
    import openvino
    from openvino import opset13 as operations

    number = operations.constant(_ANY_WEIGHT, openvino.Type.f32 if kind is None else kind)
    return operations.broadcast(number, operations.constant(shape, openvino.Type.i64))


def name_by_position(model: Any) -> None:
    """Name operations by their position, and only the tensors that users access: default names are counters."""
    kept = {name for end in (*model.inputs, *model.outputs) for name in end.get_names()}
    for position, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{position}")
        for output in node.outputs():
            output.get_tensor().set_names(output.get_names() & kept)
        if node.get_type_name() == "TensorIterator":
            name_by_position(node.get_function())


def save(model: Any, path: Path) -> None:
    """Write `path` (.xml) and the weights beside it (.bin) in float32; equal networks give equal bytes."""
    import openvino

    openvino.save_model(model, str(path), compress_to_fp16=False)


def write_architecture(folder: Path, head: "Head", parameters: int, start: str, top: Any | None) -> None:
    """Write the architecture of a classifier, which determines its costs, without its weights.

    `architecture.json` has the number of `parameters` of the whole classifier, its size in float32, the shape of the
    head, and `input`: "features", or the name of the tensor below the trained blocks (`start`). `top`, an OpenVINO
    model from that tensor to "features", is written without weights as `top.xml` and `.bin`.
    """
    shape = {
        "width": head.width,
        "units": [len(layer.bias) for layer in head.layers],
        "activation": head.layers[0].activation,
        "normalised": head.moments is not None,
    }
    size = round(parameters * np.dtype(np.float32).itemsize / 1e6, 2)
    write_json(folder / _ARCHITECTURE, {"parameters": parameters, "size_mb": size, "input": start, "head": shape})
    if top is not None:
        save(without_weights(top), folder / _TOP)


def read_architecture(folder: Path) -> dict[str, Any]:
    """Return the `architecture.json` that `write_architecture` wrote."""
    return read_json(folder / _ARCHITECTURE)


def join(frozen: Path, folder: Path) -> Any:
    """Return a whole classifier, from raw images to "probabilities", as an OpenVINO model with arbitrary weights.

    The frozen layers are those of the network `frozen`; `folder` has the architecture of the trained ones.
    """
    import openvino
    from openvino import opset13 as operations

    architecture = read_architecture(folder)
    features, parameters = _up_to_the_features(frozen, folder / _TOP, architecture["input"])
    result = operations.result(_with_head(features, architecture["head"]))
    result.output(0).get_tensor().set_names({"probabilities"})
    return openvino.Model([result], parameters, "classifier")


def _up_to_the_features(frozen: Path, trained: Path, start: str) -> tuple[Any, Any]:
    """Return the tensor of the features, and the parameters of its model."""
    import openvino

    core = openvino.Core()
    if start == IMAGE:
        return _tensor(top := core.read_model(str(trained)), "features"), top.get_parameters()
    below = core.read_model(str(frozen))
    if start == "features":
        return _tensor(below, start), below.get_parameters()
    top = core.read_model(str(trained))
    top.get_parameters()[0].output(0).replace(_tensor(below, start))
    return _tensor(top, "features"), below.get_parameters()


def _tensor(model: Any, name: str) -> Any:
    return model.output(name).get_node().input_value(0)


def _with_head(features: Any, head: Mapping[str, Any]) -> Any:
    """Return the operation that outputs the probabilities."""
    from openvino import opset13 as operations

    tensor, width, last = features, head["width"], len(head["units"])
    if head["normalised"]:
        centred = operations.subtract(tensor, _any_weights([width]))
        tensor = operations.divide(centred, _any_weights([width]))
    for number, units in enumerate(head["units"], 1):
        product = operations.matmul(tensor, _any_weights([width, units]), transpose_a=False, transpose_b=False)
        tensor = operations.add(product, _any_weights([units]))
        if number < last:
            tensor = _activated(tensor, head["activation"])
        width = units
    return operations.softmax(tensor, 1)


def _activated(tensor: Any, name: str) -> Any:
    """Apply Keras's activation `name`; slopes are arbitrary."""
    from openvino import opset13 as operations

    if name == "leaky_relu":
        return operations.prelu(tensor, _any_weights([1]))
    if name == "gelu":
        return operations.gelu(tensor, "erf")
    if name == "elu":
        return operations.elu(tensor, _ANY_WEIGHT)
    if name == "selu":
        return operations.selu(tensor, _any_weights([1]), _any_weights([1]))
    return {"relu": operations.relu, "silu": operations.swish, "tanh": operations.tanh}[name](tensor)


def flops(model: Any, size: int) -> int:
    """Return the floating-point operations for one image of `size` pixels, a multiply-add counting two.

    Counts convolutions and matrix products, which make up all but a few per cent of these networks.
    """
    single = model.clone()
    single.reshape([1, size, size, 3])
    return _model_flops(single)


def _model_flops(model: Any) -> int:
    return sum(_node_flops(node) for node in model.get_ordered_ops())


def _node_flops(node: Any) -> int:
    kind = node.get_type_name()
    if kind == "TensorIterator":
        # A network that takes its images one by one: here there is one.
        return _model_flops(node.get_function())
    if kind not in {"Convolution", "GroupConvolution", "MatMul"}:
        return 0
    outputs = int(np.prod(list(node.output(0).get_shape())))
    if kind == "MatMul":
        return 2 * outputs * int(list(node.input(0).get_shape())[-1])
    # Kernels are (out, in, height, width), grouped ones (groups, out, in, height, width).
    kernel = list(node.input(1).get_shape())
    return 2 * outputs * int(np.prod(kernel[-3:]))
