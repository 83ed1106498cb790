"""Heads of backbones in Keras, and the optimiser, schedule and loss that train them."""

import math
import random
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stages.core.head import Head as ArrayHead
from stages.core.head import Layer
from stages.core.settings.finetune import Head, Optimizer, Recipe, Schedule
from stages.networks import fused

# Mean and deviation of each feature, both (width,).
Moments = tuple[NDArray[np.float32], NDArray[np.float32]]


class HeadRates:
    """Dropout and L2 penalty of a head as variables, so that a traced network can be reused with other values."""

    def __init__(self) -> None:
        self.dropout, self.l2 = (keras.Variable(0.0, trainable=False, name=name) for name in ("dropout", "l2"))

    def set(self, head: Head) -> None:
        """Take the values of `head`."""
        self.dropout.assign(head.dropout)
        self.l2.assign(head.l2)


class _Dropout(keras.layers.Layer):  # type: ignore[misc]
    """Keras's dropout with a variable as its rate."""

    def __init__(self, rates: HeadRates, seed: int, name: str) -> None:
        super().__init__(name=name)
        self.rates, self.seed_generator = rates, keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002 (Keras's)
        """Drop a fraction of `inputs`, and scale up the rest, in training only (Srivastava et al. 2014, inverted)."""
        if not training:
            return inputs
        rate = self.rates.dropout.value
        kept = keras.random.uniform(keras.ops.shape(inputs), seed=self.seed_generator) >= rate
        return keras.ops.where(kept, inputs / (1 - rate), 0.0)


class _L2(keras.regularizers.Regularizer):  # type: ignore[misc]
    """Keras's L2 penalty with a variable as its strength."""

    def __init__(self, rates: HeadRates) -> None:
        self.rates = rates

    def __call__(self, kernel: Any) -> Any:
        # One pass over the kernel, and one for its gradient; keras.ops needs two each.
        return self.rates.l2.value * 2 * tf.nn.l2_loss(kernel)


def build(head: Head, width: int, classes: int, rates: HeadRates | None = None, *, seed: int = 0) -> keras.Model:
    """Return an untrained head: normalised features (n, width) in, probabilities (n, classes) out.

    With `rates`, these determine dropout and penalty. Initial kernels (Glorot and Bengio 2010, eq. 16) and dropped
    units depend only on `seed`.
    """
    # By default Keras draws the layers' seeds from Python's global generator, which any thread may use.
    seeds = random.Random(seed)  # noqa: S311 (no secret)
    inputs = keras.Input((width,), name="features")
    tensor = inputs
    for number, units in enumerate(head.units, 1):
        dense = keras.layers.Dense(
            units,
            activation=head.activation,
            kernel_initializer=_kernel(seeds),
            kernel_regularizer=_penalty(head, rates),
            name=f"dense_{number}",
        )
        tensor = dense(tensor)
        if rates or head.dropout:
            tensor = _dropout(head, rates, seeds, f"dropout_{number}")(tensor)
    # Always float32: a softmax in reduced precision does not sum to one.
    last = keras.layers.Dense(
        classes, activation="softmax", kernel_initializer=_kernel(seeds), dtype="float32", name="probabilities"
    )
    return keras.Model(inputs, last(tensor), name="head")


def joined(arrays: ArrayHead) -> keras.Model:
    """Return a head given as arrays as a Keras model: features (n, width) in, probabilities (n, classes) out."""
    inputs = keras.Input((arrays.width,), name="features")
    tensor = inputs if arrays.moments is None else _normalise(arrays.moments, inputs)
    for number, layer in enumerate(arrays.layers, 1):
        last = number == len(arrays.layers)
        dense = keras.layers.Dense(
            len(layer.bias),
            activation="softmax" if last else layer.activation,
            dtype="float32" if last else None,
            name="probabilities" if last else f"dense_{number}",
        )
        tensor = dense(tensor)
        dense.set_weights([layer.kernel, layer.bias])
    return keras.Model(inputs, tensor, name="head")


def arrays_of(model: keras.Model, moments: Moments | None = None) -> ArrayHead:
    """Return a Keras head as arrays; `moments` are those that normalise its input features, if any."""
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    names = [layer.activation.__name__ for layer in dense[:-1]] + ["linear"]
    layers = []
    for layer, name in zip(dense, names, strict=True):
        kernel, bias = layer.get_weights()
        layers.append(Layer(kernel, bias, name))
    return ArrayHead(tuple(layers), moments or _moments(model))


def _moments(model: keras.Model) -> Moments | None:
    """Return the moments of the layers that `_normalise` added to a head, if any."""
    found = {type(layer): layer for layer in model.layers}
    if keras.layers.Normalization not in found:
        return None
    scale = found[keras.layers.Rescaling].scale
    mean, variance = found[keras.layers.Normalization].get_weights()[:2]
    return (mean / scale).astype(np.float32), (np.sqrt(variance) / scale).astype(np.float32)


def _kernel(seeds: random.Random) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seeds.getrandbits(31))


def _dropout(head: Head, rates: HeadRates | None, seeds: random.Random, name: str) -> keras.layers.Layer:
    seed = seeds.getrandbits(31)
    return _Dropout(rates, seed, name) if rates else keras.layers.Dropout(head.dropout, seed=seed, name=name)


def _penalty(head: Head, rates: HeadRates | None) -> keras.regularizers.Regularizer | None:
    if rates:
        return _L2(rates)
    return keras.regularizers.L2(head.l2) if head.l2 else None


def _normalise(moments: Moments, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Subtract the mean and divide by the deviation, by layers.

    Normalization raises deviations below 1e-7 to 1e-7, and features of random networks are around 1e-10: multiplying by
    a power of two, which is exact, brings them to the order of 1 first.
    """
    mean, deviation = (np.asarray(values, dtype=np.float64) for values in moments)
    scale = 2.0 ** -round(float(np.log2(deviation.mean())))
    layer = keras.layers.Normalization(name="normalise")
    layer.build((None, len(mean)))
    layer.adapt_mean.assign((mean * scale).astype(np.float32))
    layer.adapt_variance.assign(((deviation * scale) ** 2).astype(np.float32))
    layer.finalize_state()
    return layer(keras.layers.Rescaling(scale, name="rescale")(tensor))


def compile_for(
    model: keras.Model,
    recipe: Recipe,
    learning_rate: float,
    steps: int,
    at_once: int = 1,
    factors: Mapping[str, float] | None = None,
) -> None:
    """Compile `model` for a phase of `steps` steps in total, `at_once` per execution, that starts at `learning_rate`.

    `factors` multiply the learning rate of variables, by their paths.
    """
    model.compile(
        optimizer=optimizer(recipe.optimizer, schedule(recipe.schedule, learning_rate, steps), factors),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=[
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            # Without penalties: losses with different penalties cannot be compared.
            keras.metrics.CategoricalCrossentropy(name="log_loss"),
        ],
        steps_per_execution=at_once,
    )
    # Else the first step would make its variables, and TensorFlow trace it twice.
    model.optimizer.build(model.trainable_variables)


def restart(optimizer: keras.optimizers.Optimizer, schedule: Schedule, learning_rate: float) -> None:
    """Reset a used optimiser to the state of a new one: all variables 0, the rate `learning_rate`."""
    for variable in optimizer.variables:
        variable.assign(keras.ops.zeros_like(variable))
    if schedule.name == "constant":
        optimizer.learning_rate = learning_rate


def optimizer(
    params: Optimizer, learning_rate: Any, factors: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Return one of Keras's optimisers; `learning_rate` is a number or a schedule, `factors` as in `compile_for`."""
    shared: dict[str, Any] = {"learning_rate": learning_rate, "clipnorm": params.clip_norm}
    if params.weight_decay or params.name == "adamw":
        shared["weight_decay"] = params.weight_decay
    if params.name == "sgd":
        shared["momentum"] = params.momentum
    kind = {
        "sgd": keras.optimizers.SGD,
        "rmsprop": keras.optimizers.RMSprop,
        "adam": fused.Adam,
        "adamw": fused.AdamW,
    }[params.name]
    return _by_variable(kind, factors)(**shared) if factors else kind(**shared)


def _by_variable(kind: type, factors: Mapping[str, float]) -> type:
    """Return an optimiser class of this kind whose learning rate differs by variable.

    Keras's MultiOptimizer has one optimiser for each group, and no learning rate that callbacks could lower.
    """

    class ByVariable(kind):  # type: ignore[misc]
        """Multiplies the learning rate of each variable."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            """Update `variable` at its own rate."""
            path = self._trainable_variables[self._get_variable_index(variable)].path
            super().update_step(gradient, variable, learning_rate * factors.get(path, 1.0))

    return ByVariable


def schedule(params: Schedule, learning_rate: float, steps: int) -> Any:
    """Return the learning rate as a number (constant) or as one of Keras's schedules over `steps` steps."""
    steps = max(steps, 1)
    if params.name == "cosine":
        warmup = math.ceil(params.warmup * steps)
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else learning_rate,
            decay_steps=max(steps - warmup, 1),
            warmup_target=learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if params.name == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(learning_rate, steps, params.decay)
    if params.name == "step":
        rates = [learning_rate * params.decay**n for n in range(len(params.boundaries) + 1)]
        boundaries = [math.ceil(share * steps) for share in params.boundaries]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    return learning_rate
