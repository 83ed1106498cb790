from collections.abc import Iterator
from itertools import pairwise, product

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.core.head import Head, Layer
from stages.core.params import read
from stages.explanation.saliency import heatmaps
from stages.networks import architectures
from tests.support.features import ROOT

DECLARED = list(read(ROOT / "params.yaml")["backbones"])
RED, BLUE = (230, 40, 40), (40, 40, 230)


def squares(places: list[tuple[int, int]], colours: list[tuple[int, int, int]], side: int, width: int) -> np.ndarray:
    """Return grey noise with a square each, at the given top and left."""
    images = np.random.default_rng(1).integers(100, 140, (len(places), side, side, 3)).astype(np.uint8)
    for image, (top, left), colour in zip(images, places, colours, strict=True):
        image[top : top + width, left : left + width] = colour
    return images


def looked_at(backbone: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the feature map of each image."""
    below = keras.Model(backbone.input, architectures.outputs(backbone)["map"])
    return np.asarray(below(images.astype(np.float32), training=False))


def explained(backbone: keras.Model, head: Head, images: np.ndarray, classes: list[int]) -> np.ndarray:
    return heatmaps(looked_at(backbone, images), architectures.tail(backbone), head, np.array(classes))


def by_keras(backbone: keras.Model, head: Head, activations: np.ndarray, classes: list[int]) -> np.ndarray:
    """Return the heatmaps of feature maps that TensorFlow's own gradients give."""
    above = keras.Model(architectures.feature_map(backbone), backbone.output)
    found = tf.convert_to_tensor(activations)
    with tf.GradientTape() as tape:
        tape.watch(found)
        tensor = above(found, training=False)
        if head.moments is not None:
            tensor = (tensor - head.moments[0]) / head.moments[1]
        for layer in head.layers:
            tensor = keras.activations.get(layer.activation)(tensor @ layer.kernel + layer.bias)
        logit = tf.gather(tensor, classes, batch_dims=1)
    maps = np.maximum(np.sum(tape.gradient(logit, found) * found, axis=-1), 0)
    return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-30)


def drawn_head(features: np.ndarray, units: tuple[int, ...], classes: int = 3) -> Head:
    """Return a head with random weights for features as these, which it normalises."""
    draw, widths = np.random.default_rng(2), (features.shape[1], *units, classes)
    layers = [
        Layer(
            (draw.normal(size=(inputs, outputs)) / np.sqrt(inputs)).astype(np.float32),
            draw.normal(size=outputs).astype(np.float32),
            "linear" if number == len(units) else "gelu",
        )
        for number, (inputs, outputs) in enumerate(pairwise(widths))
    ]
    return Head(tuple(layers), (features.mean(axis=0), features.std(axis=0) + features.std()))


def linear(kernel: np.ndarray) -> Head:
    return Head((Layer(kernel.astype(np.float32), np.zeros(kernel.shape[1], np.float32)),))


def detector(backbone: keras.Model, present: np.ndarray, absent: np.ndarray) -> Head:
    """Return a head for two classes: what distinguishes the features of the images `present`, and the contrary."""
    seen, missed = (np.asarray(backbone(images.astype(np.float32), training=False)) for images in (present, absent))
    direction = (seen - missed).mean(axis=0)
    # Sure of itself: behind the softmax nothing is left of the gradient.
    direction *= 1e3 / (seen @ direction).max()
    return linear(np.stack([direction, -direction], axis=1))


@pytest.fixture(scope="module")
def finder() -> tuple[keras.Model, Head]:
    """Return a small CNN and a head trained to distinguish red squares from blue ones, anywhere on noise."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    tensor = architectures._small_cnn(image, [8, 16])
    backbone = keras.Model(image, keras.layers.GlobalAveragePooling2D()(tensor))
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")]
    classifier = keras.Model(image, layers[1](layers[0](backbone.output)))
    draw = np.random.default_rng(0)
    targets = np.arange(192) % 2
    places = [tuple(draw.integers(0, 22, 2)) for _ in targets]
    shown = squares(places, [(RED, BLUE)[target] for target in targets], 32, 10).astype(np.float32)
    classifier.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = classifier.fit(shown, targets, batch_size=16, epochs=12, verbose=0)
    assert history.history["accuracy"][-1] == 1
    (first, last) = (layer.get_weights() for layer in layers)
    return backbone, Head((Layer(*first, "relu"), Layer(*last)))


@pytest.fixture(scope="module", params=DECLARED)
def family(request: pytest.FixtureRequest, declare) -> Iterator[keras.Model]:
    """Return the network of a declared backbone, with average pooling."""
    keras.utils.set_random_seed(0)
    # The last activations of InceptionV3 have one position alone below 107 pixels.
    line = {"input_size": 128, "head": {"pooling": "average"}}
    yield architectures.build(declare(request.param, sizes=(128,), **line).network, None)
    keras.utils.clear_session()


def assert_that_gradients_agree(backbone: keras.Model, images: np.ndarray) -> None:
    """Assert that heatmaps, of a linear head and of a deeper one, are those that TensorFlow's gradients give."""
    activations, features = looked_at(backbone, images), backbone(images.astype(np.float32), training=False)
    classes = [2, 0, 1]
    for units in ((), (8, 5)):
        head = drawn_head(np.asarray(features), units)
        found = heatmaps(activations, architectures.tail(backbone), head, np.array(classes))
        assert (found.shape, found.dtype) == (activations.shape[:3], np.float32)
        assert found.any()
        np.testing.assert_allclose(found, by_keras(backbone, head, activations, classes), atol=2e-3)


def test_every_declared_family_is_seen_through_as_tensorflow_s_gradients_do(family, random_images) -> None:
    assert_that_gradients_agree(family, random_images(3, 128))


# Pooling is the same layer for all of them, but for ConvNeXt, which normalises after it.
@pytest.mark.parametrize(("name", "pooling"), list(product(("vgg16", "convnext_tiny"), ("max", "flatten"))))
def test_every_pooling_is_seen_through_as_tensorflow_s_gradients_do(
    declare, random_images, name: str, pooling: str
) -> None:
    keras.utils.set_random_seed(3)
    network = declare(name, sizes=(64,), input_size=64, head={"pooling": pooling}).network
    assert_that_gradients_agree(architectures.build(network, None), random_images(3, 64))
    keras.utils.clear_session()


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("place", [(1, 2), (3, 20), (12, 10), (21, 5), (20, 21)])
def test_a_network_that_finds_squares_is_shown_to_look_at_them(finder, place: tuple[int, int], target: int) -> None:
    (found,) = explained(*finder, squares([place], [(RED, BLUE)[target]], 32, 10), [target])
    assert found.shape == (16, 16)
    row, column = (2 * axis + 1 for axis in np.unravel_index(found.argmax(), found.shape))
    assert place[0] <= row < place[0] + 10
    assert place[1] <= column < place[1] + 10


def test_of_two_squares_each_class_has_its_own(finder) -> None:
    image = squares([(2, 2)], [RED], 32, 10)
    image[0, 20:30, 20:30] = BLUE
    red, blue = explained(*finder, image.repeat(2, axis=0), [0, 1])
    assert np.add(*np.unravel_index(red.argmax(), red.shape)) < 15
    assert np.add(*np.unravel_index(blue.argmax(), blue.shape)) > 15


def test_every_declared_family_shows_that_the_square_has_moved(family) -> None:
    images = squares([(16, 16), (80, 80)], [RED, RED], 128, 32)
    head = detector(family, images, squares([(0, 0), (0, 0)], [RED, RED], 128, 0))
    upper, lower = explained(family, head, images, [0, 0])
    half = [length // 2 for length in upper.shape]
    assert min(half) > 0
    for found in (upper, lower):
        assert (found.max(), found.min() < 0.95) == (1, True)
    moved = upper - lower
    assert moved[: half[0], : half[1]].mean() > moved[half[0] :, half[1] :].mean() + 0.1


@pytest.mark.parametrize("units", [(), (32,)])
@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
def test_every_pooling_and_every_head_is_looked_through(
    declare, random_images, pooling: str, units: tuple[int]
) -> None:
    keras.utils.set_random_seed(3)
    backbone = architectures.build(declare("scratch", sizes=(32,), head={"pooling": pooling}).network, None)
    images = random_images(2, 32)
    features = np.asarray(backbone(images.astype(np.float32)))
    head = drawn_head(features, units)
    found = explained(backbone, head, images, list(head.logits(features).argmax(axis=1)))
    assert found.shape == (2, 8, 8)
    assert found.min() >= 0
    assert (found.max(axis=(1, 2)) == 1).all()
    assert (found.std(axis=(1, 2)) > 0).all()


def test_behind_average_pooling_and_a_linear_head_it_is_the_class_activation_map() -> None:
    draw = np.random.default_rng(0)
    activations, kernel = draw.normal(size=(2, 5, 4, 6)).astype(np.float32), draw.normal(size=(6, 3))
    found = heatmaps(activations, [{"kind": "average"}], linear(kernel), np.array([0, 2]))
    # Zhou et al. 2016, eq. 2.
    maps = np.maximum(np.stack([activations[0] @ kernel[:, 0], activations[1] @ kernel[:, 2]]), 0)
    np.testing.assert_allclose(found, maps / maps.max(axis=(1, 2), keepdims=True), atol=1e-5)


def test_behind_max_pooling_the_largest_of_each_window_counts_and_the_edge_that_fills_none_does_not() -> None:
    activations = np.arange(1, 16, dtype=np.float32).reshape(1, 3, 5, 1)
    tail = [{"kind": "max_pooling", "pool": [2, 2]}, {"kind": "average"}]
    (found,) = heatmaps(activations, tail, linear(np.ones((1, 1))), np.array([0]))
    np.testing.assert_allclose(found * 9, [[0] * 5, [0, 7, 0, 9, 0], [0] * 5], rtol=1e-6)


def test_behind_global_max_pooling_equal_positions_share_what_they_say() -> None:
    activations = np.array([[3, 1], [3, 2]], dtype=np.float32).reshape(1, 2, 2, 1)
    (found,) = heatmaps(activations, [{"kind": "max"}], linear(np.ones((1, 1))), np.array([0]))
    np.testing.assert_array_equal(found, [[1, 0], [1, 0]])


def test_behind_flatten_each_position_speaks_for_itself(declare, random_images) -> None:
    keras.utils.set_random_seed(3)
    backbone = architectures.build(declare("scratch", sizes=(32,), head={"pooling": "flatten"}).network, None)
    # What lies in the upper left quarter speaks for the class, all else, three times as much, against it.
    weights = np.full((4, 4, backbone.output.shape[-1] // 16, 2), -1.0)
    weights[:2, :2] = 1.0
    found = explained(backbone, linear(weights.reshape(-1, 2)), random_images(2, 32), [0, 1])
    assert found[:, :4, :4].any(axis=(1, 2)).all()
    assert not found[:, 4:].any()
    assert not found[:, :, 4:].any()


def test_each_image_of_a_batch_is_explained_as_it_is_alone(finder) -> None:
    images = squares([(2, 3), (15, 20)], [RED, BLUE], 32, 10)
    together = explained(*finder, images, [0, 1])
    for number in range(2):
        alone = explained(*finder, images[number : number + 1], [number])
        np.testing.assert_allclose(alone[0], together[number], atol=1e-5)


def test_where_nothing_speaks_for_the_class_the_map_is_empty(declare, random_images) -> None:
    backbone = architectures.build(declare("scratch", sizes=(32,), head={"pooling": "average"}).network, None)
    # Activations behind a ReLU are not negative: with such weights all of them speak against the class.
    head = linear(np.full((backbone.output.shape[-1], 2), -1.0))
    assert not explained(backbone, head, random_images(2, 32), [0, 1]).any()
