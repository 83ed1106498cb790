"""Small networks in ONNX files, as other libraries export them: written by hand, or by Keras."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, WIDTH, CLASSES = 32, 12, 5
# Tokens of 8 x 8 pixels and a class token before them.
PATCH, TOKENS = 8, 17


def _constants(**values: Any) -> list[Any]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


# The name, the kind and the shape of an input or output.
Port = tuple[str, int, list[Any] | None]


def saved(
    path: Path, nodes: list[Any], given: list[Port], found: list[Port], constants: list[Any] | None = None, **own: int
) -> Path:
    """Write a graph of these operations of opset 17, or `opset`."""
    inputs, outputs = ([helper.make_tensor_value_info(*port) for port in ports] for ports in (given, found))
    graph = helper.make_graph(nodes, "main", inputs, outputs, initializer=constants)
    opsets = [helper.make_opsetid("", own.get("opset", 17)), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def cnn(path: Path, batch: int | str = "batch", side: int | str = SIDE, *, normalised: bool = False) -> Path:
    """Write a CNN, NCHW, of two convolutions, with three outputs: `map`, `pooled` and `scores`.

    Where it is `normalised`, a BatchNormalization stands between the two.
    """
    draw = np.random.default_rng(1)
    constants = _constants(
        kernel_1=draw.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        kernel_2=draw.normal(0, 0.2, (WIDTH, 8, 3, 3)).astype(np.float32),
        scores_kernel=draw.normal(0, 0.5, (WIDTH, CLASSES)).astype(np.float32),
        scale=np.full(8, 1.5, np.float32), shift=np.full(8, 0.1, np.float32),
        mean=draw.normal(0, 0.2, 8).astype(np.float32), variance=draw.uniform(0.5, 1, 8).astype(np.float32),
    )  # fmt: skip
    names = ["kernel_1", "kernel_2", "scores_kernel", *(["scale", "shift", "mean", "variance"] if normalised else [])]
    convolved = helper.make_node("Conv", ["image", "kernel_1"], ["convolved"], strides=[2, 2], pads=[1, 1, 1, 1])
    normal = helper.make_node(
        "BatchNormalization", ["convolved", "scale", "shift", "mean", "variance"], ["normal"], name="first_norm"
    )
    below = "normal" if normalised else "convolved"
    rest = [
        helper.make_node("Relu", [below], ["active"]),
        helper.make_node("Conv", ["active", "kernel_2"], ["raw_map"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["raw_map"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["average"]),
        helper.make_node("Flatten", ["average"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "scores_kernel"], ["scores"]),
    ]
    return saved(
        path,
        [convolved, *([normal] if normalised else []), *rest],
        # Named like the input of every network here.
        [("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [
            ("map", TensorProto.FLOAT, [batch, WIDTH, None, None]),
            ("pooled", TensorProto.FLOAT, [batch, WIDTH]),
            ("scores", TensorProto.FLOAT, [batch, CLASSES]),
        ],
        [constant for constant in constants if constant.name in names],
    )


def tokens(path: Path, batch: int | str = "batch", channels: int | str = 3) -> Path:
    """Write a network of patches with a class token and one attention, with the output `tokens`.

    For a fixed `batch` it is written as tracing does it: its class token and shapes hold for this number of images.
    """
    draw = np.random.default_rng(2)
    weights = {name: draw.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32) for name in ("query", "key", "value")}
    fixed = isinstance(batch, int)
    constants = _constants(
        patches=draw.normal(0, 0.1, (WIDTH, 3, PATCH, PATCH)).astype(np.float32),
        class_token=draw.normal(0, 1, (batch if fixed else 1, 1, WIDTH)).astype(np.float32),
        places=draw.normal(0, 1, (1, TOKENS, WIDTH)).astype(np.float32),
        shape=np.array([batch if fixed else 0, WIDTH, -1]),
        depth=np.array(WIDTH**0.5, np.float32),
        **weights,
    )
    start = "class_token"
    nodes = [
        helper.make_node("Conv", ["pixel_values", "patches"], ["cut"], strides=[PATCH, PATCH]),
        helper.make_node("Reshape", ["cut", "shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["sequence"], perm=[0, 2, 1]),
    ]
    if not fixed:
        start = "class_tokens"
        constants += _constants(rest=np.array([1, WIDTH]))
        nodes += [
            helper.make_node("Shape", ["pixel_values"], ["count"], start=0, end=1),
            helper.make_node("Concat", ["count", "rest"], ["wanted"], axis=0),
            helper.make_node("Expand", ["class_token", "wanted"], [start]),
        ]
    nodes += [
        helper.make_node("Concat", [start, "sequence"], ["joined"], axis=1),
        helper.make_node("Add", ["joined", "places"], ["placed"]),
        *(helper.make_node("MatMul", ["placed", name], [f"{name}s"]) for name in weights),
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["querys", "turned"], ["alike"]),
        helper.make_node("Div", ["alike", "depth"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "values"], ["mixed"]),
        helper.make_node("Add", ["placed", "mixed"], ["tokens"]),
    ]
    side: int | str = SIDE if channels == 3 else "side"
    return saved(
        path,
        nodes,
        [("pixel_values", TensorProto.FLOAT, [batch, channels, side, side])],
        [("tokens", TensorProto.FLOAT, [batch, None, WIDTH])],
        constants,
    )


def of_keras(path: Path, *, pooled: bool = True) -> Path:
    """Write a network that Keras exports, NHWC."""
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((SIDE, SIDE, 3), name="photos")
    tensor = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(image)
    tensor = keras.layers.Conv2D(WIDTH, 3, strides=2, padding="same", activation="relu")(tensor)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(tensor) if pooled else tensor)
    # Keras exports nothing that was never called.
    model(np.zeros((1, SIDE, SIDE, 3), np.float32))
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Keras asks NumPy for a name that this will have again.
        warnings.simplefilter("ignore", FutureWarning)
        model.export(path, format="onnx", verbose=False)
    return path
