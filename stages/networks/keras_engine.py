"""TensorFlow under Keras: deterministic set-up, forward passes, model files, conversion to OpenVINO."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import EngineError
from stages.core.files import replacing, strip_dates
from stages.networks.engine import has_gpu


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard stderr, including that of C++ code, unless there is a GPU to report on."""
    if has_gpu():
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Make imports of packages that are not loaded yet fail, for libraries that import them optionally."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage: what is imported stays, and Python would look through all of it again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# TensorFlow's C++ code starts with eight lines about missing GPUs, whatever the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Keras imports scikit-learn and Matplotlib for wrappers and plots that no stage uses: a third of its import time. Of
# the rest the search for garbage is a fifth.
with _quiet(), _hidden("sklearn", "matplotlib"), _uncollected():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()

    from stages.networks import architectures, unrolled

BACKBONE = "backbone.keras"
# Of the numbers in a weight.
_LARGE = 25_000


def make_deterministic(seed: int, threads: int) -> None:
    """Make everything computed later in this process depend only on `seed` and `threads`, bit for bit.

    Source: https://www.tensorflow.org/api_docs/python/tf/config/experimental/enable_op_determinism.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)


def save(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file completely or not at all; equal models give equal bytes."""
    with replacing(path) as temporary:
        # Keras checks the suffix.
        with_suffix = temporary.with_suffix(".keras")
        unrolled.saved_form(model).save(with_suffix)
        strip_dates(with_suffix)
        with_suffix.replace(temporary)


def load(path: Path) -> keras.Model:
    """Load a `.keras` file for inference or further training."""
    return unrolled.loaded(keras.models.load_model(path, compile=False))


def free_memory(model: keras.Model) -> None:
    """Free the memory of a trained network that is not used again.

    TensorFlow keeps the graph of a training step until the process ends, and with it handles to the variables:
    only assigning an empty value to each frees their memory.
    """
    for variable in [*model.variables, *model.optimizer.variables]:
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=tf.zeros((), variable.dtype))


def forward(
    folder: Path, precision: str, outputs: tuple[str, ...]
) -> Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]]:
    """Return a function from raw images (n, size, size, 3) to outputs of the frozen network, by TensorFlow.

    `outputs` are names in `architectures.outputs`. Reduced precisions are Keras's mixed ones: variables stay float32.
    Raises EngineError when TensorFlow cannot use the GPU of this machine: falling back to the CPU silently would take
    hours.
    """
    if has_gpu() and not tf.config.list_physical_devices("GPU"):
        raise EngineError(
            "an NVIDIA GPU that TensorFlow cannot use",
            "its driver and CUDA libraries",
            "install them (https://www.tensorflow.org/install/pip), or set features.engine: openvino",
        )
    model = load(folder / BACKBONE)
    if precision != "float32":
        for layer in architectures.leaves(model):
            layer.dtype_policy = f"mixed_{precision}"
    found = architectures.outputs(model)
    network = keras.Model(model.input, {name: found[name] for name in outputs})

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.cast(value, tf.float32) for name, value in network(images, training=False).items()}

    return lambda images: {
        name: value.numpy() for name, value in step(tf.cast(tf.convert_to_tensor(images), tf.float32)).items()
    }


def _weight(variable: keras.Variable) -> Any:
    """Return what `convert` traces a weight as.

    TensorFlow copies a constant some ten times, while for what is captured OpenVINO searches all captured tensors,
    several times over: large weights, of which there are few, are captured.
    """
    large = variable.value.shape.num_elements() > _LARGE
    return tf.convert_to_tensor(variable.value) if large else variable.numpy()


def convert(inputs: keras.KerasTensor, outputs: dict[str, keras.KerasTensor]) -> Any:
    """Convert the network between `inputs` and `outputs` to an OpenVINO model with the outputs' names.

    The outputs are distinct tensors, none of them `inputs`. The batch size stays dynamic. Raises OpenVINO's exception
    for an unsupported operation.
    """
    import openvino

    network = keras.Model(inputs, list(outputs.values()))
    signature = tf.TensorSpec((None, *inputs.shape[1:]), tf.float32, name="inputs")
    weights = [
        [_weight(variable) for variable in kind]
        for kind in (network.trainable_variables, network.non_trainable_variables)
    ]
    traced = tf.function(
        lambda tensor: network.stateless_call(*weights, tensor, training=False)[0], input_signature=[signature]
    )
    function = traced.get_concrete_function()
    # A copy of its own: the variables may go before it.
    converted = openvino.convert_model(function, share_weights=False)
    # The converter also turns tensors inside activations with custom gradients, such as silu, into results:
    # if kept, each would be copied out for every image.
    results = [converted.output(tensor.name).get_node() for tensor in function.outputs]
    for result, name in zip(results, outputs, strict=True):
        result.output(0).get_tensor().set_names({name})
    return openvino.Model(results, converted.get_parameters(), "network")
