"""The check of preprocessing: near where it is that of the weights, far away where its scale is wrong."""

import keras
import numpy as np
import pytest
from keras.src.applications import resnet

from stages.core.files import read_json
from stages.networks import architectures, pretrained
from stages.networks.engine import Choice
from stages.networks.expectation import IMAGES, checked, distance
from stages.networks.extraction import forward
from stages.networks.origin import Origin
from stages.weights import write

pytestmark = pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
OWN = Origin("own.h5", "", "own.h5", f"sha256:{'0' * 64}")


def settled(network: keras.Model, images: np.ndarray) -> None:
    """Give the first normalisation the statistics of these images, as training on them does."""
    first, taken = architectures._first_normalization(network)
    below = np.asarray(keras.Model(network.input, taken)(images.astype("float32")))
    first.moving_mean.assign(below.mean(axis=(0, 1, 2)))
    first.moving_variance.assign(below.var(axis=(0, 1, 2)))


@pytest.fixture
def _few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each stage of a ResNet have two narrow blocks: what is checked lies below them."""
    stack = resnet.stack_residual_blocks_v2
    monkeypatch.setattr(
        resnet, "stack_residual_blocks_v2", lambda x, filters, _, **more: stack(x, filters // 8, 2, **more)
    )


@pytest.mark.usefixtures("_few_blocks")
@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("MobileNet", "tf", (0, 0.5)),
        ("MobileNet", {"mean": [127.5] * 3, "deviation": [127.5] * 3}, (0, 0.5)),
        ("MobileNet", "caffe", (3, 1e9)),
        ("MobileNet", "raw", (3, 1e9)),
        ("MobileNet", {"mean": [0, 0, 0], "deviation": [25500, 25500, 25500]}, (3, 1e9)),
        ("resnet50_v2", "tf", (0, 0.5)),
        ("resnet50_v2", "caffe", (3, 1e9)),
    ],
    ids=["right", "right_in_numbers", "caffe", "raw", "tiny", "residual-right", "residual-caffe"],
)
def test_a_wrong_scale_is_far_away_and_the_right_one_near(
    declare, random_images, tmp_path, name: str, inputs, expected: tuple[float, float]
) -> None:
    trained = pretrained.random(declare(name, sizes=(32,), inputs="tf").network)
    settled(trained, random_images(100, 32, seed=1))
    used = declare(name, sizes=(32,), inputs=inputs).network
    network = pretrained.random(used)
    network.set_weights(trained.get_weights())
    write(tmp_path, network, used, OWN)
    facts = read_json(tmp_path / "backbone.json")
    output = facts["normalization"]["output"]
    computed = forward(tmp_path, Choice("openvino", "float32", 1), (output,))

    found = checked(computed, facts, random_images(100, 32, seed=2))

    low, high = expected
    assert low <= found["distance"] < high
    assert (found["images"], found["declared"], found["layer"]) == (IMAGES, inputs, facts["normalization"]["layer"])
    keras.backend.clear_session()


@pytest.mark.parametrize(("name", "origin"), [("vgg16", OWN), ("mobilenet_v2", Origin("random"))])
def test_without_a_trained_batch_normalisation_there_is_nothing_to_check(declare, tmp_path, name: str, origin) -> None:
    used = declare(name, sizes=(32,)).network
    write(tmp_path, pretrained.random(used), used, origin)
    assert read_json(tmp_path / "backbone.json")["normalization"] is None


def test_the_distance_is_that_of_an_example_worked_by_hand() -> None:
    activations = np.array([[[[0.0, 3.0], [2.0, 3.0]]]], dtype=np.float32)
    # Mean 1 and deviation 1 where 4 and 1 are expected: 3 deviations away. A constant channel: -log(1e-6) = 13.8.
    assert distance(activations, np.array([4.0, 3.0]), np.array([1.0, 1.0])) == pytest.approx((3 + 13.8155) / 2, 1e-4)
    assert distance(activations[..., :1], np.array([1.0]), np.array([np.e**2])) == pytest.approx(1)
