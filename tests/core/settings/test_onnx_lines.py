"""What a line of `backbones` with an ONNX file means, and what it cannot say."""

import hashlib
from pathlib import Path

import onnx
import pytest

from stages.core.errors import GroupedUserError
from stages.core.params import merge, read
from stages.sources.own_weights import faults, weights_files
from tests.support import onnx_files
from tests.support.features import ROOT

FILE = {"file": "data/own_weights/net.onnx", "inputs": "torch"}


def test_a_file_is_builder_and_weights_in_one_and_is_run_frozen(declare) -> None:
    backbone = declare("net", sizes=(64, 224, 299), output="tokens", pooling="mean", **FILE)
    network = backbone.network
    assert (network.builder, network.weights) == ("onnx", "data/own_weights/net.onnx")
    assert (network.input_size, network.output, network.pooling) == (224, "tokens", "mean")
    assert backbone.unfreeze.blocks == 0


def test_without_pooling_of_tokens_that_of_the_head_is_for_a_feature_map(declare) -> None:
    assert declare("net", head={"pooling": "max"}, **FILE).network.pooling == "max"
    assert declare("net", file="https://host/net.onnx", inputs="raw").network.weights == "https://host/net.onnx"


def test_a_source_of_weights_for_all_is_none_of_an_onnx_file() -> None:
    params = read(ROOT / "params.yaml")
    params = merge(params, {"weights": {"source": "data/own_weights/{backbone}.keras"}})
    params["backbones"] = {"net": FILE}
    assert weights_files(params) == {"net": Path("data/own_weights/net.onnx")}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"file": "net.onnx"}, "backbones.net without inputs; expected the pixels that the file was trained on"),
        ({**FILE, "inputs": "preset"}, "only a preset of KerasHub states its own"),
        ({**FILE, "file": "net.keras"}, "a file that Keras wrote is named by 'weights'"),
        ({**FILE, "file": "net.pt"}, r"expected an ONNX file \(.onnx\), by its path or http\(s\) URL"),
        ({**FILE, "file": "ftp://host/net.onnx"}, r"expected an ONNX file \(.onnx\)"),
        ({**FILE, "file": "https://me:pa55word@host/net.onnx"}, "without a password or token"),
        ({**FILE, "file": ["net.onnx"]}, "file = .* expected text"),
        ({**FILE, "file": ""}, "file = ''; expected an ONNX file"),
        ({**FILE, "builder": "ResNet50"}, "builder = 'ResNet50' beside file; expected one of the two"),
        ({**FILE, "weights": "imagenet"}, "weights = 'imagenet' beside file; expected one of the two"),
        ({**FILE, "arguments": {"alpha": 1}}, "arguments = .* beside file; expected one of the two"),
        ({**FILE, "unfreeze": {"blocks": 0.5}}, "unfreeze.blocks = 0.5; expected 0: a network from an ONNX file"),
        ({**FILE, "pooling": "cls"}, "pooling = 'cls'; expected 'class_token' or 'mean'"),
        ({**FILE, "output": ""}, "output = ''"),
        ({"builder": "ResNet50", "output": "features"}, "expected null without 'file', an ONNX file"),
        ({"builder": "ResNet50", "pooling": "mean"}, "expected null without 'file', an ONNX file"),
        ({"builder": "onnx"}, "builder = 'onnx' names no builder"),
    ],
)
def test_what_a_line_cannot_say_is_one_line(declare, line: dict, told: str) -> None:
    with pytest.raises(GroupedUserError, match=told) as caught:
        declare("net", **line)
    assert len(caught.value.faults) == 1
    assert "pa55word" not in str(caught.value)


def faults_of(folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, **line: str) -> list[str]:
    """Return what stage check says of the line of an ONNX file in a project in `folder`."""
    monkeypatch.chdir(folder)
    (folder / "data/own_weights").mkdir(parents=True, exist_ok=True)
    params = read(ROOT / "params.yaml") | {"backbones": {"net": {**FILE, "file": file, **line}}}
    return [f"{fault.kind}: {fault}" for fault in faults(params)]


def test_a_file_is_in_the_folder_that_dvc_watches_or_has_its_checksum(tmp_path, monkeypatch) -> None:
    onnx_files.cnn(tmp_path / "data/own_weights/net.onnx")
    assert faults_of(tmp_path, monkeypatch, "data/own_weights/net.onnx") == []
    content = onnx_files.cnn(tmp_path / "nets/net.onnx").read_bytes()
    (fault,) = faults_of(tmp_path, monkeypatch, "nets/net.onnx")
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert "backbones.net: file 'nets/net.onnx' lies outside of weights.folder = 'data/own_weights'" in fault
    assert f"add to the line checksum: '{digest}'" in fault
    assert faults_of(tmp_path, monkeypatch, "nets/net.onnx", checksum=digest) == []


def test_what_check_cannot_read_is_said_before_anything_runs(tmp_path, monkeypatch) -> None:
    (fault,) = faults_of(tmp_path, monkeypatch, "data/own_weights/net.onnx")
    assert fault.startswith("params.yaml: backbones.net: file 'data/own_weights/net.onnx' is not a file")
    path = onnx_files.cnn(tmp_path / "data/own_weights/net.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert faults_of(tmp_path, monkeypatch, "data/own_weights/net.onnx") == []
    (tmp_path / "data/own_weights/net.data").unlink()
    (fault,) = faults_of(tmp_path, monkeypatch, "data/own_weights/net.onnx")
    assert fault.startswith("weights: 'data/own_weights/net.onnx' keeps weights in 'net.data', which is not beside it")
