"""Where weights come from, and that they mean what Keras means by them.

Published weights are played by files that Keras itself wrote in its own format, served on loopback
under Keras's own names; only their hashes are the test's.
"""

import hashlib
import importlib
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from stages.core.builders.families import FAMILIES, SCRATCH
from stages.core.builders.inputs import IMAGENET_MEAN
from stages.core.errors import WeightsError
from stages.core.head import Head, Layer
from stages.core.manifest import PATHS, ExportError, Form, Manifest, checksums, write_manifest
from stages.core.settings.weights import WeightsParams
from stages.core.surroundings import GIVEN
from stages.exports import exporting
from stages.networks import keras_engine, pretrained
from stages.networks.architectures import build, preprocess
from stages.networks.download import UnreachableError
from stages.networks.engine import Choice, compile_openvino
from tests.support.web import Web, serve

# What Keras says of MobileNets at the small sizes here: they get the weights for 224 pixels.
pytestmark = pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
DECLARED = {
    "vgg16": 64,
    "resnet50": 64,
    "resnet50_v2": 64,
    "inception_v3": 96,
    "efficientnet_b0": 64,
    "efficientnet_v2_b0": 64,
    "mobilenet_v3_small": 64,
    "convnext_tiny": 64,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(GIVEN, "KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def origin():
    with serve() as served:
        yield served


def params(mirror: str | None = None, if_unreachable: str = "stop") -> WeightsParams:
    return WeightsParams(
        source="imagenet", folder=".", mirror=mirror, if_unreachable=if_unreachable, connect_timeout=2.0
    )


def documented(backbone, monkeypatch) -> tuple[keras.Model, str]:
    """Return Keras's own network for `weights="imagenet"` with lively weights, and the file it asked for."""
    asked = []
    keras.utils.set_random_seed(1)
    with monkeypatch.context() as patch, pretrained._transport(lambda fname, *_, **__: asked.append(fname) or fname):
        patch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
        side = backbone.input_size
        builder = getattr(keras.applications, backbone.builder)
        network = builder(weights="imagenet", include_top=False, pooling="avg", input_shape=(side, side, 3))
    draw = np.random.default_rng(1)
    for variable in network.variables:
        if variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(draw.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(draw.normal(0, 0.1, variable.shape))
    return network, asked[0]


def publish(served: Web, network: keras.Model, name: str, monkeypatch) -> None:
    """Serve the network's weights in the format of the published files, with the hash that goes with them."""
    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    with h5py.File("made.h5", "w") as file:
        legacy.save_weights_to_hdf5_group(file, network)
    served.files[name] = Path("made.h5").read_bytes()
    checksum = hashlib.md5(served.files[name]).hexdigest()
    real = pretrained.fetch
    monkeypatch.setattr(pretrained, "fetch", lambda file, params: real(replace(file, checksum=checksum), params))


def called(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    """Return what `network` makes of a batch, layer by layer: tracing it for one takes longer."""
    return np.asarray(network(batch, training=False))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("name", "side"), DECLARED.items(), ids=DECLARED)
def test_features_equal_those_of_keras_s_documented_path(
    name: str, side: int, declare, random_images, origin, monkeypatch, tmp_path
) -> None:
    backbone, batch = declare(name, sizes=(side,)).network, random_images(3, side).astype("float32")
    reference, file = documented(backbone, monkeypatch)
    publish(origin, reference, file, monkeypatch)
    module = importlib.import_module(f"keras.applications.{backbone.family.module}")
    expected = called(reference, module.preprocess_input(batch.copy()))
    if backbone.inputs != "raw":
        assert relative(called(reference, batch), expected) > 0.1, "forgetting it would not show"

    network, source = pretrained.obtain(backbone, params(origin.url))

    assert (source.source, source.file) == ("imagenet", file)
    assert source.checksum.startswith(("md5:", "sha256:"))
    assert relative(called(network, batch), expected) < 1e-5
    converted = keras_engine.convert(network.input, {"features": network.output})
    for precision, bound in (("float32", 1e-4), ("bfloat16", 2e-2)):
        compiled = compile_openvino(converted, Choice("openvino", precision, 2))
        assert relative(compiled(batch)["features"], expected) < bound
    keras.backend.clear_session()


def test_a_file_of_which_keras_publishes_no_hash_is_named_by_that_of_what_came(
    declare, random_images, tmp_path
) -> None:
    backbone, batch = declare("mobilenet_v2", sizes=(96,)).network, random_images(3, 96).astype("float32")
    trained = build(backbone, None)
    file = tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5"
    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    with h5py.File(file, "w") as opened:
        legacy.save_weights_to_hdf5_group(opened, keras.Model(trained.get_layer("preprocess").output, trained.output))

    network, source = pretrained.obtain(backbone, params(str(tmp_path)))

    assert (source.source, source.file) == ("imagenet", file.name)
    assert source.checksum == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert relative(called(network, batch), called(trained, batch)) < 1e-6
    keras.backend.clear_session()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.module != SCRATCH], ids=lambda f: f.module)
def test_every_family_gets_the_numbers_of_its_own_preprocess_input(family, random_images) -> None:
    batch = random_images(2, 8).astype("float32")
    image = keras.Input((8, 8, 3))
    ours = keras.Model(image, preprocess(image, family.inputs))
    expected = importlib.import_module(f"keras.applications.{family.module}").preprocess_input(batch.copy())
    np.testing.assert_allclose(called(ours, batch), expected, rtol=1e-5, atol=1e-5)


def test_without_an_origin_the_declared_policy_decides(declare, origin, caplog) -> None:
    backbone = declare("mobilenet_v3_small").network
    with pytest.raises(UnreachableError, match="answered 404"):
        pretrained.obtain(backbone, params(origin.url, "stop"))
    _, source = pretrained.obtain(backbone, params(origin.url, "random"))
    assert source.source == "random"
    assert "answered 404" in source.reason
    assert "mobilenet_v3_small: RANDOM WEIGHTS, as weights.if_unreachable says" in caplog.text


def test_a_damaged_file_stops_whatever_the_policy(declare, origin) -> None:
    name = "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"
    origin.files[name] = b"not what Keras published"
    with pytest.raises(WeightsError, match=r"expected d3e8ec802a04aa4fc771ee12a9a9b836, as Keras publishes it"):
        pretrained.obtain(declare("mobilenet_v3_small").network, params(origin.url, "random"))


def test_random_weights_and_the_small_cnn_need_no_origin(declare) -> None:
    _, source = pretrained.obtain(declare("mobilenet_v3_small", weights="random").network, params())
    assert (source.source, source.reason) == ("random", "as set in params.yaml")
    assert pretrained.obtain(declare("scratch").network, params())[1].source == "none"


def test_random_blocks_of_convnext_are_switched_on(declare) -> None:
    network = pretrained.random(declare("convnext_tiny", sizes=(32,)).network)
    scales = [layer.gamma.numpy() for layer in network.layers if type(layer).__name__ == "LayerScale"]
    assert len(scales) == 18
    assert all((scale == 1).all() for scale in scales)


def exported(backbone, folder: Path, network: keras.Model | None = None, source: str = "imagenet") -> keras.Model:
    """Export a classifier as stage export does, by default of a network of lively weights; return the network."""
    if network is None:
        network = build(backbone, None)
        values = [np.full(value.shape, 0.01 * n % 1, value.dtype) for n, value in enumerate(network.get_weights())]
        network.set_weights(values)
    width, classes = network.output.shape[-1], ("cold", "warm")
    last = Layer(np.ones((width, 2), np.float32), np.zeros(2, np.float32))
    head = Head((last,), (np.zeros(width, np.float32), np.ones(width, np.float32)))
    classifier = exporting.Classifier(exporting.joined(network, None, head), classes, lambda: iter(()))
    exporting.write(classifier, "keras", folder)
    write_manifest(
        folder,
        Manifest(
            backbone=backbone.name, classes=classes, input_size=backbone.input_size, fit="pad", temperature=1.0,
            weights={"source": source}, output="probabilities",
            formats={"keras": Form(path=PATHS["keras"], files=checksums(folder, PATHS["keras"]))},
        ),
    )  # fmt: skip
    return network


@pytest.mark.parametrize(
    ("name", "line"),
    [("MobileNet", {"arguments": {"alpha": 0.25}, "inputs": "tf"}), ("scratch", {"arguments": {"filters": [4, 8]}}),
     ("flat", {"builder": "mobilenet_v2", "arguments": {"alpha": 0.35}, "head": {"pooling": "flatten"}})],
)  # fmt: skip
def test_the_backbone_of_an_export_is_the_start_of_the_next_run(declare, random_images, tmp_path, name, line) -> None:
    backbone = declare(name, sizes=(32,), weights="old/{backbone}/model.keras", **line).network
    earlier = exported(backbone, tmp_path / "old" / name)
    network, source = pretrained.obtain(backbone, params())
    for ours, theirs in zip(network.get_weights(), earlier.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    batch = random_images(2, 32).astype("float32")
    np.testing.assert_array_equal(called(network, batch), called(earlier, batch))
    assert source.source == f"old/{name}/model.keras"
    assert source.reason == "an earlier run that started from: imagenet"
    assert source.checksum == checksums(tmp_path / "old" / name, "model.keras")["model.keras"]


def test_without_a_manifest_beside_it_what_it_began_with_is_not_known(declare, tmp_path) -> None:
    backbone = declare("scratch", weights="model.keras").network
    exported(backbone, tmp_path)
    (tmp_path / "manifest.json").unlink()
    _, source = pretrained.obtain(backbone, params())
    assert (source.source, source.file) == ("model.keras", "model.keras")
    assert source.reason == "a file of your own; what it was trained on is unknown"


def test_a_damaged_manifest_is_one_line(declare, tmp_path) -> None:
    backbone = declare("scratch", weights="model.keras").network
    exported(backbone, tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ExportError, match=r"'manifest.json' is damaged"):
        pretrained.obtain(backbone, params())


@pytest.mark.parametrize(("before", "expected"), [("random", "random"), ("none", "model.keras")])
def test_random_weights_stay_random_through_an_earlier_run(declare, tmp_path, before: str, expected: str) -> None:
    backbone = declare("scratch", weights="model.keras").network
    exported(backbone, tmp_path, source=before)
    _, source = pretrained.obtain(backbone, params())
    assert source.source == expected
    assert "started from" in source.reason


def test_the_graph_that_efficientnet_builds_for_published_weights_is_kept(
    declare, random_images, origin, monkeypatch, tmp_path
) -> None:
    # It differs below the blocks: two of these do.
    module = importlib.import_module("keras.src.applications.efficientnet")
    monkeypatch.setattr(module, "DEFAULT_BLOCKS_ARGS", module.DEFAULT_BLOCKS_ARGS[:2])
    backbone = declare("efficientnet_b0", sizes=(32, 64)).network
    reference, file = documented(backbone, monkeypatch)
    # As published weights do.
    normalisation = next(layer for layer in reference.layers if isinstance(layer, keras.layers.Normalization))
    normalisation.adapt_mean.assign(IMAGENET_MEAN)
    normalisation.finalize_state()
    publish(origin, reference, file, monkeypatch)
    first, _ = pretrained.obtain(backbone, params(origin.url))
    exported(backbone, tmp_path, first)
    again, _ = pretrained.obtain(declare("efficientnet_b0", sizes=(32, 64), weights="model.keras").network, params())
    batch = random_images(2, 64).astype("float32")
    assert relative(called(again, batch), called(first, batch)) < 1e-5


def test_a_model_of_another_backbone_is_refused(declare, tmp_path) -> None:
    exported(declare("mobilenet_v3_small").network, tmp_path)
    with pytest.raises(WeightsError, match=r"'model.keras' has .* where MobileNetV3Large has .* in 'expanded_conv"):
        pretrained.obtain(declare("other", builder="mobilenet_v3_large", weights="model.keras").network, params())


def test_a_missing_file_is_an_error_that_names_it(declare) -> None:
    with pytest.raises(WeightsError, match=r"'gone.keras' of backbone 'vgg16' is not a file; expected imagenet"):
        pretrained.obtain(declare("vgg16", weights="gone.keras").network, params())
