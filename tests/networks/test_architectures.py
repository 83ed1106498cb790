import keras
import numpy as np
import pytest

from stages.core.builders.families import FAMILIES
from stages.core.errors import ParameterError
from stages.networks.architectures import build, feature_map, outputs, split_point, tail, top

SMALL = {"arguments": {"alpha": 0.25}, "inputs": "tf"}


def names_above(network: keras.Model, name: str) -> set[str]:
    return {layer.name for layer in keras.Model(outputs(network)[name], network.output).layers if layer.weights}


@pytest.fixture(scope="module")
def resnet() -> keras.Model:
    tensor = keras.Input((32, 32, 3))
    network = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_tensor=tensor)
    return keras.Model(tensor, network.output)


def test_a_block_of_vgg_is_a_convolution(declare) -> None:
    network = build(declare("vgg16").network, None)
    assert names_above(network, "block_1") == {"block5_conv3"}
    assert names_above(network, "block_2") == {"block5_conv3", "block5_conv2"}


def test_a_block_of_a_resnet_is_a_residual_block(resnet: keras.Model) -> None:
    assert names_above(resnet, "block_1") == {f"conv5_block3_{n}_{kind}" for n in (1, 2, 3) for kind in ("conv", "bn")}


@pytest.mark.parametrize(
    ("blocks", "name"),
    [(1, "block_1"), (17, "block_17"), ("all", "image"), (0.5, "block_8"), (0.1, "block_2"), (0.01, "block_1")],
)
def test_a_cut_is_named_by_the_blocks_above_it_a_share_of_them_rounded(resnet, blocks, name: str) -> None:
    # 16 residual blocks and the stem.
    assert [*outputs(resnet)] == ["features", *(f"block_{number}" for number in range(1, 18)), "normalized"]
    assert split_point(resnet, blocks, "resnet50") == name


def test_the_images_themselves_are_no_block_s_output() -> None:
    image = keras.Input((8, 8, 3))
    tensor = keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(image))
    network = keras.Model(image, keras.layers.GlobalMaxPooling2D()(tensor))
    assert [*outputs(network)] == ["features", "map", "block_1"]
    assert [split_point(network, blocks, "two") for blocks in (1, 2)] == ["block_1", "image"]


def test_more_blocks_than_there_are_is_an_error_that_says_how_many(resnet: keras.Model) -> None:
    with pytest.raises(ParameterError, match="'resnet50'; expected at most its 17 blocks; or set 'all'"):
        split_point(resnet, 18, "resnet50")


def test_the_top_shares_layers_and_keeps_batch_normalization_frozen(resnet: keras.Model) -> None:
    part = top(resnet, "block_1")
    assert {v.path.split("/")[-2] for v in part.trainable_variables} == {f"conv5_block3_{n}_conv" for n in (1, 2, 3)}
    assert part.get_layer("conv5_block3_1_conv") is resnet.get_layer("conv5_block3_1_conv")
    assert top(resnet, "image") is resnet


@pytest.mark.parametrize("builder", [next(iter(family.native)) for family in FAMILIES])
def test_of_every_family_it_is_known_how_features_come_from_the_feature_map(declare, builder: str) -> None:
    network = build(declare("any", builder=builder, sizes=(128,), head={"pooling": "average"}).network, None)
    between = {"ConvNeXtTiny": "layer_normalization", "VGG16": "max_pooling", "VGG19": "max_pooling"}
    expected = {"average", (between | {"scratch": "max_pooling"}).get(builder, "average")}
    assert {operation["kind"] for operation in tail(network)} == expected
    assert outputs(network)["map"] is feature_map(network)
    keras.utils.clear_session()


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
    backbone = build(declare(name, sizes=(96,), head={"pooling": "flatten"}).network, None)
    found = feature_map(backbone)
    assert found is backbone.get_layer(layer).output
    assert found.shape[1:3] == (positions, positions)
    keras.utils.clear_session()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        # Of so small images two modules of InceptionV3 see one position alone.
        ("inception_v3", {"sizes": (96,)}),
        # It only reads pixels.
        ("scratch", {"arguments": {"filters": []}, "head": {"pooling": "flatten"}}),
    ],
)
def test_without_a_usable_feature_map_there_is_no_such_output(declare, name: str, line) -> None:
    network = build(declare(name, **line).network, None)
    assert tail(network) is None
    assert "map" not in outputs(network)


def test_pooling_by_windows_that_overlap_is_not_followed() -> None:
    image = keras.Input((16, 16, 3))
    tensor = keras.layers.MaxPooling2D(3, strides=2)(keras.layers.Conv2D(4, 3)(image))
    assert tail(keras.Model(image, keras.layers.GlobalMaxPooling2D()(tensor))) is None


def test_a_top_that_was_saved_has_the_same_tail(declare, tmp_path) -> None:
    network = build(declare("scratch", head={"pooling": "max"}).network, None)
    top(network, "block_1").save(tmp_path / "top.keras")
    again = keras.models.load_model(tmp_path / "top.keras")
    assert tail(again) == tail(network) == [{"kind": "max_pooling", "pool": [2, 2]}, {"kind": "max"}]
    assert outputs(again)["map"].shape == outputs(network)["map"].shape


@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
@pytest.mark.parametrize("name", ["scratch", "MobileNet"])
def test_every_pooling_gives_one_vector_an_image(declare, random_images, name: str, pooling: str) -> None:
    network = build(declare(name, head={"pooling": pooling}, **({} if name == "scratch" else SMALL)).network, None)
    batch = random_images(2, network.input.shape[1]).astype("float32")
    assert network(batch).shape == (2, network.output.shape[-1])


def test_the_small_cnn_is_the_course_s(declare) -> None:
    network = build(declare("scratch", arguments={"filters": [8, 16]}, head={"pooling": "flatten"}).network, None)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["InputLayer", "Rescaling", *["Conv2D", "MaxPooling2D"] * 2, "Flatten"]
    assert [layer.activation.__name__ for layer in network.layers if isinstance(layer, keras.layers.Conv2D)] == [
        "relu",
        "relu",
    ]


def test_arguments_reach_the_builder(declare) -> None:
    small = build(declare("MobileNet", **SMALL).network, None)
    assert small.count_params() < build(declare("MobileNet", inputs="tf").network, None).count_params()


def test_a_value_that_the_builder_refuses_is_one_line(declare) -> None:
    with pytest.raises(
        ParameterError, match=r"(?s)arguments = {'alpha': 0.3}.*expected arguments of keras.applications.MobileNetV2"
    ):
        build(declare("mobilenet_v2", arguments={"alpha": 0.3}).network, "imagenet")


def test_more_widths_than_the_small_cnn_can_halve_its_input_are_one_line(declare) -> None:
    with pytest.raises(ParameterError, match=r"scratch.arguments = .*expected filters, a list of widths"):
        build(declare("scratch", arguments={"filters": [4] * 9}).network, None)


def test_preprocessing_can_be_loaded_by_any_keras(declare, random_images, tmp_path) -> None:
    network = build(declare("vgg16").network, None)
    network.save(tmp_path / "network.keras")
    batch = random_images(2, network.input.shape[1]).astype("float32")
    again = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(again.predict(batch, verbose=0), network.predict(batch, verbose=0))
    assert not any(type(layer).__module__.startswith("stages") for layer in again.layers)
