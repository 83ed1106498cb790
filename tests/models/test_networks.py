import keras
import numpy as np
import pytest

from stages.errors import ParameterError
from stages.models.networks import build, cut, unfreeze


def names_above(network: keras.Model, bottom: keras.KerasTensor) -> set[str]:
    part = keras.Model(bottom, network.output)
    return {layer.name for layer in part.layers if layer.weights}


@pytest.fixture(scope="module")
def resnet() -> keras.Model:
    tensor = keras.Input((32, 32, 3))
    network = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_tensor=tensor)
    return keras.Model(tensor, network.output)


def test_a_block_of_vgg_is_a_convolution(declare) -> None:
    network = build(declare("vgg16"), None)
    assert names_above(network, cut(network, 1, "vgg16")) == {"block5_conv3"}
    assert names_above(network, cut(network, 2, "vgg16")) == {"block5_conv3", "block5_conv2"}


def test_a_block_of_a_resnet_is_a_residual_block(resnet: keras.Model) -> None:
    above = names_above(resnet, cut(resnet, 1, "resnet50"))
    assert above == {f"conv5_block3_{n}_{kind}" for n in (1, 2, 3) for kind in ("conv", "bn")}


def test_zero_blocks_cut_nothing_and_all_cut_at_the_pictures(resnet: keras.Model) -> None:
    assert cut(resnet, 0, "resnet50") is None
    assert cut(resnet, "all", "resnet50") is resnet.input


def test_more_blocks_than_there_are_is_an_error_that_says_how_many(resnet: keras.Model) -> None:
    # 16 residual blocks and the stem.
    with pytest.raises(ParameterError, match="'resnet50'; expected at most its 17 blocks; or say 'all'"):
        cut(resnet, 18, "resnet50")


def test_unfreezing_shares_layers_and_keeps_batch_normalization_frozen(resnet: keras.Model) -> None:
    part = unfreeze(resnet, cut(resnet, 1, "resnet50"))
    assert {v.path.split("/")[-2] for v in part.trainable_variables} == {f"conv5_block3_{n}_conv" for n in (1, 2, 3)}
    assert part.get_layer("conv5_block3_1_conv") is resnet.get_layer("conv5_block3_1_conv")


@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
@pytest.mark.parametrize("name", ["scratch", "mobilenet_v3_small"])
def test_every_pooling_gives_one_vector_a_picture(declare, pictures, name: str, pooling: str) -> None:
    network = build(declare(name, head={"pooling": pooling}), None)
    batch = pictures(2, network.input.shape[1]).astype("float32")
    assert network(batch).shape == (2, network.output.shape[-1])


def test_the_small_cnn_is_the_course_s(declare) -> None:
    network = build(declare("scratch", arguments={"filters": [8, 16]}, head={"pooling": "flatten"}), None)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["InputLayer", "Rescaling", *["Conv2D", "MaxPooling2D"] * 2, "Flatten"]
    assert [layer.activation.__name__ for layer in network.layers if isinstance(layer, keras.layers.Conv2D)] == [
        "relu",
        "relu",
    ]


def test_arguments_reach_the_builder(declare) -> None:
    small = build(declare("mobilenet_v3_small", arguments={"minimalistic": True}), None)
    assert small.count_params() < build(declare("mobilenet_v3_small"), None).count_params()


def test_arguments_that_the_builder_does_not_know_are_one_line(declare) -> None:
    with pytest.raises(
        ParameterError, match=r"arguments = {'depht': 3}.*expected arguments of keras.applications.VGG16"
    ):
        build(declare("vgg16", arguments={"depht": 3}), None)


@pytest.mark.parametrize("arguments", [{"depth": 3}, {"filters": 32}, {"filters": [4] * 9}])
def test_arguments_that_the_small_cnn_cannot_use_are_one_line(declare, arguments) -> None:
    with pytest.raises(ParameterError, match=r"scratch.arguments = .*expected filters, a list of widths"):
        build(declare("scratch", arguments=arguments), None)


def test_preprocessing_can_be_loaded_by_any_keras(declare, pictures, tmp_path) -> None:
    network = build(declare("vgg16"), None)
    network.save(tmp_path / "network.keras")
    batch = pictures(2, network.input.shape[1]).astype("float32")
    again = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again.predict(batch, verbose=0), network.predict(batch, verbose=0))
    assert not any(type(layer).__module__.startswith("stages") for layer in again.layers)
