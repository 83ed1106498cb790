"""Running each exported form with the engine that it is made for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.manifest import IMAGES, PROBABILITIES
from stages.core.settings.export import Format
from stages.networks.engine import Choice, compile_openvino

# From images (n, size, size, 3), uint8, to probabilities (n, classes), float32.
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def runner(form: Format, path: Path, threads: int) -> Run:
    """Return a function that runs the form at `path` on `threads` CPU threads, in float32 (or int8).

    Keras and TensorFlow use the number of threads that is set for the process.
    """
    return _RUNNERS[form](path, threads)


def _keras(path: Path, _: int) -> Run:
    import tensorflow as tf

    from stages.networks.keras_engine import load

    model = load(path)
    step = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda images: np.asarray(step(tf.convert_to_tensor(images)))


def _saved_model(path: Path, _: int) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: NDArray[np.uint8], _kept: Any = loaded) -> NDArray[np.float32]:
        # A signature holds its variables weakly, so the loaded model is kept alive here.
        return np.asarray(serve(**{IMAGES: tf.constant(images)})[PROBABILITIES])

    return run


def _onnx(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([PROBABILITIES], {IMAGES: images})[0])


def _openvino(path: Path, threads: int) -> Run:
    compiled = compile_openvino(path, Choice("openvino", "float32", threads))
    # Copied: the engine reuses the memory for the next batch.
    return lambda images: np.array(compiled(images, share_inputs=True)[PROBABILITIES])


def _litert(path: Path, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path), num_threads=threads).get_signature_runner()
    return lambda images: np.array(run(**{IMAGES: images})[PROBABILITIES])


_RUNNERS: Mapping[Format, Callable[[Path, int], Run]] = {
    "keras": _keras,
    "saved_model": _saved_model,
    "onnx": _onnx,
    "openvino": _openvino,
    "litert": _litert,
    "litert_int8": _litert,
}
