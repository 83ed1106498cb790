"""Grad-CAM: where in a picture the evidence for a class lies, as the network sees it.

In the form of Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
neural networks", eq. 3, https://arxiv.org/abs/2011.08891: gradients are not averaged over the positions. Behind global
average pooling, where they are the same at every position, that is Grad-CAM itself (Selvaraju et al. 2017,
https://arxiv.org/abs/1610.02391); behind flatten, where each position has weights of its own, the mean over them says
little and often leaves nothing.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stages.models.networks import NORMALISING, layers_in_order

_POOLING = (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
# Activations (pictures, height, width, channels).
_RANK = 4


def feature_map(backbone: keras.Model) -> keras.KerasTensor | None:
    """Return the last activations, (pictures, height, width, channels), that still say where in the picture they are.

    All that follows needs them alone. Below pooling, as in the paper (VGG16's last convolution), and above a layer
    with weights; of more than one position, which the last activations of small pictures are not. None where there
    are none such.
    """
    found, learnt = None, False
    for layer, narrow in layers_in_order(backbone):
        learnt = learnt or (bool(getattr(layer, "weights", ())) and not isinstance(layer, NORMALISING))
        if learnt and narrow and not isinstance(layer, _POOLING) and _has_positions(layer.output):
            found = layer.output
    return found


def _has_positions(tensor: keras.KerasTensor) -> bool:
    return len(tensor.shape) == _RANK and tensor.shape[1] * tensor.shape[2] > 1


def grad_cam(classifier: keras.Model) -> Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.float32]] | None:
    """Return what maps raw pictures (n, size, size, 3) to where the evidence for a class each (n,) lies.

    Maps are (n, height, width) as the feature map's, from 0 to 1, the largest of each, or all 0 where nothing speaks
    for the class. `classifier` is a `backbone` and a `head` on it; without a feature map the answer is None.
    """
    backbone, head = classifier.get_layer("backbone"), classifier.get_layer("head")
    activations = feature_map(backbone)
    if activations is None:
        return None
    below, above = keras.Model(backbone.input, activations), keras.Model(activations, backbone.output)
    scores = _scores(head)

    def explained(pictures: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        # Called, not predicted: to trace a network for a few pictures takes longer than to run it.
        found = below(pictures.astype(np.float32), training=False)
        with tf.GradientTape() as tape:
            tape.watch(found)
            score = tf.gather(scores(above(found, training=False)), classes, batch_dims=1)
        return _weighted(found, tape.gradient(score, found))

    return explained


def _scores(head: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the head without its softmax, after which a sure prediction has no gradient left."""
    last = head.layers[-1]
    hidden = keras.Model(head.input, last.input)
    return lambda features: tf.matmul(hidden(features, training=False), last.kernel) + last.bias


def _weighted(activations: tf.Tensor, gradients: tf.Tensor) -> NDArray[np.float32]:
    """Sum the channels by their gradients, drop what speaks against the class, and scale each map to 1."""
    found = tf.nn.relu(tf.reduce_sum(gradients * activations, axis=-1)).numpy()
    largest = found.max(axis=(1, 2), keepdims=True)
    return np.asarray(found / np.where(largest > 0, largest, 1))
