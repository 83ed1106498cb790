"""Heads: what is put on a backbone, and the optimiser, schedule and loss that train it."""

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stages.models import fused
from stages.models.recipe import Head, Optimizer, Recipe, Schedule

# A feature that hardly varies over the training views must not be blown up where it does vary:
# its variance counts as at least this share of the mean variance.
_LEAST_SHARE_OF_VARIANCE = 1e-4


class Rates:
    """Dropout and L2 penalty of a head in variables: a network that was traced with them serves for any."""

    def __init__(self) -> None:
        self.dropout, self.l2 = (keras.Variable(0.0, trainable=False, name=name) for name in ("dropout", "l2"))

    def set(self, head: Head) -> None:
        """Take the values of `head`."""
        self.dropout.assign(head.dropout)
        self.l2.assign(head.l2)


class _Dropout(keras.layers.Layer):  # type: ignore[misc]
    """Keras's dropout at a rate that is a variable."""

    def __init__(self, rates: Rates, seed: int, name: str) -> None:
        super().__init__(name=name)
        self.rates, self.seed_generator = rates, keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002 (Keras's)
        """Drop a share of `inputs`, and raise the rest, in training alone (Srivastava et al. 2014, inverted)."""
        if not training:
            return inputs
        rate = self.rates.dropout.value
        kept = keras.random.uniform(keras.ops.shape(inputs), seed=self.seed_generator) >= rate
        return keras.ops.where(kept, inputs / (1 - rate), 0.0)


class _L2(keras.regularizers.Regularizer):  # type: ignore[misc]
    """Keras's L2 penalty at a strength that is a variable."""

    def __init__(self, rates: Rates) -> None:
        self.rates = rates

    def __call__(self, kernel: Any) -> Any:
        # One pass over the kernel, and one for its gradient; keras.ops takes two each.
        return self.rates.l2.value * 2 * tf.nn.l2_loss(kernel)


def build(
    head: Head,
    width: int,
    classes: int,
    moments: tuple[NDArray[Any], NDArray[Any]] | None,
    rates: Rates | None = None,
    *,
    seed: int = 0,
) -> keras.Model:
    """Return the head: features (n, width) in, probabilities (n, classes) out.

    `moments` are the features' mean and variance over the training views, both (width,), or None
    where nothing is standardised. With `rates` dropout and penalty are what these say. Kernels are drawn
    (Glorot and Bengio 2010, eq. 16), and units dropped, by `seed` alone.
    """
    # Keras would draw a seed for each layer from Python's generator, which every thread of the process may use.
    seeds = random.Random(seed)  # noqa: S311 (no secret)
    inputs = keras.Input((width,), name="features")
    tensor = inputs
    if moments is not None:
        tensor = _standardise(moments, tensor)
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
    # float32 whatever the policy: a softmax in reduced precision does not sum to one.
    last = keras.layers.Dense(
        classes, activation="softmax", kernel_initializer=_kernel(seeds), dtype="float32", name="probabilities"
    )
    return keras.Model(inputs, last(tensor), name="head")


def _kernel(seeds: random.Random) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seeds.getrandbits(31))


def _dropout(head: Head, rates: Rates | None, seeds: random.Random, name: str) -> keras.layers.Layer:
    seed = seeds.getrandbits(31)
    return _Dropout(rates, seed, name) if rates else keras.layers.Dropout(head.dropout, seed=seed, name=name)


def _penalty(head: Head, rates: Rates | None) -> keras.regularizers.Regularizer | None:
    if rates:
        return _L2(rates)
    return keras.regularizers.L2(head.l2) if head.l2 else None


def _standardise(moments: tuple[NDArray[Any], NDArray[Any]], tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Bring features to mean 0 and variance 1, by layers."""
    scale, mean, variance = _rescaled(moments)
    layer = keras.layers.Normalization(name="standardise")
    layer.build((None, len(mean)))
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()
    return layer(keras.layers.Rescaling(scale, name="rescale")(tensor))


def standardisation(
    moments: tuple[NDArray[Any], NDArray[Any]],
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what brings features (n, width) to mean 0 and variance 1 before they reach a head without moments."""
    scale, mean, variance = _rescaled(moments)
    deviation = np.sqrt(variance)
    return lambda features: np.asarray((features * np.float32(scale) - mean) / deviation)


def _rescaled(moments: tuple[NDArray[Any], NDArray[Any]]) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """Return a scale, and mean and variance of features that are multiplied by it.

    Normalization counts every deviation below 1e-7 as 1e-7, and random networks give features of 1e-10:
    a power of two, which costs no digits, brings them to the order of 1 first.
    """
    mean, variance = (np.asarray(values, dtype=np.float64) for values in moments)
    scale = 2.0 ** -round(float(np.log2(np.sqrt(variance).mean())))
    return scale, (mean * scale).astype(np.float32), (variance * scale**2).astype(np.float32)


def moments(batches: Iterable[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of each feature, both (width,), in one pass over batches (n, width).

    Variances are merged batch by batch (Chan, Golub and LeVeque 1983, eq. 2.1), so that memory does
    not grow with the number of views; the smallest are raised, see `_LEAST_SHARE_OF_VARIANCE`.
    """
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for batch in batches:
        values = batch.astype(np.float64)
        delta = values.mean(axis=0) - mean
        total = count + len(values)
        squares = squares + values.var(axis=0) * len(values) + delta**2 * count * len(values) / total
        mean = mean + delta * len(values) / total
        count = total
    variance = squares / max(count, 1)
    least = _LEAST_SHARE_OF_VARIANCE * float(variance.mean()) or 1.0
    return mean, np.maximum(variance, least)


def compile_for(model: keras.Model, recipe: Recipe, learning_rate: float, steps: int, at_once: int = 1) -> None:
    """Compile `model` for a phase of `steps` steps in all, `at_once` together, that begins at `learning_rate`."""
    model.compile(
        optimizer=optimizer(recipe.optimizer, schedule(recipe.schedule, learning_rate, steps)),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=[
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            # Without penalties: of heads with other ones the losses cannot be compared.
            keras.metrics.CategoricalCrossentropy(name="log_loss"),
        ],
        steps_per_execution=at_once,
    )


def restart(optimizer: keras.optimizers.Optimizer, schedule: Schedule, learning_rate: float) -> None:
    """Bring a used optimiser to the state of a new one: all that it remembers is 0, its rate `learning_rate`."""
    for variable in optimizer.variables:
        variable.assign(keras.ops.zeros_like(variable))
    if schedule.name == "constant":
        optimizer.learning_rate = learning_rate


def optimizer(params: Optimizer, learning_rate: Any) -> keras.optimizers.Optimizer:
    """Return one of Keras's optimisers; `learning_rate` is a number or a schedule."""
    shared: dict[str, Any] = {"learning_rate": learning_rate, "clipnorm": params.clip_norm}
    if params.weight_decay or params.name == "adamw":
        shared["weight_decay"] = params.weight_decay
    if params.name == "sgd":
        shared["momentum"] = params.momentum
    return {
        "sgd": keras.optimizers.SGD,
        "rmsprop": keras.optimizers.RMSprop,
        "adam": fused.Adam,
        "adamw": fused.AdamW,
    }[params.name](**shared)


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
