"""Backbones of KerasHub mean what KerasHub means by them, blocks and all, and say what is wrong with a line."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub", reason="the extra 'hub' is not installed")

import keras  # noqa: E402 (KerasHub is looked for first)
from keras_hub.src.utils import preset_utils  # noqa: E402

from stages.core.builders.hub import of_preset  # noqa: E402
from stages.core.errors import ParameterError, UserError, WeightsError  # noqa: E402
from stages.core.settings.backbones import Network  # noqa: E402
from stages.core.settings.weights import WeightsParams  # noqa: E402
from stages.networks import architectures, hub, keras_engine, unrolled  # noqa: E402
from stages.networks.download import UnreachableError  # noqa: E402
from stages.networks.pretrained import obtain  # noqa: E402

# What Keras says of a mask that Swin's padding attaches.
pytestmark = [pytest.mark.hub, pytest.mark.filterwarnings("ignore:Layer 'attn':UserWarning")]
SIDE = 32
_TOKENS = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 8}
VIT = _TOKENS | {"mlp_dim": 16}
CLIP = _TOKENS | {"intermediate_dim": 16}
RESNET = {
    "input_conv_filters": [64], "input_conv_kernel_sizes": [3], "stackwise_num_filters": [64, 16],
    "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2], "block_type": "basic_block",
}  # fmt: skip
SWIN = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "patch_size": 2}
HGNET = {
    "depths": [1, 1], "embedding_size": 8, "hidden_sizes": [16, 32], "stem_channels": [3, 8, 8], "hidden_act": "relu",
    "use_learnable_affine_block": False, "stackwise_stage_filters": [[8, 8, 16, 1, 2, 3], [16, 8, 32, 1, 2, 3]],
    "apply_downsample": [False, True], "use_lightweight_conv_block": [False, False],
}  # fmt: skip
MIT = {
    "layerwise_depths": [1, 2], "num_layers": 2, "layerwise_num_heads": [1, 2], "layerwise_sr_ratios": [2, 1],
    "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3], "layerwise_strides": [4, 2], "hidden_dims": [8, 16],
}  # fmt: skip
# By class: its arguments, the number of blocks that can be cut off its top, and whether there is a feature map.
CLASSES: dict[str, tuple[dict[str, Any], int, bool]] = {
    "ViTBackbone": (VIT, 2, False),
    "DeiTBackbone": (CLIP, 2, False),
    "DINOV2Backbone": (CLIP | {"num_register_tokens": 1}, 2, False),
    "DINOV3Backbone": (CLIP | {"num_register_tokens": 4}, 2, False),
    "SwinTransformerBackbone": (SWIN, 5, True),
    "SigLIPVisionEncoder": (CLIP, 3, False),
    "CLIPVisionEncoder": (CLIP, 2, False),
    "MiTBackbone": (MIT, 4, True),
    "HGNetV2Backbone": (HGNET, 2, True),
    "ResNetBackbone": (RESNET, 3, True),
}
OFFLINE = WeightsParams(
    source="imagenet", folder="data/own_weights", mirror=None, if_unreachable="random", connect_timeout=2.0
)


def declared(
    builder: str, weights: str = "random", pooling: str = "average", size: int = SIDE, inputs: Any = None, **arguments
) -> Network:
    name = f"keras_hub:{builder}"
    return Network(
        name="mine",
        builder=name,
        input_size=size,
        pooling=pooling,
        weights=weights,
        checksum=None,
        inputs=inputs or ("preset" if of_preset(name, weights) else "raw"),
        arguments=arguments,
    )


@pytest.fixture(autouse=True)
def _seeded(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(1)


@pytest.fixture
def images(random_images) -> np.ndarray:
    return random_images(2, SIDE).astype(np.float32)


def own(network: keras.Model) -> keras.Model:
    """Return KerasHub's own network inside a backbone."""
    nested = unrolled.saved_form(network)
    return next(layer for layer in nested.layers if isinstance(layer, keras_hub.models.Backbone))


def called(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return what KerasHub's network ends in."""
    given = dict.fromkeys(network.input, images) if isinstance(network.input, dict) else images
    return np.asarray(unrolled.last(network(given, training=False)))


def expected_of(ended: np.ndarray, before: int) -> np.ndarray:
    """Return the features of what a network ends in, `before` tokens of which stand before those of patches."""
    if ended.ndim == 4:
        return ended.mean(axis=(1, 2))
    return ended if ended.ndim == 2 else ended[:, 0] if before else ended.mean(axis=1)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_gives_the_features_of_keras_hub_its_blocks_and_a_file_that_means_the_same(
    name: str, images: np.ndarray, tmp_path: Path
) -> None:
    arguments, blocks, has_map = CLASSES[name]
    network, origin = obtain(declared(name, **arguments), OFFLINE)
    assert (origin.source, origin.reason) == ("random", "as set in params.yaml")
    ended = called(own(network), images)
    features = np.asarray(network(images))
    before = ended.shape[1] - 16 if ended.ndim == 3 and name != "SwinTransformerBackbone" else 0
    np.testing.assert_allclose(features, expected_of(ended, before), rtol=1e-4, atol=1e-5)
    outputs = architectures.outputs(network)
    assert (sum(output.startswith("block") for output in outputs), "map" in outputs) == (blocks, has_map)
    keras_engine.save(network, tmp_path / "backbone.keras")
    again = keras_engine.load(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(np.asarray(again(images)), features)
    assert list(architectures.outputs(again)) == list(outputs)


@pytest.mark.parametrize("name", ["ViTBackbone", "DINOV3Backbone", "ResNetBackbone"])
def test_openvino_computes_what_keras_does(name: str) -> None:
    network, _ = obtain(declared(name, **CLASSES[name][0]), OFFLINE)
    found = hub.converted(network, architectures.outputs(network), "mine")
    assert {next(iter(port.get_names())) for port in found.outputs} == set(architectures.outputs(network))


@pytest.mark.parametrize("name", ["ViTBackbone", "MiTBackbone"])
def test_a_reduced_precision_reaches_the_layers_inside_blocks(name: str, images: np.ndarray, tmp_path: Path) -> None:
    network, _ = obtain(declared(name, **CLASSES[name][0]), OFFLINE)
    keras_engine.save(network, tmp_path / keras_engine.BACKBONE)
    found = keras_engine.forward(tmp_path, "bfloat16", ("features",))(images)["features"]
    expected = np.asarray(network(images))
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_openvino_computes_otherwise_is_one_line() -> None:
    arguments = SWIN | {"num_heads": [1, 2]}
    network, _ = obtain(declared("SwinTransformerBackbone", **arguments), OFFLINE)
    with pytest.raises(UserError, match=r"backbone 'mine' cannot be run by OpenVINO .*; leave the backbone out"):
        hub.converted(network, {"features": network.output}, "mine")


@pytest.mark.parametrize(
    ("pooling", "arguments", "width"),
    [("max", {}, 8), ("flatten", {}, 17 * 8), ("average", {"use_class_token": False}, 8)],
)
def test_tokens_are_pooled_as_declared(pooling: str, arguments: dict, width: int, images: np.ndarray) -> None:
    network, _ = obtain(declared("ViTBackbone", pooling=pooling, **VIT | arguments), OFFLINE)
    ended = called(own(network), images)
    wanted = {"max": ended[:, 1:].max(axis=1), "flatten": ended.reshape(2, -1), "average": ended.mean(axis=1)}
    assert network.output.shape == (None, width)
    np.testing.assert_allclose(np.asarray(network(images)), wanted[pooling], rtol=1e-4, atol=1e-5)
    # The mean and the maximum of patches have places in the image.
    assert ("map" in architectures.outputs(network)) == (pooling != "flatten")


def test_a_trained_top_is_kept_in_its_file_and_batch_normalization_inside_layers_stays_frozen(
    images: np.ndarray, tmp_path: Path
) -> None:
    network, _ = obtain(declared("HGNetV2Backbone", **HGNET), OFFLINE)
    below = keras.Model(network.input, architectures.outputs(network)["block_1"])(images)
    top = architectures.top(network, "block_1")
    inner = [layer for layer in top._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert inner
    assert not any(layer.trainable for layer in inner)
    for variable in top.trainable_variables:
        variable.assign(variable * 1.5)
    keras_engine.save(top, tmp_path / "top.keras")
    again = keras_engine.load(tmp_path / "top.keras")
    assert again.input.shape == top.input.shape
    np.testing.assert_allclose(np.asarray(again(below)), np.asarray(top(below)), rtol=1e-5)


def save_preset(folder: Path, **converter: Any) -> keras.Model:
    """Write the folder of a preset of a small ViT with its preprocessing; return KerasHub's network."""
    network = keras_hub.models.ViTBackbone(image_shape=(SIDE, SIDE, 3), **VIT)
    network.save_to_preset(str(folder))
    if converter:
        kind = keras_hub.layers.ViTImageConverter
        kind(image_size=(SIDE, SIDE), **converter).save_to_preset(str(folder))
    return network


@pytest.mark.parametrize(
    ("builder", "weights"), [("nets/vit", "imagenet"), ("ViTBackbone", "nets/vit"), ("vit_base", "nets/vit")]
)
def test_the_folder_of_a_preset_gives_its_weights_its_preprocessing_and_its_origin(
    builder: str, weights: str, images: np.ndarray
) -> None:
    scale, offset = [1 / 50, 1 / 60, 1 / 70], [-2.0, -1.5, -1.0]
    preset = save_preset(Path("nets/vit"), scale=scale, offset=offset)
    Path("nets/vit/README.md").write_text("---\nlibrary_name: keras-hub\nlicense: apache-2.0\n---\nA ViT.\n")
    network, origin = obtain(declared(builder, weights), OFFLINE)
    expected = np.asarray(preset(images * np.array(scale) + np.array(offset)))[:, 0]
    np.testing.assert_allclose(np.asarray(network(images)), expected, rtol=1e-3, atol=1e-4)
    digest = hashlib.sha256(Path("nets/vit/model.weights.h5").read_bytes()).hexdigest()
    assert vars(origin) == {
        "source": "keras_hub:nets/vit",
        "reason": "a preset that states the licence apache-2.0",
        "file": "model.weights.h5",
        "checksum": f"sha256:{digest}",
        "licence": "apache-2.0",
    }


def test_weights_of_a_preset_with_another_checksum_than_the_line_says_are_refused() -> None:
    save_preset(Path("nets/vit"), scale=1 / 255)
    digest = f"sha256:{hashlib.sha256(Path('nets/vit/model.weights.h5').read_bytes()).hexdigest()}"
    line = declared("nets/vit", "imagenet")
    assert obtain(line.model_copy(update={"checksum": digest}), OFFLINE)[1].checksum == digest
    other = f"sha256:{'0' * 64}"
    with pytest.raises(WeightsError, match=rf"has {digest}; expected {other}, as backbones.mine.checksum says"):
        obtain(line.model_copy(update={"checksum": other}), OFFLINE)


def test_a_preset_without_preprocessing_needs_it_in_its_line(images: np.ndarray) -> None:
    preset = save_preset(Path("nets/vit"))
    with pytest.raises(WeightsError, match=r"'nets/vit' of backbone 'mine' states no preprocessing .*; set inputs in"):
        obtain(declared("nets/vit", "imagenet"), OFFLINE)
    network, origin = obtain(declared("nets/vit", "imagenet", inputs="raw"), OFFLINE)
    np.testing.assert_allclose(np.asarray(network(images)), np.asarray(preset(images))[:, 0], rtol=1e-3, atol=1e-4)
    assert (origin.reason, origin.licence) == ("a preset without a licence in its files", "")


def test_random_weights_of_a_preset_have_its_architecture() -> None:
    preset = save_preset(Path("nets/vit"), scale=1 / 255)
    network, origin = obtain(declared("./nets/vit"), OFFLINE)
    assert network.count_params() == preset.count_params()
    assert origin.source == "random"


def damaged(folder: Path) -> None:
    save_preset(folder, scale=1 / 255)
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:3000])


def of_text(folder: Path) -> None:
    keras_hub.models.BertBackbone(
        vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    ).save_to_preset(str(folder))


def unreadable(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"a": 1}))


@pytest.mark.parametrize(
    ("write", "line", "told"),
    [
        (None, declared("nets/vit", "imagenet"), "'nets/vit' of backbone 'mine' is not the folder of a preset"),
        (save_preset, declared("nets/vit", "imagenet", size=64), "at 64 pixels .* own size, 32 pixels; set input_size"),
        (
            save_preset,
            declared("ResNetBackbone", "nets/vit"),
            "holds a ViTBackbone, and backbone 'mine' is a keras",
        ),
        (damaged, declared("nets/vit", "imagenet"), "'nets/vit' cannot be loaded for backbone 'mine' at 32 pixels"),
        (of_text, declared("nets/vit", "imagenet"), "BertBackbone of backbone 'mine' takes .* choose a network for im"),
        (unreadable, declared("nets/vit", "imagenet"), "'nets/vit' cannot be read as a preset"),
        (
            None,
            declared("vit_base_patch16_224_imagenett", "imagenet"),
            "no preset of KerasHub .* did you mean 'vit_base_",
        ),
        (None, declared("VitBackbone"), "builder = 'keras_hub:VitBackbone'.* did you mean 'ViTBackbone'"),
        (None, declared("BertBackbone"), "a class of keras_hub.models that takes images"),
        (
            None,
            declared("ViTBackbone", patch=8),
            "arguments = .'patch': 8.* expected those of keras_hub.models.",
        ),
        (None, declared("ViTBackbone", size=33, **VIT), "at 33 pixels .*divisible by patch size"),
    ],
)
def test_what_cannot_be_used_is_one_line(write, line: Network, told: str) -> None:
    if write:
        write(Path("nets/vit"))
    with pytest.raises((WeightsError, ParameterError), match=told) as caught:
        obtain(line, OFFLINE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("policy", ["stop", "random"])
def test_a_preset_that_is_unavailable_ends_the_stage_as_its_architecture_is_unknown(policy: str, monkeypatch) -> None:
    def no_connection(*_: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(preset_utils, "get_file", no_connection)
    params = OFFLINE.model_copy(update={"if_unreachable": policy})
    with pytest.raises(UnreachableError, match=r"'vit_base_patch16_224_imagenet' .* \(no route to host\).* save_to"):
        obtain(declared("vit_base_patch16_224_imagenet", "imagenet"), params)


def test_a_model_of_an_earlier_run_is_no_preset() -> None:
    with pytest.raises(WeightsError, match=r"'old/model.keras' of backbone 'mine' is not the folder of a preset"):
        obtain(declared("ViTBackbone", "old/model.keras"), OFFLINE)


def test_keras_hub_is_imported_for_its_own_backbones_alone() -> None:
    import subprocess

    code = "import sys, stages.weights, stages.networks.pretrained, stages.check; sys.exit('keras_hub' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
