"""Exported classifiers are read only as they were written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import manifest as exported
from stages.core.manifest import ExportError, Form, Manifest, checksums, open_export, open_reference, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an export of two forms and a reference, whose files hold anything."""
    found = tmp_path / "winner"
    for name in ("openvino/model.xml", "openvino/model.bin", "saved_model/saved_model.pb", "saved_model/assets/labels"):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_bytes(name.encode())
    (found / "reference.json").write_text("{}")
    forms = {name: Form(path=path, files=checksums(found, path)) for name, path in exported.PATHS.items()
             if name in ("openvino", "saved_model")}  # fmt: skip
    write_manifest(
        found,
        Manifest(
            backbone="resnet50", classes=("cold", "warm"), input_size=32, fit="pad", temperature=1.2,
            weights={"source": "random"}, output="probabilities", formats=forms,
            reference=checksums(found, "reference.json"),
        ),
    )  # fmt: skip
    return found


def rewrite(folder: Path, change) -> None:
    """Let `change` alter the manifest's values in place."""
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))


def test_a_whole_export_opens_with_its_classes_and_the_path_of_the_form(folder: Path) -> None:
    manifest, path = open_export(folder)
    assert (manifest.classes, manifest.temperature, manifest.fit) == (("cold", "warm"), 1.2, "pad")
    assert path == folder / "openvino/model.xml"
    assert open_export(folder, "saved_model")[1] == folder / "saved_model"
    assert open_reference(folder) == folder / "reference.json"


def test_every_file_of_a_form_has_a_checksum(folder: Path) -> None:
    formats = json.loads((folder / "manifest.json").read_text())["formats"]
    assert set(formats["openvino"]["files"]) == {"openvino/model.xml", "openvino/model.bin"}
    assert set(formats["saved_model"]["files"]) == {"saved_model/saved_model.pb", "saved_model/assets/labels"}


@pytest.mark.parametrize("name", ["openvino/model.xml", "openvino/model.bin"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "was truncated or altered"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "was truncated or altered"),
        (lambda path: path.unlink(), "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_was_cut_altered_or_removed_is_refused_in_one_line(folder: Path, name: str, damage, said) -> None:
    damage(folder / name)
    with pytest.raises(ExportError) as caught:
        open_export(folder)
    assert f"{name}' {said}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert open_export(folder, "saved_model")


def test_an_altered_reference_is_refused(folder: Path) -> None:
    (folder / "reference.json").write_text("{} ")
    with pytest.raises(ExportError, match="was truncated or altered"):
        open_reference(folder)


def test_a_form_that_was_not_exported_is_named_with_those_that_were(folder: Path) -> None:
    with pytest.raises(ExportError, match="without form 'onnx'; expected one of openvino, saved_model"):
        open_export(folder, "onnx")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "is damaged"),
        (lambda path: path.write_text("[]"), "is damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is damaged"),
    ],
)
def test_a_manifest_that_is_missing_or_damaged_is_one_line(folder: Path, damage, said: str) -> None:
    damage(folder / "manifest.json")
    with pytest.raises(ExportError, match=said) as caught:
        open_export(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.pop("classes"), "classes: Field required"),
        (lambda values: values["formats"]["openvino"].update(path="../other.xml"), r"names '\.\./other.xml'"),
        (lambda values: values["formats"]["openvino"].update(files={"../../x": f"sha256:{'0' * 64}"}), "lies outside"),
        (lambda values: values["formats"]["openvino"].update(files={}), "formats.openvino.files"),
        (lambda values: values["formats"]["openvino"]["files"].pop("openvino/model.xml"), "with a checksum"),
        (lambda values: values["formats"]["openvino"]["files"].pop("openvino/model.bin"), "with a checksum"),
    ],
)
def test_a_manifest_leads_to_no_file_without_a_checksum_or_outside_the_folder(folder: Path, change, said) -> None:
    rewrite(folder, change)
    with pytest.raises(ExportError, match=said):
        open_export(folder)


def test_opening_an_export_loads_neither_tensorflow_nor_keras() -> None:
    code = "import sys, stages.core.manifest; sys.exit(bool({'tensorflow', 'keras', 'openvino'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
