"""Files of weights of one's own are found, and refused where DVC would not see that they change."""

import hashlib
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core.builders import hub
from stages.sources.own_weights import faults, weights_files
from tests.support.parameters import SHIPPED, edited


def own_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **line: Any) -> dict[str, Any]:
    """Return parameters in which vgg16 has this line; there are files in and beside the folder for weights."""
    (tmp_path / "data/own_weights").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in ("data/own_weights/vgg16.h5", "beside.h5"):
        Path(path).write_bytes(b"weights")
    return edited({"backbones": {"vgg16": line, "resnet50": {}}})


@pytest.mark.parametrize("source", ["data/own_weights/vgg16.h5", "data/own_weights/{backbone}.h5"])
def test_a_file_of_weights_in_its_folder_is_found(monkeypatch, tmp_path: Path, source: str) -> None:
    params = own_weights(monkeypatch, tmp_path, weights=source)
    assert faults(params) == []
    assert weights_files(params) == {"vgg16": Path("data/own_weights/vgg16.h5")}
    assert faults(own_weights(monkeypatch, tmp_path / "b", weights=f"{tmp_path}/b/{source}")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"weights": "gone.h5"},
            "backbones.vgg16: weights 'gone.h5' is not a file; expected imagenet, random, or a file",
        ),
        (
            {"weights": "data/own_weights/../../beside.h5"},
            "lies outside of weights.folder = 'data/own_weights'; expected a file in it, which DVC watches for changes",
        ),
    ],
)
def test_a_file_of_weights_that_dvc_would_not_watch_is_refused(
    monkeypatch, tmp_path: Path, line: dict[str, Any], message: str
) -> None:
    (fault,) = faults(own_weights(monkeypatch, tmp_path, **line))
    assert message in str(fault)


def test_a_file_of_weights_that_git_did_not_bring_is_named_with_how_to_share_it(monkeypatch, tmp_path: Path) -> None:
    params = own_weights(monkeypatch, tmp_path, weights="data/own_weights/mine.h5")
    (fault,) = faults(params)
    assert fault.remedy == (
        "correct the path, or put it there: git does not carry it (`dvc add data/own_weights/mine.h5`, "
        "commit its .dvc file and `dvc push` where it is, and `dvc pull` here, shares it)"
    )
    Path("data/own_weights/mine.h5.dvc").touch()
    (fault,) = faults(params)
    assert fault.remedy == "run `dvc pull data/own_weights/mine.h5`, or correct the path"


def test_a_file_elsewhere_needs_the_checksum_that_is_printed(monkeypatch, tmp_path: Path) -> None:
    params = own_weights(monkeypatch, tmp_path, weights="beside/own.h5")
    digest = hashlib.sha256(b"weights").hexdigest()
    for folder, remedy in (("beside", "set weights.folder to 'beside', "), ("data/exports", "")):
        Path(folder).mkdir()
        (Path(folder) / "own.h5").write_bytes(b"weights")
        line: dict[str, Any] = {"weights": f"{folder}/own.h5"}
        params["backbones"]["vgg16"] = line
        (fault,) = faults(params)
        assert fault.remedy == f"move it, {remedy}or add to the line checksum: 'sha256:{digest}'"
        line["checksum"] = f"sha256:{digest}"
        assert faults(params) == []


def preset_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, **line: Any) -> dict[str, Any]:
    """Return parameters with a preset of KerasHub in the folder `place`; there is the folder for weights."""
    monkeypatch.setattr(hub, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.chdir(tmp_path)
    for folder in ("data/own_weights", "nets/vit"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("nets/vit/model.weights.h5").write_bytes(b"weights")
    return edited({"backbones": {"vit": {"builder": f"keras_hub:{place}"} | line}})


def test_the_folder_of_a_preset_is_watched_where_files_of_weights_are(monkeypatch, tmp_path: Path) -> None:
    params = preset_of(monkeypatch, tmp_path, "data/own_weights/vit")
    shutil.move("nets/vit", "data/own_weights/vit")
    assert faults(params) == []
    params["backbones"]["vit"] = {"builder": "keras_hub:ViTBackbone", "weights": "data/own_weights/vit"}
    assert faults(params) == []


@pytest.mark.parametrize(
    "line", [{}, {"weights": "random"}, {"builder": "keras_hub:ViTBackbone", "weights": "nets/vit"}]
)
def test_the_folder_of_a_preset_elsewhere_needs_the_checksum_of_its_weights(monkeypatch, tmp_path, line) -> None:
    params = preset_of(monkeypatch, tmp_path, "nets/vit", **line)
    (fault,) = faults(params)
    assert "backbones.vit: preset 'nets/vit' lies outside of weights.folder = 'data/own_weights'" in str(fault)
    digest = f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    if line.get("weights") == "random":
        assert fault.remedy == "move it, or set weights.folder to 'nets'"
        return
    assert fault.remedy == f"move it, set weights.folder to 'nets', or add to the line checksum: '{digest}'"
    params["backbones"]["vit"]["checksum"] = digest
    assert faults(params) == []


@pytest.mark.parametrize("line", [{}, {"builder": "keras_hub:ViTBackbone", "weights": "./nets/gone"}])
def test_the_folder_of_a_preset_that_is_not_there_is_named(monkeypatch, tmp_path: Path, line: dict[str, Any]) -> None:
    (fault,) = faults(preset_of(monkeypatch, tmp_path, "nets/gone", **line))
    assert str(fault).startswith("backbones.vit: preset 'nets/gone' is not a folder; expected a preset of KerasHub")


def test_a_remedy_to_paste_between_braces_is_read_by_dvc(monkeypatch, tmp_path: Path) -> None:
    (fault,) = faults(preset_of(monkeypatch, tmp_path, "nets/vit"))
    pasted = fault.remedy.rpartition("add to the line ")[2]
    line = YAML(typ="safe").load(f"vit: {{builder: 'keras_hub:nets/vit', {pasted}}}")["vit"]
    assert line["checksum"] == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"


@pytest.mark.parametrize("folder", ["data/exports/winner", "data", "."])
def test_a_folder_of_weights_that_stages_write_is_refused(monkeypatch, tmp_path: Path, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/exports/winner").mkdir(parents=True)
    (fault,) = faults(edited({"weights.folder": folder}))
    assert str(fault).startswith(f"weights.folder = '{folder}' is written by stages; expected a folder of your own")


def test_a_folder_of_weights_that_is_not_there_is_named_before_dvc_misses_it(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (fault,) = faults(SHIPPED)
    assert str(fault).startswith("weights.folder = 'data/own_weights' is no folder; expected a folder of your own fi")
