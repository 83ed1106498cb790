"""A classifier on a network from an ONNX file gives what its head gives on its features, in both of its forms."""

import json

import numpy as np
import onnxruntime
import openvino
import pytest

from stages.core.head import Head, Layer
from stages.core.manifest import PATHS
from stages.core.settings.backbones import Network
from stages.core.settings.weights import FetchParams
from stages.exports import onnx_export, runners
from stages.networks import onnx_file
from stages.networks.engine import Choice
from stages.networks.extraction import run
from tests.support.onnx_files import SIDE, WIDTH, cnn

CLASSES = ("blue sky", "naïve, red")
ACTIVATIONS = ("relu", "leaky_relu", "tanh", "silu", "gelu", "elu", "selu")


def head(activation: str | None) -> Head:
    """Return a head with a dense layer of this activation on normalised features, or a linear one."""
    draw = np.random.default_rng(4)
    widths = (WIDTH, len(CLASSES)) if activation is None else (WIDTH, 6, len(CLASSES))
    kinds = ["linear"] if activation is None else [activation, "linear"]
    layers = [
        Layer(
            draw.normal(0, 0.5, (inputs, units)).astype(np.float32), draw.normal(0, 1, units).astype(np.float32), kind
        )
        for inputs, units, kind in zip(widths, widths[1:], kinds, strict=False)
    ]
    moments = np.full(WIDTH, 20, np.float32), np.full(WIDTH, 30, np.float32)
    return Head(tuple(layers), None if activation is None else moments)


@pytest.fixture(scope="module", params=["n", 1])
def network(request, tmp_path_factory) -> onnx_file.Loaded:
    """Return a network for batches, or for single images."""
    path = cnn(tmp_path_factory.mktemp("net") / "net.onnx", batch=request.param, normalised=True)
    declared = Network(
        name="net", builder="onnx", arguments={}, weights=str(path), pooling="average", output="pooled",
        inputs="torch", input_size=SIDE, checksum=None,
    )  # fmt: skip
    return onnx_file.obtain(declared, FetchParams(mirror=None, if_unreachable="stop", connect_timeout=5))[0]


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_probabilities_are_those_of_the_head_on_the_features(
    tmp_path, random_images, network, activation, form
) -> None:
    kept, images = head(activation), random_images(3, SIDE)
    classifier = onnx_export.Classifier(network.model, kept, CLASSES)
    onnx_export.write(classifier, form, tmp_path)
    features = run(network.converted, Choice("openvino", "float32", 1), ("features",))(images.astype(np.float32))
    found = runners.runner(form, tmp_path / PATHS[form], threads=1)(images)
    np.testing.assert_allclose(found, kept.probabilities(features["features"]), atol=1e-4)


def test_class_names_travel_with_both_forms_and_equal_classifiers_give_equal_bytes(tmp_path, network) -> None:
    for folder in ("one", "other"):
        for form in ("onnx", "openvino"):
            onnx_export.write(onnx_export.Classifier(network.model, head("gelu"), CLASSES), form, tmp_path / folder)
    for name in (PATHS["onnx"], PATHS["openvino"], "openvino/model.bin"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    session = onnxruntime.InferenceSession(str(tmp_path / "one/model.onnx"), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
    assert [port.name for port in session.get_outputs()] == ["probabilities"]
    read = openvino.Core().read_model(str(tmp_path / "one/openvino/model.xml"))
    assert json.loads(read.get_rt_info(["model_info", "classes"]).astype(str)) == list(CLASSES)
    assert {name for port in read.outputs for name in port.get_names()} == {"probabilities", "embedding"}
