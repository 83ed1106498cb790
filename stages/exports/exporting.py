"""Writing a trained classifier in other formats: SavedModel, ONNX, OpenVINO, LiteRT.

Each form takes raw RGB images (n, size, size, 3), uint8, and returns probabilities (n, classes), float32, after
temperature scaling. The class names are part of each form:

    keras         `labels.txt` in the archive
    saved_model   `assets.extra/labels.txt`
    onnx          key `classes` of the metadata, a JSON list
    openvino      `model_info/classes` of the runtime information, the same
    litert        `labels.txt` in a zip archive appended to the model, as LiteRT's metadata store associated files

`labels.txt` has one class per line, in the order of the probabilities. Equal classifiers give equal bytes if they are
the first export of their process: TensorFlow numbers functions in the order of their creation.
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
from stages.networks import engine, keras_engine, keras_heads, unrolled

LABELS = "labels.txt"
# The newest set of operations that tf2onnx 1.17 writes; ONNX Runtime reads it from 1.14 on.
_OPSET = 18
# Thresholds of Python's garbage collector (gc.set_threshold), by default (700, 10, 10).
_OFTEN = (100, 1, 1)


@dataclass(frozen=True)
class Classifier:
    """The classifier to export: its network, with the temperature in the head, its classes, images to calibrate int8.

    `calibration` yields single images (size, size, 3), uint8, the same each time it is called.
    """

    model: keras.Model
    classes: tuple[str, ...]
    calibration: Callable[[], Iterator[NDArray[np.uint8]]]

    @property
    def labels(self) -> str:
        """The classes, one per line."""
        return "".join(f"{one_line(name)}\n" for name in self.classes)

    @property
    def classes_json(self) -> str:
        """The classes as a JSON list."""
        return json.dumps(list(self.classes), ensure_ascii=False)


def joined(backbone: keras.Model, top: keras.Model | None, head: Head) -> keras.Model:
    """Return the classifier made of a `backbone`, the weights of its trained `top`, if any, and a `head`.

    Raises RuntimeError when the top belongs to another backbone.
    """
    if top is not None:
        _copy_weights(backbone, top)
    # Other forms, explanations and later runs look up its layers "backbone" and "head".
    features = unrolled.saved_form(backbone)(backbone.input)
    return keras.Model(backbone.input, keras_heads.joined(head)(features), name="classifier")


def _copy_weights(backbone: keras.Model, top: keras.Model) -> None:
    """Copy the weights of `top` to the layers of the same names."""
    trained = [layer for layer in top.layers if layer.weights]
    layers = {layer.name: layer for layer in backbone.layers}
    if unknown := [layer.name for layer in trained if layer.name not in layers]:
        raise RuntimeError(f"trained layers that the backbone does not have: {', '.join(unknown)}")
    for layer in trained:
        layers[layer.name].set_weights(layer.get_weights())


def write(classifier: Classifier, form: Format, folder: Path) -> None:
    """Write one form of the classifier into `folder`.

    Raises the converter's exception for an unsupported operation.
    """
    path = folder / PATHS[form]
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet(), _collecting():
        _WRITERS[form](classifier, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the output of converters, including C++ code; print it only if one fails."""
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
    """Collect garbage often: Python counts objects, not bytes, and a few objects of a converter hold whole networks.

    tf2onnx copies the network for each of its optimisers; by default Python would keep dozens of the copies.
    """
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    gc.collect()
    # Frozen objects are not scanned again; who froze some before decides on them. A full collection runs only when
    # objects have grown by a quarter since the last one, so run one now.
    if not frozen:
        gc.freeze()
        gc.collect()
    gc.set_threshold(*_OFTEN)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        # Of what is older nothing has become garbage.
        gc.collect()
        if not frozen:
            gc.unfreeze()


def _keras(classifier: Classifier, path: Path) -> None:
    keras_engine.save(classifier.model, path)
    _attach(path, classifier.labels)
    strip_dates(path)


def _saved_model(classifier: Classifier, path: Path) -> None:
    """Write a SavedModel with one signature; its weights are variables, so that they are stored once."""
    module = tf.Module()
    # Only the variables: for a whole network TensorFlow also saves a function per layer, which takes twice as long.
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
    """Remove the random UUID from a SavedModel's fingerprint; keep its hashes."""
    from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

    fingerprint = FingerprintDef.FromString(path.read_bytes())
    fingerprint.ClearField("uuid")
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _openvino(classifier: Classifier, path: Path) -> None:
    """Write an OpenVINO model that also returns `embedding` (n, width), the input of its head."""
    import openvino

    image = keras.Input(classifier.model.input.shape[1:], name=IMAGES)
    embedding = classifier.model.get_layer("backbone")(image)
    probabilities = classifier.model.get_layer("head")(embedding)
    network = keras_engine.convert(image, {PROBABILITIES: probabilities, EMBEDDING: embedding})
    steps = openvino.preprocess.PrePostProcessor(network)
    # The engine converts bytes to floats on its own threads.
    steps.input().tensor().set_element_type(openvino.Type.u8)
    built = steps.build()
    built.input().get_tensor().set_names({IMAGES})
    engine.name_by_position(built)
    # The engine also finds inputs and outputs by the names of their operations.
    built.get_parameters()[0].set_friendly_name(IMAGES)
    built.set_rt_info(classifier.classes_json, ["model_info", "classes"])
    engine.save(built, path)


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
    onnx.helper.set_model_props(network, {"classes": classifier.classes_json})
    with replacing(path) as temporary:
        temporary.write_bytes(network.SerializeToString(deterministic=True))


def _graph(model: keras.Model) -> tuple[Any, str, str]:
    """Return the network as a TensorFlow graph, with the names of its input and output."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = _frozen(model)
    # Tensors held by layers, such as means, are inputs of the function.
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    return graph, function.inputs[0].name, function.outputs[0].name


def _without_calls(graph: Any) -> Any:
    """Return the graph with all functions marked for inlining, which tf2onnx leaves to TensorFlow.

    Keras has XLA compile grouped convolutions, as in ConvNeXt, and TensorFlow does not inline those functions.
    """
    for function in graph.library.function:
        for mark in ("_noinline", "_XlaMustCompile"):
            function.attr.pop(mark, None)
    for node in graph.node:
        node.attr.pop("_XlaMustCompile", None)
    return graph


def _without_erfc(graph: Any) -> Any:
    """Return the graph with 1 - erf(x) instead of erfc(x), which GELU uses and ONNX does not have."""
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
    """Return the graph with scalars that are added to tensors as vectors of one element.

    tf2onnx 1.17 takes the maximum over the shape of what is added to a convolution's output (`_add_handler` in
    tf2onnx/optimizer/transpose_optimizer.py); for a scalar, as in hard-swish, it fails and then leaves a transposition
    on each side of every convolution.
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
    """Name operations and tensors, except input and output, by the order of their use, and sort the weights by it.

    tf2onnx names them by counters, and keeps weights in sets.
    """
    names = {port.name: port.name for port in (*graph.input, *graph.output)}
    for port in (*graph.input, *graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "n"
    for position, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{position}"
        for ports in (node.input, node.output):
            # An omitted input has no name.
            ports[:] = [name and names.setdefault(name, f"tensor_{len(names)}") for name in ports]
    places = {name: place for place, name in enumerate(names)}
    graph.initializer.sort(key=lambda tensor: places[tensor.name])
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    del graph.value_info[:]


def _litert(classifier: Classifier, path: Path) -> None:
    _convert_litert(classifier, path, int8=False)


def _litert_int8(classifier: Classifier, path: Path) -> None:
    """Write weights and activations in int8, with scales from the calibration images; inputs and outputs are unchanged.

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
    """Add `labels.txt` to a zip archive; append an archive to any other file."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), labels)


def _signature(model: keras.Model) -> Any:
    return tf.TensorSpec((None, *model.input.shape[1:]), tf.uint8, name=IMAGES)


def _frozen(model: keras.Model) -> Any:
    """Return the network as a TensorFlow function from bytes to probabilities, with its weights as constants."""
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
