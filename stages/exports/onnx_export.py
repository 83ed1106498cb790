"""Writing a classifier whose backbone is from an ONNX file: as ONNX, and for OpenVINO.

Both forms are one graph: the network of stage weights with the head as further operations. It takes and returns what
the forms of other backbones do (see exporting.py, whose forms of Keras, TensorFlow and LiteRT it does not have), and
its class names are in the same places. Equal classifiers give equal bytes. Imports no Keras.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from stages.core.head import LEAK, Head
from stages.core.manifest import EMBEDDING, IMAGES, PATHS, PROBABILITIES
from stages.core.settings.export import Format
from stages.networks import engine, onnx_file
from stages.networks.onnx_graph import Nodes, model_of, needed, port


@dataclass(frozen=True)
class Classifier:
    """The classifier to export: its `backbone`, an ONNX model, the head with the temperature, and its classes."""

    backbone: Any
    head: Head
    classes: tuple[str, ...]

    @property
    def classes_json(self) -> str:
        """The classes as a JSON list."""
        return json.dumps(list(self.classes), ensure_ascii=False)


def read(weights: Path, head: Head, classes: tuple[str, ...]) -> Classifier:
    """Return the classifier made of the network in `weights`, `data/weights/B`, and a `head`."""
    return Classifier(onnx.load(weights / onnx_file.BACKBONE), head, classes)


def write(classifier: Classifier, form: Format, folder: Path) -> None:
    """Write one form of the classifier, onnx or openvino, into `folder`."""
    path = folder / PATHS[form]
    path.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[form](classifier, path)


def _onnx(classifier: Classifier, path: Path) -> None:
    model = _joined(classifier, (PROBABILITIES,))
    helper.set_model_props(model, {"classes": classifier.classes_json})
    onnx_file.save(model, path)


def _openvino(classifier: Classifier, path: Path) -> None:
    """Write an OpenVINO model that also returns `embedding` (n, width), the input of its head."""
    import openvino

    built = openvino.Core().read_model(_joined(classifier, (PROBABILITIES, EMBEDDING)).SerializeToString())
    engine.name_by_position(built)
    # The engine also finds inputs and outputs by the names of their operations.
    built.get_parameters()[0].set_friendly_name(IMAGES)
    built.set_rt_info(classifier.classes_json, ["model_info", "classes"])
    engine.save(built, path)


def _joined(classifier: Classifier, outputs: tuple[str, ...]) -> Any:
    """Return the model from bytes (n, size, size, 3) to `outputs`."""
    network, added = classifier.backbone.graph, Nodes()
    added.add("Cast", [IMAGES], engine.IMAGE, to=TensorProto.FLOAT)
    added.nodes += network.node
    _add_head(added, classifier.head)
    added.add("Identity", ["features"], EMBEDDING)
    nodes, used = needed(added.nodes, outputs)
    kept = [each for each in (*network.initializer, *added.constants) if each.name in used]
    dims = [each.dim_value for each in network.input[0].type.tensor_type.shape.dim][1:]
    given = port(IMAGES, TensorProto.UINT8, ["n", *dims])
    widths = {PROBABILITIES: len(classifier.classes), EMBEDDING: classifier.head.width}
    found = [port(name, shape=["n", widths[name]]) for name in outputs]
    return model_of(helper.make_graph(nodes, "classifier", [given], found, initializer=kept), classifier.backbone)


def _add_head(added: Nodes, head: Head) -> None:
    """Add what turns features into probabilities, as `Head.probabilities` does."""
    tensor = "features"
    if head.moments is not None:
        mean, deviation = head.moments
        tensor = added.add("Sub", [tensor, added.constant("feature_mean", mean)], "centred_features")
        tensor = added.add("Div", [tensor, added.constant("feature_deviation", deviation)], "normalised_features")
    for number, layer in enumerate(head.layers, 1):
        kernel, bias = (added.constant(f"{name}_{number}", getattr(layer, name)) for name in ("kernel", "bias"))
        tensor = added.add("Add", [added.add("MatMul", [tensor, kernel], f"product_{number}"), bias], f"sum_{number}")
        tensor = _ACTIVATIONS[layer.activation](added, tensor)
    added.add("Softmax", [tensor], PROBABILITIES, axis=1)


def _silu(added: Nodes, tensor: str) -> str:
    return added.add("Mul", [tensor, added.add("Sigmoid", [tensor], f"{tensor}_gate")], f"{tensor}_silu")


def _gelu(added: Nodes, tensor: str) -> str:
    """Add x / 2 * (1 + erf(x / sqrt(2))); ONNX has it as one operation only from opset 20 on."""
    root, one, half = (
        added.constant(f"{tensor}_{name}", value) for name, value in (("root", np.sqrt(2)), ("one", 1), ("half", 0.5))
    )
    error = added.add("Erf", [added.add("Div", [tensor, root], f"{tensor}_scaled")], f"{tensor}_erf")
    below = added.add("Mul", [added.add("Add", [error, one], f"{tensor}_twice"), half], f"{tensor}_below")
    return added.add("Mul", [tensor, below], f"{tensor}_gelu")


def _by(kind: str, **attributes: float) -> Callable[[Nodes, str], str]:
    """Return what adds an activation that is one operation of ONNX."""
    return lambda added, tensor: added.add(kind, [tensor], f"{tensor}_active", **attributes)


# The names are those of stages/core/head.py; SELU's constants are ONNX's defaults.
_ACTIVATIONS: dict[str, Callable[[Nodes, str], str]] = {
    "linear": lambda _, tensor: tensor, "relu": _by("Relu"), "leaky_relu": _by("LeakyRelu", alpha=LEAK),
    "tanh": _by("Tanh"), "silu": _silu, "gelu": _gelu, "elu": _by("Elu"), "selu": _by("Selu"),
}  # fmt: skip
_WRITERS: dict[Format, Callable[[Classifier, Path], None]] = {"onnx": _onnx, "openvino": _openvino}
