"""Heads: what is put on a backbone, and the optimiser, schedule and loss that train it."""

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stages.models.recipe import Head, Optimizer, Recipe, Schedule

# A feature that hardly varies over the training views must not be blown up where it does vary:
# its variance counts as at least this share of the mean variance.
_LEAST_SHARE_OF_VARIANCE = 1e-4


def build(head: Head, width: int, classes: int, moments: tuple[NDArray[Any], NDArray[Any]] | None) -> keras.Model:
    """Return the head: features (n, width) in, probabilities (n, classes) out.

    `moments` are the features' mean and variance over the training views, both (width,), or None
    where nothing is standardised.
    """
    inputs = keras.Input((width,), name="features")
    tensor = inputs
    if moments is not None:
        tensor = _standardise(moments, tensor)
    for number, units in enumerate(head.units, 1):
        dense = keras.layers.Dense(
            units,
            activation=head.activation,
            kernel_regularizer=keras.regularizers.L2(head.l2) if head.l2 else None,
            name=f"dense_{number}",
        )
        tensor = dense(tensor)
        if head.dropout:
            tensor = keras.layers.Dropout(head.dropout, name=f"dropout_{number}")(tensor)
    # float32 whatever the policy: a softmax in reduced precision does not sum to one.
    outputs = keras.layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(tensor)
    return keras.Model(inputs, outputs, name="head")


def _standardise(moments: tuple[NDArray[Any], NDArray[Any]], tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Bring features to mean 0 and variance 1.

    Normalization counts every deviation below 1e-7 as 1e-7, and random networks give features of 1e-10:
    a power of two, which costs no digits, brings them to the order of 1 first.
    """
    mean, variance = (np.asarray(values, dtype=np.float64) for values in moments)
    scale = 2.0 ** -round(float(np.log2(np.sqrt(variance).mean())))
    layer = keras.layers.Normalization(name="standardise")
    layer.build((None, len(mean)))
    layer.adapt_mean.assign((mean * scale).astype(np.float32))
    layer.adapt_variance.assign((variance * scale**2).astype(np.float32))
    layer.finalize_state()
    return layer(keras.layers.Rescaling(scale, name="rescale")(tensor))


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


def compile_for(model: keras.Model, recipe: Recipe, learning_rate: float, steps: int) -> None:
    """Compile `model` for a phase of `steps` steps in all that begins at `learning_rate`."""
    model.compile(
        optimizer=optimizer(recipe.optimizer, schedule(recipe.schedule, learning_rate, steps)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )


def optimizer(params: Optimizer, learning_rate: Any) -> keras.optimizers.Optimizer:
    """Return Keras's optimiser; `learning_rate` is a number or a schedule."""
    shared: dict[str, Any] = {"learning_rate": learning_rate, "clipnorm": params.clip_norm}
    if params.weight_decay or params.name == "adamw":
        shared["weight_decay"] = params.weight_decay
    if params.name == "sgd":
        shared["momentum"] = params.momentum
    return {
        "sgd": keras.optimizers.SGD,
        "rmsprop": keras.optimizers.RMSprop,
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
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
