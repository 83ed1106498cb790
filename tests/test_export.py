"""The stage export on a small prepared data set: its forms agree with Keras, and say what they are."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import openvino
import pandas as pd
import pytest
import yaml

from stages import evaluate, export, features, finetune, tune, weights
from stages import params as params_module
from stages.errors import DataError, ParameterError
from stages.files import read_csv, read_json, write_json
from stages.models import export_runners, exporting, keras_engine
from stages.models.engine import Choice, compile_openvino
from stages.models.exported import PATHS, ExportError, open_export, open_reference
from stages.results import temperature
from stages.results.reference import Reference
from tests.clone import Clone
from tests.test_finetune import CLASSES, COUNTS, LINES, ROOT, SIDE, prepared, stage

FLOAT = [form for form in PATHS if form != "litert_int8"]
EXPORTS = {"winner": "scratch", "frozen": "frozen"}


def change(root: Path, **values) -> None:
    """Set keys of section export."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["export"] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    params_module.read.cache_clear()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run the stages up to evaluate, and export, for two lines of LINES, once, in a folder of their own."""
    root = tmp_path_factory.mktemp("exports")
    with prepared(root, {name: LINES[name] for name in ("frozen", "scratch")}, repeats=1, shares=()) as patch:
        change(root, backbones=list(EXPORTS), calibration_pictures=6, latency_repeats=2)
        for name in ("frozen", "scratch"):
            for module in (weights, features, tune, finetune, evaluate):
                stage(module, name, patch)
        write_json(root / "data/metrics.json", {"best": "scratch", "recommended": None})
        for name in EXPORTS:
            stage(export, name, patch)
    yield root
    params_module.read.cache_clear()


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch) -> Path:
    """Return a copy without exports, to run the stage in."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("exports"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keras_engine, "repeatable", lambda seed, _: keras.utils.set_random_seed(seed))
    params_module.read.cache_clear()
    yield tmp_path
    params_module.read.cache_clear()


def pictures(root: Path) -> np.ndarray:
    return np.load(root / f"data/prepared/{SIDE}/test.npy")


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("form", FLOAT)
def test_a_form_takes_raw_bytes_and_gives_the_probabilities_of_keras(finished: Path, name: str, form: str) -> None:
    folder = finished / "data/exports" / name
    expected = keras.models.load_model(folder / "model.keras").predict(pictures(finished), verbose=0)
    found = export_runners.runner(form, open_export(folder, form)[1], threads=1)(pictures(finished))
    assert (found.dtype, found.shape) == (np.float32, (COUNTS["test"], len(CLASSES)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", EXPORTS)
def test_probabilities_are_those_that_were_evaluated_scaled_by_their_temperature(finished: Path, name: str) -> None:
    backbone = EXPORTS[name]
    degree = read_json(finished / f"data/evaluations/{backbone}/metrics.json")["temperature"]
    assert degree != 1
    table = read_csv(finished / f"data/models/{backbone}/predictions.csv", text=("split",))
    evaluated = table.loc[table["split"] == "test", ["p:cold", "p:warm"]].to_numpy()
    manifest, path = open_export(finished / "data/exports" / name)
    assert manifest.temperature == degree
    found = export_runners.runner("openvino", path, threads=1)(pictures(finished))
    np.testing.assert_allclose(found, temperature.scaled(evaluated, degree), atol=5e-3)


def test_int8_computes_in_whole_numbers_and_mostly_agrees(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    table = read_csv(folder / "comparison.csv", text=("format",)).set_index("format")
    assert table.loc["litert_int8", "agreement"] >= 0.75
    assert table.loc["litert_int8", "largest_difference"] > 0
    # Weights of one byte in place of four.
    assert (folder / "model_int8.tflite").stat().st_size < 0.5 * (folder / "model.tflite").stat().st_size


def test_each_form_is_compared_with_keras_and_timed_apart(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    table = read_csv(folder / "comparison.csv", text=("format",))
    assert list(table["format"]) == list(PATHS)
    assert (table["pictures"] == COUNTS["test"]).all()
    exact = table[table["format"] != "litert_int8"]
    assert (exact["agreement"] == 1).all()
    assert (exact["largest_difference"] < 1e-4).all()
    assert (table["accuracy_low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["accuracy_high"]).all()
    measured = read_json(finished / "data/evaluations/scratch/metrics.json")["accuracy"]
    assert table["accuracy"][0] == measured
    took = read_csv(finished / "data/latencies/winner.csv", text=("format",))
    assert list(took["format"]) == list(PATHS)
    assert (took["latency_ms_median"] > 0).all()


def labels(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.read("labels.txt").decode().splitlines()


def test_class_names_travel_with_every_form(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    for name in ("model.keras", "model.tflite", "model_int8.tflite"):
        assert labels(folder / name) == list(CLASSES)
    assert (folder / "saved_model/assets.extra/labels.txt").read_text().splitlines() == list(CLASSES)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
    network = openvino.Core().read_model(str(folder / "openvino/model.xml"))
    assert json.loads(network.get_rt_info(["model_info", "classes"]).astype(str)) == list(CLASSES)


def test_the_openvino_form_also_gives_what_its_head_is_given(finished: Path) -> None:
    folder = finished / "data/exports/frozen"
    network = compile_openvino(open_export(folder)[1], Choice("openvino", "float32", 1))
    found = network({"pictures": pictures(finished)})["embedding"]
    expected = np.load(finished / "data/features/frozen/test.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_reference_is_of_validation_pictures_measured_from_training_pictures(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    known = Reference.model_validate_json(open_reference(folder).read_bytes())
    assert (known.training_pictures, known.validation_pictures) == (COUNTS["train"], COUNTS["validation"])
    network = compile_openvino(open_export(folder)[1], Choice("openvino", "float32", 1))
    said = network({"pictures": np.load(finished / f"data/prepared/{SIDE}/validation.npy")})
    np.testing.assert_allclose(known.confidences, np.sort(said["probabilities"].max(axis=1)), rtol=1e-5)
    np.testing.assert_allclose(known.distances, np.sort(known.measure(said["embedding"])), rtol=1e-4)


def test_the_manifest_has_the_checksum_of_every_file_but_its_own_and_the_cards(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    listed = {name for form in read_json(folder / "manifest.json")["formats"].values() for name in form["files"]}
    listed |= {name for key in ("comparison", "reference") for name in read_json(folder / "manifest.json")[key]}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert present - listed == {"manifest.json", "README.md"}
    manifest = read_json(folder / "manifest.json")
    assert (manifest["backbone"], manifest["classes"], manifest["input_size"]) == ("scratch", list(CLASSES), SIDE)
    assert (manifest["fit"], manifest["output"]) == ("pad", "probabilities")


@pytest.mark.parametrize("form", PATHS)
def test_a_form_that_was_cut_is_refused(finished: Path, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "winner"
    shutil.copytree(finished / "data/exports/winner", folder)
    path = folder / PATHS[form]
    file = path / "saved_model.pb" if path.is_dir() else path
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ExportError, match="was cut or altered"):
        open_export(folder, form)


def test_the_winner_is_the_recommended_backbone_and_else_the_most_accurate(project: Path) -> None:
    assert export.read_subject("winner").backbone == "scratch"
    write_json(project / "data/metrics.json", {"best": "scratch", "recommended": "frozen"})
    assert export.read_subject("winner").backbone == "frozen"
    assert export.read_subject("scratch").backbone == "scratch"


def test_the_same_classifier_gives_the_same_card_and_the_same_files_but_for_numbers_that_tensorflow_counts(
    finished: Path, project: Path, monkeypatch
) -> None:
    stage(export, "winner", monkeypatch)
    old, new = finished / "data/exports/winner", project / "data/exports/winner"
    for name in (
        "README.md",
        "comparison.csv",
        "reference.json",
        "model.keras",
        "model.onnx",
        "openvino/model.xml",
        "openvino/model.bin",
    ):
        assert (old / name).read_bytes() == (new / name).read_bytes(), name


def test_the_card_says_what_it_is_how_good_and_whose_weights(finished: Path) -> None:
    text = (finished / "data/exports/winner/README.md").read_text()
    assert "# A classifier of 2 classes on `scratch`" in text
    assert "| `cold` | 12 | 4 | 4 |" in text
    assert "All weights were learnt from the pictures above" in text
    assert "right most often in a comparison that recommends none" in text
    assert "must not be used" not in text
    other = (finished / "data/exports/frozen/README.md").read_text()
    assert "**Its backbone carries random weights (`params.yaml says random`): it must not be used" in other
    assert "nobody's licence" in other


def test_a_form_that_disagrees_fails_with_the_figure_and_leaves_nothing(project: Path, monkeypatch) -> None:
    write = exporting.write

    def turned(classifier: exporting.Classifier, form: str, folder: Path) -> None:
        """Write an ONNX form whose last layer has its classes the other way round."""
        last = classifier.model.get_layer("head").get_layer("probabilities")
        kept = last.get_weights()
        if form == "onnx":
            last.set_weights([values[..., ::-1] for values in kept])
        write(classifier, form, folder)
        last.set_weights(kept)

    monkeypatch.setattr(exporting, "write", turned)
    with pytest.raises(ExportError, match=r"'onnx' of 'scratch' names another class than Keras on 100.00% of 8 test"):
        stage(export, "winner", monkeypatch)
    assert list((project / "data/exports").glob("*")) == []


def test_a_form_left_out_is_not_written_but_keras_always_is(project: Path, monkeypatch) -> None:
    change(project, formats=["litert"])
    stage(export, "winner", monkeypatch)
    names = {path.name for path in (project / "data/exports/winner").iterdir()}
    assert names == {"model.keras", "model.tflite", "comparison.csv", "manifest.json", "README.md"}


def test_an_export_that_is_not_declared_is_one_line(project: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stages/export.py", "winer"])
    with pytest.raises(ParameterError, match=r"export of 'winer'.*did you mean 'winner'"):
        export.main()


def test_without_a_comparison_there_is_no_winner(project: Path) -> None:
    (project / "data/metrics.json").unlink()
    with pytest.raises(DataError, match=r"no data/metrics.json; expected what stage compare writes"):
        export.read_subject("winner")


def test_a_backbone_that_was_not_trained_is_one_line_with_the_command(project: Path) -> None:
    with pytest.raises(DataError, match=r"no data/models/vgg16/provenance.json.*run 'dvc repro finetune@vgg16'"):
        export.read_subject("vgg16")


def test_a_backbone_that_was_not_fine_tuned_is_one_line(project: Path) -> None:
    write_json(project / "data/evaluations/frozen/metrics.json", {})
    with pytest.raises(DataError, match=r"'frozen' was not fine-tuned; .* take it out of export.backbones"):
        export.read_subject("frozen")


def test_pictures_are_spread_evenly_and_augmented_views_are_none() -> None:
    index = pd.DataFrame({"split": "train", "row": range(20), "view": [0, 1] * 10, "fold": -1})
    assert export.select(index, "train", 4)["row"].tolist() == [0, 6, 12, 18]
    assert export.select(index, "train", 100)["row"].tolist() == list(range(0, 20, 2))


def test_dvc_hands_out_each_artifact_by_its_name_and_version(finished: Path, tmp_path: Path) -> None:
    clone = Clone.of_project(tmp_path / "project")
    shutil.copyfile(finished / "params.yaml", clone.folder / "params.yaml")
    shutil.copytree(finished / "data", clone.folder / "data", ignore=shutil.ignore_patterns("exports", "latencies"))
    done = clone.dvc("repro", "--single-item", "export@winner")
    assert done.code == 0, done.errors
    clone.commit("export")
    paths = {
        "classifier-onnx": "model.onnx",
        "classifier": "model.keras",
        "classifier-openvino": "openvino/model.bin",
    }
    for name in paths:
        # DVC looks for annotated tags alone.
        clone.git("tag", "--annotate", f"{name}@v1.0.0", "--message", "first")
    shutil.rmtree(clone.folder / "data/exports")
    (tmp_path / "elsewhere").mkdir()
    for name, path in paths.items():
        target = tmp_path / "elsewhere" / name
        version = ("--rev", "v1.0.0") if name == "classifier-onnx" else ()
        got = clone.dvc("artifacts", "get", str(clone.folder), name, *version, "--out", str(target))
        assert got.code == 0, got.errors
        found = next(file for file in (target / path, target / Path(path).name, target) if file.is_file())
        assert found.read_bytes() == (finished / "data/exports/winner" / path).read_bytes()
    assert open_export(tmp_path / "elsewhere/classifier")[0].backbone == "scratch"


def test_artifacts_are_named_for_a_registry_and_lie_in_what_export_writes() -> None:
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    written = {"data/exports/winner", *(f"data/exports/winner/{path}" for path in PATHS.values())}
    for name, artifact in artifacts.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert artifact["type"] == "model"
        assert artifact["path"] in written | {"data/exports/winner/openvino"}
