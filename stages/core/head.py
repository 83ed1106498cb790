"""Heads as arrays, which turn features into probabilities without TensorFlow.

A head normalises features, passes them through its dense layers and ends in a softmax. Its file, `head.npz`, is NumPy's
own format (https://numpy.org/doc/stable/reference/generated/numpy.savez.html) and holds, in float32:

    mean, deviation              (width,): features become (x - mean) / deviation; absent if features are not normalised
    kernel_1, bias_1, ...        (inputs, units) and (units,) of each layer; the last one's units are the classes
    activations                  Keras's name of each layer's activation, the last layer's excluded
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.files import replacing

Features = NDArray[np.floating]
# The parameters of Klambauer et al. 2017, "Self-normalizing neural networks", as Keras has them.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
# Of keras.activations.leaky_relu.
LEAK = 0.2


@dataclass(frozen=True)
class Layer:
    """A dense layer: `kernel` (inputs, units), `bias` (units,), and the name of its activation ("linear": none)."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str = "linear"


@dataclass(frozen=True)
class Head:
    """Dense layers on features; `moments` are the mean and deviation, (width,) each, that normalise them, if any."""

    layers: tuple[Layer, ...]
    moments: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.layers[0].kernel)

    @property
    def parameters(self) -> int:
        """The number of trained values."""
        return sum(layer.kernel.size + layer.bias.size for layer in self.layers)

    def normalise(self, features: Features) -> NDArray[np.float32]:
        """Return features (n, width) normalised for the first layer."""
        if self.moments is None:
            return np.asarray(features, dtype=np.float32)
        mean, deviation = self.moments
        return np.asarray((features - mean) / deviation, dtype=np.float32)

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Return the last layer's outputs for features (n, width), (n, classes)."""
        values = self.normalise(features)
        for layer in self.layers:
            values = _ACTIVATIONS[layer.activation](values @ layer.kernel + layer.bias)[0]
        return values

    def probabilities(self, features: Features) -> NDArray[np.float32]:
        """Return the probabilities of the classes for features (n, width), (n, classes)."""
        return softmax(self.logits(features))

    def gradient(self, features: Features, classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the gradient (n, width) of each row's logit of its class (n,) with respect to its features."""
        values, slopes = self.normalise(features), []
        for layer in self.layers:
            values, slope = _ACTIVATIONS[layer.activation](values @ layer.kernel + layer.bias)
            slopes.append(slope)
        found = np.eye(len(self.layers[-1].bias), dtype=np.float32)[classes]
        for layer, slope in zip(reversed(self.layers), reversed(slopes), strict=True):
            found = (found * slope) @ layer.kernel.T
        return found if self.moments is None else np.asarray(found / self.moments[1], dtype=np.float32)

    def with_temperature(self, temperature: float) -> "Head":
        """Return the head with its logits divided by `temperature`."""
        last, divisor = self.layers[-1], np.float32(temperature)
        scaled = replace(last, kernel=last.kernel / divisor, bias=last.bias / divisor)
        return replace(self, layers=(*self.layers[:-1], scaled))


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return rows that are positive and sum to 1."""
    found = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


def save(head: Head, path: Path) -> None:
    """Write `head.npz`; equal heads give equal bytes."""
    arrays: dict[str, NDArray[Any]] = {"activations": np.array([layer.activation for layer in head.layers[:-1]], "U16")}
    if head.moments is not None:
        arrays |= dict(zip(("mean", "deviation"), head.moments, strict=True))
    for number, layer in enumerate(head.layers, 1):
        arrays |= {f"kernel_{number}": layer.kernel, f"bias_{number}": layer.bias}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: _exact(array) for name, array in arrays.items()})


def load(path: Path) -> Head:
    """Return the head that `save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        activations = [*map(str, arrays["activations"]), "linear"]
        layers = tuple(
            Layer(arrays[f"kernel_{number}"], arrays[f"bias_{number}"], activation)
            for number, activation in enumerate(activations, 1)
        )
        return Head(layers, (arrays["mean"], arrays["deviation"]) if "mean" in arrays else None)


def _exact(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.kind == "U" else np.ascontiguousarray(array, dtype=np.float32)


# Returns the activation and its slope at each input; the names are those of keras.activations.
_Activation = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]


def _linear(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return values, np.ones_like(values)


def _relu(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.maximum(values, 0), (values > 0).astype(values.dtype)


def _leaky_relu(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    slope = np.where(values > 0, 1, LEAK).astype(values.dtype)
    return values * slope, slope


def _tanh(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    found = np.tanh(values)
    return found, 1 - found**2


def _silu(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    from scipy.special import expit

    gate = expit(values)
    return values * gate, gate * (1 + values * (1 - gate))


def _gelu(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    from scipy.special import ndtr

    below = ndtr(values)
    density = np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi)
    return (values * below).astype(values.dtype), (below + values * density).astype(values.dtype)


def _elu(values: NDArray[Any], alpha: float = 1.0, scale: float = 1.0) -> tuple[NDArray[Any], NDArray[Any]]:
    below = alpha * np.expm1(np.minimum(values, 0))
    found = scale * np.where(values > 0, values, below)
    return found.astype(values.dtype), (scale * np.where(values > 0, 1, below + alpha)).astype(values.dtype)


def _selu(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return _elu(values, _SELU_ALPHA, _SELU_SCALE)


_ACTIVATIONS: dict[str, _Activation] = {
    "linear": _linear, "relu": _relu, "leaky_relu": _leaky_relu, "tanh": _tanh, "silu": _silu, "gelu": _gelu,
    "elu": _elu, "selu": _selu,
}  # fmt: skip
