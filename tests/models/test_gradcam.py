import keras
import numpy as np
import pytest

from stages.models import heads, networks
from stages.models.gradcam import feature_map, grad_cam
from stages.params import read
from tests.models.conftest import ROOT

DECLARED = list(read(ROOT / "params.yaml")["backbones"])
RED, BLUE = (230, 40, 40), (40, 40, 230)


def squares(places: list[tuple[int, int]], colours: list[tuple[int, int, int]], side: int, width: int) -> np.ndarray:
    """Return grey noise with a square each, at the given top and left."""
    pictures = np.random.default_rng(1).integers(100, 140, (len(places), side, side, 3)).astype(np.uint8)
    for picture, (top, left), colour in zip(pictures, places, colours, strict=True):
        picture[top : top + width, left : left + width] = colour
    return pictures


def joined(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """Return the classifier as stage finetune saves it: the backbone and the head are layers of it."""
    return keras.Model(backbone.input, head(backbone(backbone.input)), name="classifier")


def detector(backbone: keras.Model, present: np.ndarray, absent: np.ndarray) -> keras.Model:
    """Return a head for two classes: what distinguishes the features of the pictures `present`, and the contrary."""
    seen, missed = (backbone(pictures.astype(np.float32), training=False).numpy() for pictures in (present, absent))
    direction = (seen - missed).mean(axis=0)
    # Sure of itself: behind the softmax nothing is left of the gradient.
    direction *= 1e3 / (seen @ direction).max()
    head = heads.build(heads.Head.model_validate(HEAD), len(direction), 2, None)
    head.set_weights([np.stack([direction, -direction], axis=1), np.zeros(2)])
    return head


HEAD = {"pooling": "average", "units": (), "activation": "relu", "dropout": 0.0, "l2": 0.0, "standardise": False}


@pytest.fixture(scope="module")
def finder() -> tuple[keras.Model, keras.Model]:
    """Return a small CNN and its head that have learnt to tell red squares from blue ones, anywhere on noise."""
    keras.utils.set_random_seed(0)
    picture = keras.Input((32, 32, 3))
    tensor = networks._small_cnn(picture, [8, 16])
    backbone = keras.Model(picture, keras.layers.GlobalAveragePooling2D()(tensor), name="backbone")
    head = heads.build(heads.Head.model_validate(HEAD | {"units": (8,)}), 16, 2, None)
    classifier = joined(backbone, head)
    draw = np.random.default_rng(0)
    targets = np.arange(192) % 2
    places = [tuple(draw.integers(0, 22, 2)) for _ in targets]
    shown = squares(places, [(RED, BLUE)[target] for target in targets], 32, 10).astype(np.float32)
    classifier.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = classifier.fit(shown, targets, batch_size=16, epochs=12, verbose=0)
    assert history.history["accuracy"][-1] == 1
    return classifier


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("place", [(1, 2), (3, 20), (12, 10), (21, 5), (20, 21)])
def test_a_network_that_finds_squares_is_shown_to_look_at_them(finder, place: tuple[int, int], target: int) -> None:
    pictures = squares([place], [(RED, BLUE)[target]], 32, 10)
    (found,) = grad_cam(finder)(pictures, np.array([target]))
    assert found.shape == (16, 16)
    row, column = (2 * axis + 1 for axis in np.unravel_index(found.argmax(), found.shape))
    assert place[0] <= row < place[0] + 10
    assert place[1] <= column < place[1] + 10


def test_of_two_squares_each_class_has_its_own(finder) -> None:
    picture = squares([(2, 2)], [RED], 32, 10)
    picture[0, 20:30, 20:30] = BLUE
    red, blue = grad_cam(finder)(picture.repeat(2, axis=0), np.array([0, 1]))
    assert np.add(*np.unravel_index(red.argmax(), red.shape)) < 15
    assert np.add(*np.unravel_index(blue.argmax(), blue.shape)) > 15


@pytest.mark.parametrize("name", DECLARED)
def test_every_declared_family_shows_that_the_square_has_moved(declare, name: str) -> None:
    keras.utils.set_random_seed(0)
    backbone = networks.build(declare(name, sizes=(128,), head={"pooling": "average"}), None)
    pictures = squares([(16, 16), (80, 80)], [RED, RED], 128, 32)
    head = detector(backbone, pictures, squares([(0, 0), (0, 0)], [RED, RED], 128, 0))
    upper, lower = grad_cam(joined(backbone, head))(pictures, np.array([0, 0]))
    half = [length // 2 for length in upper.shape]
    assert min(half) > 0
    for found in (upper, lower):
        assert (found.max(), found.min() < 0.95) == (1, True)
    moved = upper - lower
    assert moved[: half[0], : half[1]].mean() > moved[half[0] :, half[1] :].mean() + 0.1


@pytest.mark.parametrize(
    ("name", "layer", "positions"),
    [
        ("vgg16", "block5_conv3", 6),
        ("resnet50", "conv5_block3_out", 3),
        ("scratch", "convolution_3", 24),
        ("inception_v3", "mixed7", 4),
    ],
)
def test_the_feature_map_is_the_last_with_more_than_one_position_below_pooling(
    declare, name: str, layer: str, positions: int
) -> None:
    backbone = networks.build(declare(name, sizes=(96,), head={"pooling": "flatten"}), None)
    found = feature_map(backbone)
    assert found is backbone.get_layer(layer).output
    assert found.shape[1:3] == (positions, positions)
    keras.utils.clear_session()


@pytest.mark.parametrize("units", [(), (32,)])
@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
def test_every_pooling_and_every_head_is_looked_through(declare, pictures, pooling: str, units: tuple[int]) -> None:
    keras.utils.set_random_seed(3)
    backbone = networks.build(declare("scratch", sizes=(32,), head={"pooling": pooling}), None)
    width = backbone.output.shape[-1]
    head = heads.build(heads.Head.model_validate(HEAD | {"units": units}), width, 3, (np.zeros(width), np.ones(width)))
    classifier = joined(backbone, head)
    shown = pictures(2, 32)
    found = grad_cam(classifier)(shown, classifier(shown.astype(np.float32)).numpy().argmax(axis=1))
    assert (found.shape, found.dtype) == ((2, 8, 8), np.float32)
    assert found.min() >= 0
    assert (found.max(axis=(1, 2)) == 1).all()
    assert (found.std(axis=(1, 2)) > 0).all()


def test_behind_average_pooling_the_map_is_the_class_activation_map(declare, pictures) -> None:
    keras.utils.set_random_seed(3)
    backbone = networks.build(declare("scratch", sizes=(32,), head={"pooling": "average"}), None)
    head = heads.build(heads.Head.model_validate(HEAD), backbone.output.shape[-1], 3, None)
    shown, targets = pictures(2, 32), np.array([0, 2])
    found = grad_cam(joined(backbone, head))(shown, targets)
    activations = keras.Model(backbone.input, feature_map(backbone))(shown.astype(np.float32)).numpy()
    # Zhou et al. 2016, eq. 2; max pooling lies between, so that only the largest of four positions counts.
    largest = activations.reshape(2, 4, 2, 4, 2, -1).max(axis=(2, 4), keepdims=True)
    counted = activations.reshape(2, 4, 2, 4, 2, -1) * (activations.reshape(2, 4, 2, 4, 2, -1) == largest)
    maps = counted.reshape(activations.shape) @ head.get_layer("probabilities").kernel.numpy()
    expected = np.stack([np.maximum(maps[number, :, :, target], 0) for number, target in enumerate(targets)])
    np.testing.assert_allclose(found, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-5)


def test_behind_flatten_each_position_speaks_for_itself(declare, pictures) -> None:
    keras.utils.set_random_seed(3)
    backbone = networks.build(declare("scratch", sizes=(32,), head={"pooling": "flatten"}), None)
    head = heads.build(heads.Head.model_validate(HEAD), backbone.output.shape[-1], 2, None)
    # What lies in the upper left quarter speaks for the class, all else, three times as much, against it.
    weights = np.full((4, 4, backbone.output.shape[-1] // 16, 2), -1.0)
    weights[:2, :2] = 1.0
    head.set_weights([weights.reshape(-1, 2), np.zeros(2)])
    found = grad_cam(joined(backbone, head))(pictures(2, 32), np.array([0, 1]))
    assert found[:, :4, :4].any(axis=(1, 2)).all()
    assert not found[:, 4:].any()
    assert not found[:, :, 4:].any()


def test_each_picture_of_a_batch_is_explained_as_it_is_alone(finder) -> None:
    explained = grad_cam(finder)
    pictures, targets = squares([(2, 3), (15, 20)], [RED, BLUE], 32, 10), np.array([0, 1])
    together = explained(pictures, targets)
    for number in range(2):
        alone = explained(pictures[number : number + 1], targets[number : number + 1])
        np.testing.assert_allclose(alone[0], together[number], atol=1e-5)


def test_where_nothing_speaks_for_the_class_the_map_is_empty(declare, pictures) -> None:
    backbone = networks.build(declare("scratch", sizes=(32,), head={"pooling": "average"}), None)
    head = heads.build(heads.Head.model_validate(HEAD), backbone.output.shape[-1], 2, None)
    # Activations behind a ReLU are not negative: with such weights all of them speak against the class.
    head.set_weights([np.full((backbone.output.shape[-1], 2), -1.0), np.zeros(2)])
    assert not grad_cam(joined(backbone, head))(pictures(2, 32), np.array([0, 1])).any()


def test_a_saved_classifier_is_explained_as_before(finder, tmp_path) -> None:
    finder.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    pictures, targets = squares([(2, 3)], [RED], 32, 10), np.array([0])
    np.testing.assert_array_equal(grad_cam(again)(pictures, targets), grad_cam(finder)(pictures, targets))


def test_a_network_that_only_reads_pixels_has_no_feature_map(declare) -> None:
    backbone = networks.build(declare("scratch", arguments={"filters": []}, head={"pooling": "flatten"}), None)
    head = heads.build(heads.Head.model_validate(HEAD), backbone.output.shape[-1], 2, None)
    assert grad_cam(joined(backbone, head)) is None
