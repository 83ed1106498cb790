"""A trained classifier, joined of its parts, in the forms that others run: SavedModel, ONNX, OpenVINO, LiteRT.

Each form takes raw RGB images (n, size, size, 3), uint8, and gives probabilities (n, classes), float32, that are
scaled by the temperature. Class names travel with the form:

    keras         `labels.txt` in the archive
    saved_model   `assets.extra/labels.txt`
    onnx          key `classes` of the metadata, a list in JSON
    openvino      `model_info/classes` of the runtime information, the same
    litert        `labels.txt` in the zip archive behind the model, as LiteRT's metadata have associated files

`labels.txt` has a class in each line, in the order of the probabilities. Equal classifiers give equal bytes in
processes that export nothing before them: TensorFlow numbers functions as it makes them.
"""

import gc
import json
import logging
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stages.core.errors import one_line
from stages.core.files import replacing, strip_dates
from stages.core.head import Head
from stages.core.manifest import EMBEDDING, IMAGES, PATHS, PROBABILITIES
from stages.core.settings.export import Format
from stages.networks import engine, keras_engine, keras_heads

LABELS = "labels.txt"
# The newest set of operations that tf2onnx 1.17 writes; ONNX Runtime reads it from 1.14 on.
_OPSET = 18
# New objects, and rounds of the generations before, after which Python looks for garbage; the last is 10 else.
_OFTEN = (100, 1, 1)


@dataclass(frozen=True)
class Classifier:
    """What is exported: the network with the temperature in its head, its classes, and images to calibrate int8 by.

    `calibration` yields single images (size, size, 3), uint8, the same each time it is called.
    """

    model: keras.Model
    classes: tuple[str, ...]
    calibration: Callable[[], Iterator[NDArray[np.uint8]]]

    @property
    def labels(self) -> str:
        """The classes, one in each line."""
        return "".join(f"{one_line(name)}\n" for name in self.classes)

    @property
    def listed(self) -> str:
        """The classes as a list in JSON."""
        return json.dumps(list(self.classes), ensure_ascii=False)


def joined(backbone: keras.Model, top: keras.Model | None, head: Head) -> keras.Model:
    """Return the classifier of a `backbone`, with the weights of its trained `top`, if any, and of a `head` on it.

    Raises RuntimeError when the top is not that of this backbone.
    """
    if top is not None:
        _take_over(backbone, top)
    # Its layers "backbone" and "head" are what other forms, explanations and later runs ask for.
    return keras.Model(backbone.input, keras_heads.joined(head)(backbone(backbone.input)), name="classifier")


def _take_over(backbone: keras.Model, top: keras.Model) -> None:
    """Put the weights of `top` into the layers of the same names."""
    trained = [layer for layer in top.layers if layer.weights]
    layers = {layer.name: layer for layer in backbone.layers}
    if unknown := [layer.name for layer in trained if layer.name not in layers]:
        raise RuntimeError(f"trained layers that the backbone has not: {', '.join(unknown)}")
    for layer in trained:
        layers[layer.name].set_weights(layer.get_weights())


def write(classifier: Classifier, form: Format, folder: Path) -> None:
    """Write one form of the classifier into `folder`.

    Raises what the converter raises for an operation that it does not know.
    """
    path = folder / PATHS[form]
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet(), _collecting():
        _WRITERS[form](classifier, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what converters, also those in C++, say of their own steps; it comes after all where one fails."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _collecting() -> Iterator[None]:
    """Have Python look for garbage often: Python counts objects, and a few of a converter's hold whole networks.

    tf2onnx copies the network for each of its optimisers; left to itself Python keeps dozens of the copies.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    # What is there already is not looked at again. A full round comes only where a quarter more is there than after
    # the last, so that one has to follow.
    gc.freeze()
    gc.collect()
    gc.set_threshold(*_OFTEN)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        gc.collect()


def _keras(classifier: Classifier, path: Path) -> None:
    keras_engine.save(classifier.model, path)
    _attach(path, classifier.labels)
    strip_dates(path)


def _saved_model(classifier: Classifier, path: Path) -> None:
    """Write a SavedModel of one signature; its weights are variables, so that they lie in it once."""
    module = tf.Module()
    # The variables alone: of a whole network TensorFlow saves a function for each layer, which takes twice as long.
    module.weights = [variable.value for variable in classifier.model.variables]
    serve = tf.function(
        lambda images: {PROBABILITIES: classifier.model(tf.cast(images, tf.float32), training=False)},
        input_signature=[_signature(classifier.model)],
    )
    tf.saved_model.save(module, str(path), signatures=serve)
    _without_uuid(path / "fingerprint.pb")
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / LABELS).write_text(classifier.labels, encoding="utf-8")


def _without_uuid(path: Path) -> None:
    """Drop the number that TensorFlow draws for each SavedModel from its fingerprint, whose hashes stay."""
    from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

    fingerprint = FingerprintDef.FromString(path.read_bytes())
    fingerprint.ClearField("uuid")
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _openvino(classifier: Classifier, path: Path) -> None:
    """Write an OpenVINO model that also gives `embedding` (n, width), which is what its head is given."""
    import openvino

    image = keras.Input(classifier.model.input.shape[1:], name=IMAGES)
    embedding = classifier.model.get_layer("backbone")(image)
    probabilities = classifier.model.get_layer("head")(embedding)
    network = keras_engine.convert(image, {PROBABILITIES: probabilities, EMBEDDING: embedding})
    steps = openvino.preprocess.PrePostProcessor(network)
    # The engine widens bytes on its own threads.
    steps.input().tensor().set_element_type(openvino.Type.u8)
    built = steps.build()
    built.input().get_tensor().set_names({IMAGES})
    _name_by_place(built)
    built.set_rt_info(classifier.listed, ["model_info", "classes"])
    engine.save(built, path)


def _name_by_place(model: Any) -> None:
    """Name operations by their place, and tensors not at all but those that users ask for: OpenVINO counts them."""
    kept = {name for port in (*model.inputs, *model.outputs) for name in port.get_names()}
    for position, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{position}")
        for output in node.outputs():
            output.get_tensor().set_names(output.get_names() & kept)
    # The engine knows inputs and outputs by their operations' names as well.
    model.get_parameters()[0].set_friendly_name(IMAGES)


def _onnx(classifier: Classifier, path: Path) -> None:
    import onnx
    import tf2onnx

    graph, given, found = _graph(classifier.model)
    network, _ = tf2onnx.convert.from_graph_def(
        _with_vectors(_without_erfc(_without_calls(graph))),
        name="classifier",
        input_names=[given],
        output_names=[found],
        opset=_OPSET,
        tensors_to_rename={given: IMAGES, found: PROBABILITIES},
    )
    _name_in_order(network.graph)
    onnx.helper.set_model_props(network, {"classes": classifier.listed})
    with replacing(path) as temporary:
        temporary.write_bytes(network.SerializeToString(deterministic=True))


def _graph(model: keras.Model) -> tuple[Any, str, str]:
    """Return the network as TensorFlow's graph, with the names of input and output."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = _frozen(model)
    # What layers hold as tensors, such as means, are inputs of the function.
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    return graph, function.inputs[0].name, function.outputs[0].name


def _without_calls(graph: Any) -> Any:
    """Return TensorFlow's graph with all functions ready to be taken apart, which tf2onnx lets TensorFlow do.

    Keras lets XLA compile convolutions in groups, as ConvNeXt has them, and those functions stay whole.
    """
    for function in graph.library.function:
        for mark in ("_noinline", "_XlaMustCompile"):
            function.attr.pop(mark, None)
    for node in graph.node:
        node.attr.pop("_XlaMustCompile", None)
    return graph


def _without_erfc(graph: Any) -> Any:
    """Return TensorFlow's graph with 1 - erf(x) in place of erfc(x), which is in GELU and which ONNX has not."""
    for node in [node for node in graph.node if node.op == "Erfc"]:
        one, inner = (
            graph.node.add(name=f"{node.name}/{name}", op=op) for name, op in (("one", "Const"), ("erf", "Erf"))
        )
        one.attr["dtype"].CopyFrom(node.attr["T"])
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1, tf.DType(node.attr["T"].type), [1]))
        inner.attr["T"].CopyFrom(node.attr["T"])
        inner.input.extend(node.input)
        node.op, node.input[:] = "Sub", [one.name, inner.name]
    return graph


def _with_vectors(graph: Any) -> Any:
    """Return TensorFlow's graph with numbers that are added to tensors as vectors of one element.

    tf2onnx 1.17 looks for the longest side of what is added to a convolution's output (`_add_handler` in
    tf2onnx/optimizer/transpose_optimizer.py), fails where it has none, as in hard-swish, and then leaves a
    transposition on each side of every convolution.
    """
    users: dict[str, set[str]] = {}
    for node in graph.node:
        for source in node.input:
            users.setdefault(source.partition(":")[0].lstrip("^"), set()).add(node.op)
    for node in graph.node:
        number = node.op == "Const" and not node.attr["value"].tensor.tensor_shape.dim
        if number and users.get(node.name) == {"AddV2"}:
            node.attr["value"].tensor.tensor_shape.dim.add(size=1)
            node.attr.pop("_output_shapes", None)
    return graph


def _name_in_order(graph: Any) -> None:
    """Name operations and tensors by the order of their use, but for input and output, and put weights in it.

    tf2onnx counts all that it makes, and keeps weights in sets.
    """
    names = {port.name: port.name for port in (*graph.input, *graph.output)}
    for port in (*graph.input, *graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "n"
    for position, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{position}"
        for ports in (node.input, node.output):
            # An input left out has no name.
            ports[:] = [name and names.setdefault(name, f"tensor_{len(names)}") for name in ports]
    places = {name: place for place, name in enumerate(names)}
    graph.initializer.sort(key=lambda tensor: places[tensor.name])
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    del graph.value_info[:]


def _litert(classifier: Classifier, path: Path) -> None:
    _convert_litert(classifier, path, int8=False)


def _litert_int8(classifier: Classifier, path: Path) -> None:
    """Write weights and activations in int8, scaled by what the calibration images give; in and out stay as they are.

    Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference".
    """
    _convert_litert(classifier, path, int8=True)


def _convert_litert(classifier: Classifier, path: Path, *, int8: bool) -> None:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([_frozen(classifier.model)], tf.Module())
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in classifier.calibration())
    with replacing(path) as temporary:
        temporary.write_bytes(converter.convert())
        _attach(temporary, classifier.labels)


def _attach(path: Path, labels: str) -> None:
    """Add `labels.txt` to a zip archive; a file that is none gets one behind its end."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), labels)


def _signature(model: keras.Model) -> Any:
    return tf.TensorSpec((None, *model.input.shape[1:]), tf.uint8, name=IMAGES)


def _frozen(model: keras.Model) -> Any:
    """Return the network as a function of TensorFlow from bytes to probabilities, its weights constants in it."""
    weights = [
        [variable.numpy() for variable in kind] for kind in (model.trainable_variables, model.non_trainable_variables)
    ]

    def serve(images: Any) -> dict[str, Any]:
        found, _ = model.stateless_call(*weights, tf.cast(images, tf.float32), training=False)
        return {PROBABILITIES: found}

    return tf.function(serve, input_signature=[_signature(model)]).get_concrete_function()


_WRITERS: dict[Format, Callable[[Classifier, Path], None]] = {
    "keras": _keras,
    "saved_model": _saved_model,
    "onnx": _onnx,
    "openvino": _openvino,
    "litert": _litert,
    "litert_int8": _litert_int8,
}
