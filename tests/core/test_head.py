from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.core.head import Head, Layer, load, save, softmax

ACTIVATIONS = ["linear", "relu", "leaky_relu", "tanh", "silu", "gelu", "elu", "selu"]
WIDTH, CLASSES = 7, 3


def draw_head(activation: str = "relu", units: tuple[int, ...] = (6, 5), *, normalised: bool = True) -> Head:
    draw, widths = np.random.default_rng(0), (WIDTH, *units, CLASSES)

    def array(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float32)

    layers = [
        Layer(array(inputs, outputs), array(outputs), "linear" if number == len(units) else activation)
        for number, (inputs, outputs) in enumerate(pairwise(widths))
    ]
    return Head(tuple(layers), (array(WIDTH), np.abs(array(WIDTH)) + 1) if normalised else None)


def in_keras(head: Head) -> keras.Model:
    """Return a network of Keras's own layers, features in, logits out."""
    features = keras.Input((WIDTH,))
    tensor = features
    if head.moments is not None:
        mean, deviation = head.moments
        tensor = keras.layers.Normalization(mean=mean, variance=deviation**2)(tensor)
    for layer in head.layers:
        dense = keras.layers.Dense(len(layer.bias), activation=layer.activation)
        tensor = dense(tensor)
        dense.set_weights([layer.kernel, layer.bias])
    return keras.Model(features, tensor)


@pytest.fixture
def features() -> np.ndarray:
    return (np.random.default_rng(1).normal(size=(40, WIDTH)) * 3).astype(np.float32)


def heads() -> list:
    dense = [pytest.param(draw_head(name), id=name) for name in ACTIVATIONS]
    return [*dense, pytest.param(draw_head(units=()), id="none"), pytest.param(draw_head(normalised=False), id="as is")]


@pytest.mark.parametrize("head", heads())
def test_logits_and_probabilities_are_keras_s(head: Head, features: np.ndarray) -> None:
    expected = np.asarray(in_keras(head)(features))
    np.testing.assert_allclose(head.logits(features), expected, rtol=1e-4, atol=1e-4)
    probabilities = head.probabilities(features)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, keras.ops.softmax(expected), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("head", heads())
def test_the_gradient_of_a_class_s_logit_is_tensorflow_s(head: Head, features: np.ndarray) -> None:
    classes, model, tensor = np.arange(len(features)) % CLASSES, in_keras(head), tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        logit = tf.gather(model(tensor), classes, batch_dims=1)
    found = head.gradient(features, classes)
    assert (found.shape, found.dtype) == (features.shape, np.float32)
    np.testing.assert_allclose(found, tape.gradient(logit, tensor), rtol=1e-3, atol=1e-4)


def test_probabilities_of_logits_that_overflow_are_still_probabilities() -> None:
    np.testing.assert_array_equal(softmax(np.array([[1e5, 0, 1e5], [-1e5, 0, -1e5]])), [[0.5, 0, 0.5], [0, 1, 0]])


def test_a_head_with_a_temperature_gives_the_same_classes_and_divided_logits(features: np.ndarray) -> None:
    head = draw_head()
    divided = head.with_temperature(2.5).logits(features)
    np.testing.assert_allclose(divided, head.logits(features) / 2.5, rtol=1e-4, atol=1e-5)
    assert head.with_temperature(4).probabilities(features).max() < head.probabilities(features).max()


@pytest.mark.parametrize("head", heads())
def test_a_head_that_was_saved_is_the_same_and_equal_heads_give_equal_bytes(head: Head, features, tmp_path) -> None:
    save(head, tmp_path / "head.npz")
    again = load(tmp_path / "head.npz")
    assert [layer.activation for layer in again.layers] == [layer.activation for layer in head.layers]
    np.testing.assert_array_equal(again.logits(features), head.logits(features))
    save(again, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "head.npz").read_bytes()


def test_width_and_parameters_are_counted_by_hand() -> None:
    assert draw_head().width == WIDTH
    assert draw_head().parameters == (7 + 1) * 6 + (6 + 1) * 5 + (5 + 1) * 3
