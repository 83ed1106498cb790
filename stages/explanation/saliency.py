"""Heatmaps: where in an image the network finds evidence for a class.

They follow Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
networks", eq. 3, https://arxiv.org/abs/2011.08891: gradients are not averaged over the positions. With global average
pooling, where they are the same at every position, that is Grad-CAM itself (Selvaraju et al. 2017,
https://arxiv.org/abs/1610.02391), and with a linear head the class activation map (Zhou et al. 2016, "Learning deep
features for discriminative localization", eq. 2, https://arxiv.org/abs/1512.04150); with flatten, where each position
has its own weights, their mean means little and often leaves nothing.

Computed in NumPy: between the feature map and the logits are a few operations, described by `architectures.tail`, and
a head, and each of these has its gradient here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.head import Head

Array = NDArray[np.floating]
# From the gradient at an operation's output to that at its input.
_Back = Callable[[Array], Array]


def heatmaps(
    activations: Array, tail: Sequence[Mapping[str, Any]], head: Head, classes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return where the evidence for a class of each image (n,) lies, from its feature map (n, height, width, channels).

    Heatmaps are (n, height, width), scaled to a maximum of 1, or all 0 without evidence for the
    class. Gradients are those of the logit: after the softmax, that of a confident prediction vanishes.
    """
    values, backs = activations, []
    for operation in tail:
        values, back = _OPERATIONS[operation["kind"]](values, operation)
        backs.append(back)
    gradient: Array = head.gradient(values, classes)
    for back in reversed(backs):
        gradient = back(gradient)
    return _scaled((gradient * activations).sum(axis=-1))


def _scaled(evidence: Array) -> NDArray[np.float32]:
    """Drop the evidence against the class, and scale each map to a maximum of 1."""
    found = np.maximum(evidence, 0)
    largest = found.max(axis=(1, 2), keepdims=True)
    return np.asarray(found / np.where(largest > 0, largest, 1), dtype=np.float32)


def _average(values: Array, _: Mapping[str, Any]) -> tuple[Array, _Back]:
    positions = values.shape[1] * values.shape[2]
    return values.mean(axis=(1, 2)), lambda gradient: np.broadcast_to(
        gradient[:, None, None, :] / positions, values.shape
    )


def _max(values: Array, _: Mapping[str, Any]) -> tuple[Array, _Back]:
    largest = values.max(axis=(1, 2), keepdims=True)
    counted = (values == largest).astype(values.dtype)
    # Ties share the gradient.
    counted /= counted.sum(axis=(1, 2), keepdims=True)
    return largest[:, 0, 0], lambda gradient: counted * gradient[:, None, None, :]


def _max_pooling(values: Array, operation: Mapping[str, Any]) -> tuple[Array, _Back]:
    """Return the largest value of each window, the first of ties; incomplete windows are ignored."""
    height, width = operation["pool"]
    _, rows, columns, _ = values.shape
    whole = values[:, : rows // height * height, : columns // width * width]
    windows = whole.reshape(len(values), rows // height, height, columns // width, width, -1).transpose(
        0, 1, 3, 5, 2, 4
    )
    flat = windows.reshape(*windows.shape[:4], -1)
    chosen = np.arange(height * width) == flat.argmax(axis=-1)[..., None]

    def back(gradient: Array) -> Array:
        found = (chosen * gradient[..., None]).reshape(windows.shape).transpose(0, 1, 4, 2, 5, 3).reshape(whole.shape)
        return np.pad(found, [(0, full - part) for full, part in zip(values.shape, whole.shape, strict=True)])

    return flat.max(axis=-1), back


def _flatten(values: Array, _: Mapping[str, Any]) -> tuple[Array, _Back]:
    return values.reshape(len(values), -1), lambda gradient: gradient.reshape(values.shape)


def _layer_normalization(values: Array, operation: Mapping[str, Any]) -> tuple[Array, _Back]:
    """Ba, Kiros and Hinton 2016, "Layer normalization", https://arxiv.org/abs/1607.06450, of vectors (n, width)."""
    gamma, beta = (np.asarray(operation[name], dtype=values.dtype) for name in ("gamma", "beta"))
    deviation = np.sqrt(values.var(axis=-1, keepdims=True) + operation["epsilon"])
    normal = (values - values.mean(axis=-1, keepdims=True)) / deviation

    def back(gradient: Array) -> Array:
        scaled = gradient * gamma
        along = normal * (scaled * normal).mean(axis=-1, keepdims=True)
        return np.asarray((scaled - scaled.mean(axis=-1, keepdims=True) - along) / deviation)

    return normal * gamma + beta, back


_OPERATIONS: dict[str, Callable[[Array, Mapping[str, Any]], tuple[Array, _Back]]] = {
    "average": _average,
    "max": _max,
    "max_pooling": _max_pooling,
    "flatten": _flatten,
    "layer_normalization": _layer_normalization,
}
