"""Files of one's own: each format gives the features that Keras's own loading gives; what does not fit is one line.

Keras 2's files are written here by their documented layout (keras/src/legacy/saving/legacy_h5_format.py), with the
names that TensorFlow 2 gave to variables; all others by Keras.
"""

import hashlib
import importlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from stages.core.errors import WeightsError
from stages.core.settings.backbones import Network
from stages.core.settings.weights import WeightsParams
from stages.networks import pretrained
from stages.networks.weights_match import Found
from tests.support.web import serve

pytestmark = pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
SIDE, SMALL = 32, "MobileNet"
PARAMS = WeightsParams(source="imagenet", folder=".", mirror=None, if_unreachable="stop", connect_timeout=2.0)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    keras.backend.clear_session()


@pytest.fixture
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an EfficientNet have two blocks, and a ConvNeXt one in each of four narrow stages."""
    efficientnet = importlib.import_module("keras.src.applications.efficientnet")
    monkeypatch.setattr(efficientnet, "DEFAULT_BLOCKS_ARGS", efficientnet.DEFAULT_BLOCKS_ARGS[:2])
    convnext = importlib.import_module("keras.src.applications.convnext")
    narrow = convnext.MODEL_CONFIGS["tiny"] | {"depths": [1, 1, 1, 1], "projection_dims": [8, 16, 24, 32]}
    monkeypatch.setitem(convnext.MODEL_CONFIGS, "tiny", narrow)


def lively(network: keras.Model, seed: int = 1) -> keras.Model:
    """Return the network with random weights, its statistics included."""
    draw = np.random.default_rng(seed)
    for variable in network.variables:
        if variable.dtype == "float32":
            most = (3 / max(np.prod(variable.shape[:-1]), 10)) ** 0.5
            low, high = (0.5, 1.5) if variable.path.endswith(("variance", "gamma")) else (-most, most)
            variable.assign(draw.uniform(low, high, variable.shape))
    return network


def small(*, top: bool = False) -> keras.Model:
    pooling = {"include_top": True, "classes": 5} if top else {"include_top": False, "pooling": "avg"}
    return lively(keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(SIDE, SIDE, 3), **pooling))


def obtained(declare, file: str, name: str = SMALL, **line: Any) -> keras.Model:
    return pretrained.obtain(network_of(declare, file, name, **line), PARAMS)[0]


def network_of(declare, file: str, name: str = SMALL, **line: Any) -> Network:
    own = {"arguments": {"alpha": 0.25}, "inputs": "raw"} if name == SMALL else {}
    found: Network = declare(name, **({"weights": file, "sizes": (SIDE,)} | own | line)).network
    return found


def require_same(found: keras.Model, expected: Callable[[Any], Any], batch: np.ndarray) -> None:
    """Require features that agree to 1e-5 of their norm."""
    ours, theirs = (np.asarray(function(batch, training=False)) for function in (found, expected))
    assert np.linalg.norm(theirs) > 1e-3
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-5


# Keras 2's layout -----------------------------------------------------------------------------------


def leaves(network: keras.Model) -> list[keras.Layer]:
    inner = ([*leaves(layer), layer] if isinstance(layer, keras.Model) else [layer] for layer in network.layers)
    return [layer for group in inner for layer in group]


def weights_of(layer: keras.Layer, name: str) -> list[tuple[str, Any]]:
    """Return the weights of a layer under Keras 2's names, for instance conv/kernel:0."""
    return [(f"{name}/{variable.name}:0", variable.numpy()) for variable in layer.weights]


def write_group(group: h5py.Group, layers: Sequence[tuple[str, list[tuple[str, Any]]]]) -> None:
    group.attrs["layer_names"] = [name.encode() for name, _ in layers]
    group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.9.0"
    for name, weights in layers:
        inner = group.create_group(name)
        inner.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
        for weight, value in weights:
            inner.create_dataset(weight, data=value)


def keras_2(network: keras.Model, renamed: Callable[[str], str] = str) -> list[tuple[str, list[tuple[str, Any]]]]:
    return [(renamed(layer.name), weights_of(layer, renamed(layer.name))) for layer in network.layers]


def nested(network: keras.Model, frozen_below: int = 0) -> tuple[str, list[tuple[str, Any]]]:
    """Return a network as a layer of a classifier: trainable weights first, those of frozen layers among the others."""
    trained, others = [], []
    for number, layer in enumerate(leaves(network)):
        for named, variable in zip(weights_of(layer, layer.name), layer.weights, strict=True):
            (trained if variable.trainable and number >= frozen_below else others).append(named)
    return "base_of_mine", trained + others


def described(*names: str) -> str:
    return json.dumps({"config": {"layers": [{"class_name": "Dense", "config": {"name": name}} for name in names]}})


def written_by_keras_2(kind: str, reference: keras.Model) -> None:
    dense = ("dense", [("dense/kernel:0", np.ones((reference.output.shape[-1], 3)))])
    with h5py.File("own.h5", "w") as file:
        if kind == "weights":
            write_group(file, keras_2(reference))
        elif kind == "model":
            file.attrs["model_config"] = described("conv", "dense")
            write_group(file.create_group("model_weights"), [*keras_2(reference), dense])
            file.create_group("optimizer_weights")
        else:
            base = nested(reference, frozen_below=40 if kind == "half_frozen" else 0)
            write_group(file.create_group("model_weights"), [("input_1", []), base, dense])


@pytest.mark.parametrize("kind", ["weights", "model", "nested", "half_frozen"])
def test_a_file_of_keras_2_gives_the_features_of_its_network(declare, random_images, kind: str) -> None:
    reference = small()
    written_by_keras_2(kind, reference)
    require_same(obtained(declare, "own.h5"), reference, random_images(2, SIDE).astype("float32"))


def test_names_that_keras_counts_on_from_model_to_model_are_matched_by_their_order_of_numbers(
    declare, random_images
) -> None:
    shape = (96, 96, 3)
    reference = lively(
        keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg", input_shape=shape)
    )
    with h5py.File("own.h5", "w") as file:
        write_group(file, [nested(reference, frozen_below=100)])
    found = obtained(declare, "own.h5", "inception_v3", sizes=(96,), inputs="raw")
    assert found.layers[1].name != reference.layers[1].name
    require_same(found, reference, random_images(1, 96).astype("float32") / 255)


def test_other_names_are_matched_by_the_order_of_the_layers(declare, random_images) -> None:
    reference = small()
    with h5py.File("own.h5", "w") as file:
        write_group(file, keras_2(reference, lambda name: f"x{hashlib.md5(name.encode()).hexdigest()}"))
    require_same(obtained(declare, "own.h5"), reference, random_images(2, SIDE).astype("float32"))


def test_published_names_of_weights_that_are_no_paths_are_read(declare, random_images) -> None:
    reference = lively(
        keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg")
    )
    with h5py.File("own.h5", "w") as file:
        pairs = [
            (layer.name, [(f"{layer.name}_{'Wb'[n]}_1:0", value.numpy()) for n, value in enumerate(layer.weights)])
            for layer in reference.layers
        ]
        write_group(file, pairs)
    require_same(obtained(declare, "own.h5", "vgg16", inputs="raw"), reference, random_images(2, 32).astype("float32"))


# Keras 3's formats ----------------------------------------------------------------------------------


def classifier(base: keras.Model) -> keras.Model:
    """Return what people build around a network: augmentation before it, a head behind it, and train it a step."""
    layers = [keras.layers.RandomFlip(seed=1), base, keras.layers.Dropout(0.2), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize(
    ("file", "around"),
    [
        ("own.weights.h5", "alone"),
        ("own.weights.h5", "with_top"),
        ("own.keras", "with_top"),
        ("own.keras", "in_a_classifier"),
        ("own.h5", "in_a_classifier"),
    ],
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_file_of_keras_3_gives_the_features_of_its_network(declare, random_images, file: str, around: str) -> None:
    reference = small(top=around == "with_top")
    model = classifier(reference) if around == "in_a_classifier" else reference
    (model.save_weights if file == "own.weights.h5" else model.save)(file)
    features = reference
    if around == "with_top":
        inner = [layer for layer in reference.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)][-1]
        features = keras.Model(reference.input, keras.layers.Flatten()(inner.output))
    require_same(obtained(declare, file), features, random_images(2, SIDE).astype("float32"))


@pytest.mark.usefixtures("few_blocks")
def test_layers_within_layers_are_found(declare, random_images) -> None:
    shape = (SIDE, SIDE, 3)
    reference = keras.applications.ConvNeXtTiny(weights=None, include_top=False, pooling="avg", input_shape=shape)
    lively(reference).save_weights("own.weights.h5")
    found = obtained(declare, "own.weights.h5", "convnext_tiny")
    require_same(found, reference, random_images(2, SIDE).astype("float32"))


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize(
    ("kind", "published"), [("listed", False), ("nested", False), ("nested", True), ("keras_3", True)]
)
def test_an_efficientnet_keeps_the_graph_that_it_was_trained_with(
    declare, random_images, kind: str, *, published: bool
) -> None:
    backbone = network_of(declare, "imagenet", "efficientnet_b0")
    build = pretrained._graph_for_published if published else pretrained.random
    reference = lively(build(backbone))
    mean = next(layer for layer in reference.layers if isinstance(layer, keras.layers.Normalization))
    mean.adapt_mean.assign((0.485, 0.456, 0.406) if published else (0, 0, 0))
    mean.finalize_state()
    if kind == "keras_3":
        reference.save_weights("own.weights.h5")
    else:
        with h5py.File("own.h5", "w") as file:
            write_group(file, keras_2(reference) if kind == "listed" else [nested(reference)])
    name = "own.weights.h5" if kind == "keras_3" else "own.h5"
    found = obtained(declare, name, "efficientnet_b0")
    rescalings = [layer for layer in found.layers if isinstance(layer, keras.layers.Rescaling)]
    assert len(rescalings) == 1 + published
    require_same(found, reference, random_images(2, SIDE).astype("float32"))


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("file", ["own.h5", "own.weights.h5"])
def test_a_rescaling_of_one_s_own_before_an_efficientnet_is_not_taken_for_that_of_published_weights(
    declare, random_images, file: str
) -> None:
    image = keras.Input((SIDE, SIDE, 3))
    own = keras.layers.Rescaling(1.0)(image)
    made = keras.applications.EfficientNetB0(weights=None, include_top=False, pooling="avg", input_tensor=own)
    reference = lively(keras.Model(image, made.output))
    next(layer for layer in reference.layers if isinstance(layer, keras.layers.Normalization)).finalize_state()
    if file == "own.h5":
        with h5py.File(file, "w") as opened:
            write_group(opened, keras_2(reference))
    else:
        reference.save_weights(file)
    found = obtained(declare, file, "efficientnet_b0")
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in found.layers) == 1
    require_same(found, reference, random_images(2, SIDE).astype("float32"))


@pytest.mark.parametrize(
    ("names", "twice"),
    [
        (["input_1", "rescaling", "normalization", "rescaling_1", "stem_conv_pad"], True),
        (["input_1", "rescaling", "rescaling_1", "normalization", "rescaling_2", "stem_conv_pad"], True),
        (["input_1", "rescaling", "rescaling_1", "normalization", "stem_conv_pad", "rescaling_2"], False),
        (["input_1", "normalization", "rescaling", "normalization_1", "stem_conv_pad"], False),
        (["input_1", "rescaling", "rescaling_1", "stem_conv_pad"], False),
    ],
)
def test_only_a_rescaling_between_normalization_and_stem_is_that_of_published_weights(
    tmp_path: Path, names: list[str], *, twice: bool
) -> None:
    (tmp_path / "own.h5").write_bytes(b"weights")
    assert pretrained._rescales_twice(Found({}, names, in_order=True), tmp_path / "own.h5") == twice


@pytest.mark.usefixtures("few_blocks")
def test_a_published_file_that_is_older_than_the_second_rescaling_gets_it(declare, monkeypatch) -> None:
    reference = lively(pretrained.random(network_of(declare, "imagenet", "efficientnet_b0")))
    with h5py.File("own.h5", "w") as file:
        write_group(file, keras_2(reference))
    digest = hashlib.md5(Path("own.h5").read_bytes()).hexdigest()
    module = importlib.import_module("keras.src.applications.efficientnet")
    monkeypatch.setitem(module.WEIGHTS_HASHES, "b0", ("0" * 32, digest))
    found = obtained(declare, "own.h5", "efficientnet_b0")
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in found.layers) == 2


def test_a_file_of_one_s_own_is_named_with_its_checksum_and_stays_of_unknown_descent(declare) -> None:
    small().save_weights("own.weights.h5")
    _, origin = pretrained.obtain(network_of(declare, "own.weights.h5"), PARAMS)
    digest = hashlib.sha256(Path("own.weights.h5").read_bytes()).hexdigest()
    assert (origin.source, origin.file, origin.checksum) == ("own.weights.h5", "own.weights.h5", f"sha256:{digest}")
    assert origin.reason == "a file of your own; what it was trained on is unknown"


# URLs and checksums ---------------------------------------------------------------------------------


def test_a_url_is_fetched_and_once_only_where_its_checksum_is_known(declare, random_images) -> None:
    reference = small()
    reference.save_weights("own.weights.h5")
    content = Path("own.weights.h5").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with serve() as served:
        served.files["own.weights.h5"] = content
        url = f"{served.url}/own.weights.h5"
        found, origin = pretrained.obtain(network_of(declare, url, checksum=digest), PARAMS)
        assert (origin.source, origin.checksum) == (url, digest)
        require_same(found, reference, random_images(2, SIDE).astype("float32"))
        served.files.clear()
        obtained(declare, url, checksum=digest)
        with pytest.raises(WeightsError, match=r"answered 404; expected a file of weights at that URL; correct it, or"):
            obtained(declare, url)


def test_another_file_than_the_line_s_checksum_says_is_refused(declare) -> None:
    small().save_weights("own.weights.h5")
    expected = f"sha256:{'0' * 64}"
    message = rf"'own.weights.h5' has sha256:\w+; expected {expected}, as backbones.MobileNet.checksum says"
    with pytest.raises(WeightsError, match=message):
        obtained(declare, "own.weights.h5", checksum=expected)


# What does not fit, and what is no file of weights --------------------------------------------------


def test_another_width_names_the_first_layer_that_differs_and_what_to_set(declare) -> None:
    shape = (SIDE, SIDE, 3)
    keras.applications.MobileNetV2(weights=None, alpha=0.5, include_top=False, input_shape=shape).save_weights(
        "own.weights.h5"
    )
    with pytest.raises(WeightsError) as caught:
        obtained(declare, "own.weights.h5", "mobilenet_v2")
    assert str(caught.value) == (
        "'own.weights.h5' has (3, 3, 3, 16) in its layer 'Conv1' where MobileNetV2 has (3, 3, 3, 32) in 'Conv1'; "
        "expected weights of MobileNetV2, with or without its classifier; set builder, arguments or head.pooling of "
        "the backbone's line to those of the file, or name another file"
    )
    obtained(declare, "own.weights.h5", "mobilenet_v2", arguments={"alpha": 0.5})


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name.replace("__", "."), value)
    return content.getvalue()


def hdf5(write: Callable[[h5py.File], Any]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file)
    return content.getvalue()


def linked(file: h5py.File) -> None:
    write_group(file, [("conv", [])])
    file["conv"].attrs["weight_names"] = [b"kernel:0"]
    file["conv"]["kernel:0"] = h5py.ExternalLink("/etc/other.h5", "/secret")


def external(file: h5py.File) -> None:
    write_group(file, [("conv", [])])
    file["conv"].attrs["weight_names"] = [b"kernel:0"]
    file["conv"].create_dataset("kernel:0", (4,), "f4", external=[("/etc/passwd", 0, 16)])


LAMBDA = json.dumps({"config": {"layers": [{"class_name": "Lambda", "config": {"function": "..."}}]}})
FOREIGN = {
    "empty": (b"", "is empty"),
    "text": (b"not weights", "is neither an HDF5 file nor a .keras archive"),
    "truncated": (hdf5(lambda file: file.create_dataset("x", data=np.ones(9999)))[:5000], "is damaged (Unable to"),
    "truncated_archive": (zipped(config__json=b"{}", model__weights__h5=b"x" * 99)[:60], "is damaged (File is not a"),
    "pickle": (pickle.dumps({"kernel": [1.0]}), "is a pickle, which can run any code and is not opened"),
    "torch": (zipped(**{"archive/data__pkl": b"x"}), "is a file of PyTorch"),
    "other_archive": (zipped(a__txt=b"x"), "is a zip archive without config.json and model.weights.h5"),
    "bomb": (zipped(config__json=b"{}", model__weights__h5=bytes(200_000_000)), "unpacks to 200 MB of model.weights"),
    "lambda": (zipped(config__json=LAMBDA.encode(), model__weights__h5=b"x"), "holds Python code in a Lambda layer"),
    "lambda_of_keras_2": (hdf5(lambda file: file.attrs.update(model_config=LAMBDA)), "holds Python code in a Lambda"),
    "no_description": (zipped(config__json=b"{", model__weights__h5=b"x"), "is damaged (Expecting property name"),
    "no_layer_names": (
        hdf5(lambda file: file.create_dataset("a/b", data=[1.0])),
        "holds no layer_names, and no layers",
    ),
    "optimizer_only": (hdf5(lambda file: file.create_group("optimizer_weights")), "holds only the state of an optim"),
    "missing_group": (hdf5(lambda file: file.attrs.update(layer_names=[b"conv"])), "is damaged ('conv is missing"),
    "link": (hdf5(linked), "is damaged ('kernel:0 is missing, or a link to elsewhere')"),
    "external": (hdf5(external), "is damaged ('kernel:0' is no array of this file)"),
}


@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_keras_did_not_write_is_one_line(declare, content: bytes, message: str) -> None:
    Path("own.keras").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        obtained(declare, "own.keras", "scratch")
    assert str(caught.value).startswith(f"'own.keras' {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "that are not finite"), (1, "of type int64")])
def test_weights_that_are_no_numbers_to_go_on_from_are_refused(declare, value: float, message: str) -> None:
    reference = pretrained.random(network_of(declare, "random", "scratch", arguments={"filters": [4]}))
    with h5py.File("own.h5", "w") as file:
        layers = keras_2(reference)
        write_group(file, [(name, [(key, np.full(old.shape, value)) for key, old in found]) for name, found in layers])
    with pytest.raises(WeightsError, match=f"has weights {message} in its layer 'convolution_1'"):
        obtained(declare, "own.h5", "scratch", arguments={"filters": [4]})


def test_two_networks_that_fit_are_one_too_many(declare) -> None:
    image = keras.Input((SIDE, SIDE, 3))
    both = [keras.Model(base.input, base.output, name=f"base_{n}") for n, base in enumerate((small(), small()))]
    keras.Model(image, [base(image) for base in both]).save_weights("own.weights.h5")
    with pytest.raises(WeightsError, match=r"holds 2 networks that fit MobileNet"):
        obtained(declare, "own.weights.h5")
