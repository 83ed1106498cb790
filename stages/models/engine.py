"""Inference engines: OpenVINO on a CPU, TensorFlow on a GPU; which of them, in which precision.

OpenVINO computes on a CPU what TensorFlow computes, several times faster, and takes under a second to
import. TensorFlow is imported only where it is the engine.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from stages.errors import EngineError
from stages.params import Section

Engine = Literal["openvino", "tensorflow"]
Precision = Literal["float32", "bfloat16", "float16"]
FROZEN = "frozen.xml"
OUTLINE = "outline.xml"

_OPENVINO_PRECISION = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# Far from zero and from overflow, where arithmetic may take another time.
_ANY_WEIGHT = 0.01
_OPENVINO_CAPABILITY = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}


class EngineParams(Section):
    """Section `features`: what computes the frozen part, and how."""

    engine: Literal["auto", "openvino", "tensorflow"]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    batch_size: int = Field(ge=1, le=65536)
    max_cache_gb: float = Field(ge=0, le=100_000, allow_inf_nan=False)


@dataclass(frozen=True)
class Choice:
    """The engine and precision that this machine computes with, and the number of CPU threads."""

    engine: Engine
    precision: Precision
    threads: int


def choose(params: EngineParams, threads: int) -> Choice:
    """Resolve `auto` for this machine. Raise EngineError when it does not offer what is asked for."""
    automatic: Engine = "tensorflow" if has_gpu() else "openvino"
    engine = automatic if params.engine == "auto" else params.engine
    # float16 overflows in networks trained without it, so never by itself: bfloat16 keeps float32's range.
    offered = _offered(engine)
    if params.precision == "auto":
        return Choice(engine, offered[-1], threads)
    if params.precision not in offered:
        raise EngineError(
            f"features.precision = '{params.precision}'",
            f"what {engine} computes in on this processor ({', '.join(offered)})",
            "choose one of these or 'auto'",
        )
    return Choice(engine, params.precision, threads)


def has_gpu() -> bool:
    """Say whether an NVIDIA GPU is visible, without importing TensorFlow."""
    return Path("/dev/nvidia0").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def _offered(engine: Engine) -> list[Precision]:
    """Return the precisions this machine offers, the one that `auto` takes last."""
    if engine == "tensorflow":
        return ["float32", "float16", "bfloat16"] if has_gpu() else ["bfloat16", "float32"]
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    order: list[Precision] = ["float16", "bfloat16", "float32"]
    if faster_in_bfloat16():
        order = ["float16", "float32", "bfloat16"]
    return [precision for precision in order if _OPENVINO_CAPABILITY[precision] in capabilities]


def faster_in_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the processor computes networks faster in bfloat16 than in float32.

    Those with AMX do, which multiplies whole tiles, and AMD's with AVX-512's dot products: by 1.5 (MobileNetV3Small)
    to 2.0 times (ResNet50V2) on Zen 5. Intel's with these products alone are slower: by 1.2 to 1.8 times (VGG16).
    """
    try:
        words = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return False
    return "amx_bf16" in words or {"AuthenticAMD", "avx512_bf16"} <= words


def compile_openvino(model: Any, choice: Choice) -> Any:
    """Compile an OpenVINO model (or the path of one) for one stream on `choice.threads` CPU threads."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[choice.precision],
        "INFERENCE_NUM_THREADS": choice.threads,
        "NUM_STREAMS": 1,
        # On a machine with more cores than threads, pinning would put concurrent stages on the same ones.
        "ENABLE_CPU_PINNING": False,
    }
    return openvino.Core().compile_model(str(model) if isinstance(model, Path) else model, "CPU", settings)


def outline(model: Any) -> Any:
    """Return an OpenVINO model of the same operations whose weights are all one number.

    What a network costs follows from its shape: two trainings of one shape have the same outline, byte for byte,
    in a file of some kilobytes. When it is compiled each number is spread to a tensor of the weights' shape.
    """
    import openvino
    from openvino import opset13 as operations

    drawn = model.clone()
    for node in drawn.get_ordered_ops():
        if node.get_type_name() != "Constant" or not node.get_element_type().is_real():
            continue
        number = operations.constant(_ANY_WEIGHT, node.get_element_type())
        spread = operations.broadcast(number, operations.constant(list(node.get_shape()), openvino.Type.i64))
        node.output(0).replace(spread.output(0))
    _rename(drawn)
    return drawn


def _rename(model: Any) -> None:
    """Name operations by their place: OpenVINO and Keras count how many they have made in the process."""
    kept = {name for result in model.outputs for name in result.get_names()}
    for position, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{position}")
        for output in node.outputs():
            output.get_tensor().set_names(output.get_names() & kept)


def join(frozen: Path | None, trained: Path) -> Any:
    """Return the whole network as an OpenVINO model: the frozen part, if any, and on it the trained one."""
    import openvino

    core = openvino.Core()
    upper = core.read_model(str(trained))
    if frozen is None:
        return upper
    lower = core.read_model(str(frozen))
    outputs = {output.get_any_name(): output for output in lower.outputs}
    joint = outputs["cut" if "cut" in outputs else "features"]
    parameter = upper.get_parameters()[0]
    parameter.output(0).replace(joint.get_node().input_value(0))
    return openvino.Model(upper.get_results(), lower.get_parameters())


def flops(model: Any, size: int) -> int:
    """Return the floating-point operations for one picture of `size` pixels, a multiply-add counting two.

    Counts convolutions and matrix products, which are all but a few per cent of these networks.
    """
    single = model.clone()
    single.reshape([1, size, size, 3])
    return sum(_node_flops(node) for node in single.get_ordered_ops())


def _node_flops(node: Any) -> int:
    kind = node.get_type_name()
    if kind not in {"Convolution", "GroupConvolution", "MatMul"}:
        return 0
    outputs = int(np.prod(list(node.output(0).get_shape())))
    if kind == "MatMul":
        return 2 * outputs * int(list(node.input(0).get_shape())[-1])
    # Kernels are (out, in, height, width), grouped ones (groups, out, in, height, width).
    kernel = list(node.input(1).get_shape())
    return 2 * outputs * int(np.prod(kernel[-3:]))
