"""Networks from ONNX files give the features that ONNX Runtime gives; what is no such network is one line."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from stages.core.builders.inputs import Standardised
from stages.core.builders.onnx_files import onnx_digest
from stages.core.errors import EngineError, UserError
from stages.core.settings.backbones import Network
from stages.core.settings.features import EngineParams
from stages.core.settings.weights import FetchParams
from stages.networks import engine, onnx_file
from stages.networks.engine import Choice, choose, flops
from stages.networks.expectation import checked
from stages.networks.extraction import run
from tests.support.onnx_files import PATCH, SIDE, TOKENS, WIDTH, cnn, of_keras, saved, tokens

EXACT = Choice("openvino", "float32", 1)
OWN = Standardised(mean=(120.0, 110.0, 100.0), deviation=(60.0, 61.0, 62.0))
FETCH = FetchParams(mirror=None, if_unreachable="stop", connect_timeout=5)
NHWC = (0, 2, 3, 1)


def load(path: Path, **own: Any) -> onnx_file.Loaded:
    """Return the network of a backbone whose line has this file."""
    line = {"pooling": "average", "inputs": "raw", "input_size": SIDE, "checksum": None, "output": None} | own
    return onnx_file.obtain(Network(name="net", builder="onnx", arguments={}, weights=str(path), **line), FETCH)[0]


def computed(path: Path, images: np.ndarray, **own: Any) -> np.ndarray:
    return run(load(path, **own).converted, EXACT, ("features",))(images.astype(np.float32))["features"]


def by_runtime(path: Path, output: str | None, prepared: np.ndarray) -> np.ndarray:
    """Return an output of the file itself for images that it takes as they are, one by one."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, output and [output]
    return np.concatenate([session.run(outputs, {name: image[None].astype(np.float32)})[0] for image in prepared])


def first(images: np.ndarray) -> np.ndarray:
    """Return images with their channels before height and width."""
    return images.transpose(0, 3, 1, 2)


PREPARED: list[tuple[Any, Callable[[np.ndarray], np.ndarray]]] = [
    ("raw", lambda images: images),
    ("tf", lambda images: images / 127.5 - 1),
    ("torch", lambda images: (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ("caffe", lambda images: images[..., ::-1] - [103.939, 116.779, 123.68]),
    (OWN, lambda images: (images - OWN.mean) / OWN.deviation),
]


@pytest.fixture
def images(random_images) -> np.ndarray:
    return random_images(4, SIDE).astype(np.float64)


# What it computes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "prepared"), PREPARED)
def test_images_reach_the_network_as_its_line_declares(tmp_path, images, inputs, prepared) -> None:
    path = cnn(tmp_path / "net.onnx")
    expected = by_runtime(path, "pooled", first(prepared(images)))
    found = computed(path, images, output="pooled", inputs=inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ("average", lambda maps: maps.mean(axis=(1, 2))),
        ("max", lambda maps: maps.max(axis=(1, 2))),
        ("flatten", lambda maps: maps.reshape(len(maps), -1)),
    ],
)
def test_a_feature_map_is_pooled_in_batches_of_any_size_or_of_one(tmp_path, images, batch, pooling, pooled) -> None:
    path = cnn(tmp_path / "net.onnx", batch=batch)
    maps = by_runtime(path, "map", first(images)).transpose(NHWC)
    network = load(path, output="map", pooling=pooling)
    found = run(network.converted, EXACT, ("features", "map"))(images.astype(np.float32))
    np.testing.assert_allclose(found["map"], maps, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found["features"], pooled(maps), rtol=1e-4, atol=1e-3)
    assert network.facts["map"] == {"shape": [8, 8, WIDTH], "tail": [{"kind": pooling}]}


@pytest.mark.parametrize(("batch", "channels"), [("batch", 3), (1, 3), ("batch", "channels")])
@pytest.mark.parametrize(
    ("pooling", "pooled"), [("class_token", lambda rows: rows[:, 0]), ("mean", lambda rows: rows.mean(axis=1))]
)
def test_tokens_are_pooled_as_declared(tmp_path, images, batch, channels, pooling, pooled) -> None:
    path = tokens(tmp_path / "net.onnx", batch=batch, channels=channels)
    prepared = images / 127.5 - 1
    found = computed(path, images, pooling=pooling, inputs="tf")
    np.testing.assert_allclose(found, pooled(by_runtime(path, None, first(prepared))), rtol=1e-4, atol=1e-4)
    assert load(path, pooling=pooling).facts == {
        "map": None, "normalization": None, "width": WIDTH,
        "parameters": WIDTH * 3 * PATCH**2 + WIDTH + TOKENS * WIDTH + 3 * WIDTH**2,
    }  # fmt: skip


@pytest.mark.parametrize("pooled", [True, False])
def test_what_keras_exports_has_its_channels_last(tmp_path, images, pooled) -> None:
    path = of_keras(tmp_path / "net.onnx", pooled=pooled)
    expected = by_runtime(path, None, images / 127.5 - 1)
    network = load(path, inputs="tf")
    found = run(network.converted, EXACT, ("features", "map"))(images.astype(np.float32))
    np.testing.assert_allclose(
        found["features"], expected if pooled else expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(found["map"].mean(axis=(1, 2)), found["features"], rtol=1e-4, atol=1e-4)
    assert network.facts["map"] == {"shape": [8, 8, WIDTH], "tail": [{"kind": "average"}]}


def test_a_file_whose_side_varies_takes_the_size_of_its_line(tmp_path, random_images) -> None:
    path, large = cnn(tmp_path / "net.onnx", side="side"), random_images(2, 64).astype(np.float64)
    expected = by_runtime(path, "pooled", first(large))
    np.testing.assert_allclose(computed(path, large, output="pooled", input_size=64), expected, rtol=1e-4, atol=1e-3)


def test_a_tensor_that_is_no_output_may_be_named_as_well(tmp_path, images) -> None:
    path = cnn(tmp_path / "net.onnx")
    network = load(path, output="raw_map")
    found = run(network.converted, EXACT, ("map",))(images.astype(np.float32))["map"]
    np.testing.assert_allclose(np.maximum(found, 0), by_runtime(path, "map", first(images)).transpose(NHWC), atol=1e-3)
    # The classifier that is left out counts for nothing.
    assert network.facts["parameters"] == load(path, output="scores").facts["parameters"] - WIDTH * 5


def test_a_vector_behind_more_than_pooling_has_no_map(tmp_path) -> None:
    assert load(cnn(tmp_path / "net.onnx"), output="scores").facts["map"] is None


def test_half_precision_and_bytes_are_taken_as_well(tmp_path, images) -> None:
    for kind in (TensorProto.FLOAT16, TensorProto.UINT8):
        path = saved(
            tmp_path / "net.onnx",
            [helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT16),
             helper.make_node("GlobalAveragePool", ["real"], ["mean"]), helper.make_node("Flatten", ["mean"], ["out"])],
            [("image", kind, ["n", 3, SIDE, SIDE])], [("out", TensorProto.FLOAT16, ["n", 3])],
        )  # fmt: skip
        found = computed(path, images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, images.mean(axis=(1, 2)), rtol=5e-3)


def test_weights_beside_the_file_are_read_and_part_of_its_digest(tmp_path, images) -> None:
    whole, parted = cnn(tmp_path / "whole.onnx"), tmp_path / "parted.onnx"
    onnx.save(onnx.load(whole), parted, save_as_external_data=True, location="parted.data", size_threshold=0)
    one, other = (computed(path, images, output="pooled") for path in (whole, parted))
    np.testing.assert_array_equal(one, other)
    before = onnx_digest(parted)
    values = (tmp_path / "parted.data").read_bytes()
    (tmp_path / "parted.data").write_bytes(values[:-1] + bytes([values[-1] ^ 1]))
    assert onnx_digest(parted) != before


def test_the_same_file_gives_the_same_bytes(tmp_path) -> None:
    path = cnn(tmp_path / "net.onnx", batch=1)
    for folder in ("one", "other"):
        found = load(path, output="pooled")
        onnx_file.save(found.model, tmp_path / folder / "net.onnx")
        engine.save(found.converted, tmp_path / folder / "frozen.xml")
    for name in ("net.onnx", "frozen.xml", "frozen.bin"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize("batch", ["batch", 1])
def test_operations_are_counted_also_where_images_are_taken_one_by_one(tmp_path, batch) -> None:
    network = load(cnn(tmp_path / "net.onnx", batch=batch), output="pooled")
    assert flops(network.converted, SIDE) == 2 * (16 * 16 * 8 * 27 + 8 * 8 * WIDTH * 8 * 9)


def test_the_model_is_one_that_onnx_accepts(tmp_path) -> None:
    for batch in ("batch", 1):
        onnx.checker.check_model(load(cnn(tmp_path / "net.onnx", batch=batch), output="pooled").model, full_check=True)


# How its preprocessing is checked -----------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["batch", 1])
def test_preprocessing_is_checked_where_a_batch_normalisation_is_left(tmp_path, images, batch) -> None:
    path = cnn(tmp_path / "net.onnx", batch=batch, normalised=True)
    network = load(path, output="pooled", inputs="tf")
    expected = network.facts["normalization"]
    assert (expected["layer"], expected["output"], len(expected["mean"])) == ("first_norm", "normalized", 8)
    facts = network.facts | {"inputs": "tf"}
    found = checked(run(network.converted, EXACT, ("normalized",)), facts, images.astype(np.uint8))
    wrong = load(path, output="pooled", inputs="raw")
    far = checked(run(wrong.converted, EXACT, ("normalized",)), facts, images.astype(np.uint8))
    assert far["distance"] > 10 * found["distance"]


def test_without_one_it_cannot_be_checked(tmp_path) -> None:
    assert load(cnn(tmp_path / "net.onnx"), output="pooled").facts["normalization"] is None


# Which engine runs it -----------------------------------------------------------------------------------


def test_openvino_runs_it_also_where_there_is_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(engine, "has_gpu", lambda: True)
    params = EngineParams(engine="auto", precision="float32", batch_size=1)
    assert choose(params, 1, "onnx").engine == "openvino"
    assert choose(params, 1, "ResNet50").engine == "tensorflow"
    with pytest.raises(EngineError, match="OpenVINO, which alone runs it"):
        choose(params.model_copy(update={"engine": "tensorflow"}), 1, "onnx")


# What cannot be used ------------------------------------------------------------------------------------


def _of_bytes(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def _cut(path: Path) -> Path:
    return _of_bytes(cnn(path).read_bytes()[:-200])(path)


def _without_its_data(path: Path) -> Path:
    _with_data(path, "beside.data")
    path.with_name("beside.data").unlink()
    return path


def _with_data_cut(path: Path) -> Path:
    _with_data(path, "beside.data")
    data = path.with_name("beside.data")
    data.write_bytes(data.read_bytes()[:100])
    return path


def _with_data_elsewhere(path: Path) -> Path:
    model = onnx.load(_with_data(path, "beside.data"), load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../../beside.data"
    return _of_bytes(model.SerializeToString())(path)


def _with_data(path: Path, name: str) -> Path:
    model = onnx.load(cnn(path))
    onnx.save(model, path, save_as_external_data=True, location=name, size_threshold=0)
    return path


def _of(node: Any, given: list[Any], kind: int = TensorProto.FLOAT, **opset: int) -> Callable[[Path], Path]:
    return lambda path: saved(path, [node], given, [("out", kind, None)], **opset)


def _pooling_of(*dims: Any, opset: int = 17) -> Callable[[Path], Path]:
    node = helper.make_node("GlobalAveragePool", ["image"], ["out"])
    return _of(node, [("image", TensorProto.FLOAT, list(dims))], opset=opset)


FOREIGN: list[tuple[Callable[[Path], Path], dict[str, Any], str]] = [
    (lambda path: path, {}, "is not a file; expected an ONNX file"),
    (_of_bytes(b""), {}, "holds no network; expected an undamaged ONNX file"),
    (_of_bytes(b"<html>Not found</html>"), {}, "cannot be read"),
    (_of_bytes(pickle.dumps({"state_dict": [1, 2]})), {}, "cannot be read"),
    (_of_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), {}, "cannot be read"),
    (_cut, {"output": "pooled"}, "cannot be read"),
    (_without_its_data, {"output": "pooled"}, "keeps weights in 'beside.data', which is not beside it"),
    (_with_data_cut, {"output": "pooled"}, "cannot be read"),
    (_with_data_elsewhere, {"output": "pooled"}, "keeps weights in '../../beside.data', outside of its folder"),
    (cnn, {"output": "poolled"}, "has no output 'poolled'; expected .* did you mean 'pooled'"),
    (cnn, {}, r"has 3 outputs; expected the name of one of its outputs \(map, pooled, scores\)"),
    (cnn, {"output": "map", "input_size": 64}, "takes images of 32 x 32 pixels; expected 64 x 64, .* set input_size"),
    (lambda path: cnn(path, batch=8), {"output": "map"}, "takes 8 images at a time; expected batches of any size"),
    (cnn, {"output": "map", "pooling": "mean"}, "leave pooling out"),
    (tokens, {}, r"puts out \(1, 17, 12\) .* add pooling: class_token or pooling: mean"),
    (cnn, {"output": "map", "checksum": f"sha256:{'a' * 64}"}, "as backbones.net.checksum says"),
    (_pooling_of("n", 1, SIDE, SIDE), {}, r"takes image \(\?, 1, 32, 32\); expected one image input"),
    (_pooling_of("n", 3, SIDE, 2 * SIDE), {}, "takes images of 32 x 64 pixels"),
    (_pooling_of("n", 3, SIDE, SIDE, opset=8), {}, "has operations of opset 8; expected opset 9 or later"),
    (
        _of(helper.make_node("Gather", ["table", "ids"], ["out"]),
            [("ids", TensorProto.INT64, ["n", "length"]), ("table", TensorProto.FLOAT, [9, 4])]),
        {}, r"takes ids \(\?, \?\), table \(9, 4\); expected one image input",
    ),
    (
        _of(helper.make_node("ArgMax", ["image"], ["out"]), [("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
            TensorProto.INT64),
        {}, "cannot be run .*no tensor of real numbers",
    ),
    (
        _of(helper.make_node("Own", ["image"], ["out"], domain="com.example"),
            [("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])]),
        {}, "cannot be run",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("write", "line", "told"), FOREIGN)
def test_what_is_no_such_network_is_one_line(tmp_path, write, line: dict[str, Any], told: str) -> None:
    path = write(tmp_path / "net.onnx")
    with pytest.raises(UserError, match=told) as caught:
        load(path, **line)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_network_that_mixes_the_images_of_a_batch_is_refused(tmp_path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["centre"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["image", "centre"], ["apart"]),
        helper.make_node("GlobalAveragePool", ["apart"], ["out"]),
    ]
    path = saved(
        tmp_path / "net.onnx",
        nodes,
        [("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [("out", TensorProto.FLOAT, None)],
    )
    with pytest.raises(EngineError, match=r"a network that OpenVINO runs .* as ONNX Runtime does"):
        load(path)
