"""The stage export on a small prepared data set: its forms agree with Keras, and say what they are."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import openvino
import pandas as pd
import pytest
import yaml

from stages import evaluate, export, weights
from stages.core import head, shares
from stages.core import params as params_module
from stages.core.dataset.prepared import SPLITS
from stages.core.errors import DataError, ParameterError
from stages.core.files import read_csv, read_json, write_csv, write_json
from stages.core.manifest import PATHS, ExportError, open_export, open_reference
from stages.core.predictions import Predictions, apply_temperature, read_predictions
from stages.core.settings.backbones import Network
from stages.core.settings.finetune import Head
from stages.exports import exporting, runners
from stages.exports.reference import Reference
from stages.heads import linear
from stages.networks import architectures, keras_engine, keras_heads
from stages.networks.engine import Choice, compile_openvino
from stages.networks.extraction import forward
from stages.networks.origin import Origin
from stages.networks.pretrained import random
from tests.support import artefacts
from tests.support.clone import Clone
from tests.support.tiny_backbone import write_weights

ROOT = Path(__file__).parents[2]
SIDE, CLASSES = 32, ("cold", "warm")
COUNTS = {"train": 24, "validation": 8, "test": 8}
FLOAT = [form for form in PATHS if form != "litert_int8"]
# Which head each has, and what the trained part of its network begins with. The first is a whole MobileNetV3.
BACKBONES = {"frozen": ("linear", None), "partly": ("unfrozen", "block_1"), "scratch": ("whole", "image")}
EXPORTS = {"winner": "scratch", "frozen": "frozen", "partly": "partly"}
DENSE = {"pooling": "flatten", "units": (8,), "activation": "gelu", "dropout": 0.0, "l2": 0.0, "choose": "best"}


def prepare(root: Path) -> pd.DataFrame:
    """Write data/prepared: images that are blue or red, with noise; return the index."""
    draw, rows = np.random.default_rng(0), []
    for split in SPLITS:
        numbers = np.arange(COUNTS[split]) % 2
        shown = draw.integers(0, 90, (len(numbers), SIDE, SIDE, 3))
        strength = draw.integers(10, 90, (len(numbers), 1, 1))
        for number, channel in enumerate((2, 0)):
            shown[numbers == number, :, :, channel] += strength[numbers == number]
        (root / str(SIDE)).mkdir(parents=True, exist_ok=True)
        np.save(root / str(SIDE) / f"{split}.npy", shown.astype(np.uint8))
        rows += [(split, row, f"{CLASSES[n]}/{split}{row:02}.png", CLASSES[n], -1) for row, n in enumerate(numbers)]
    index = pd.DataFrame(rows, columns=["split", "row", "file", "label", "fold"])
    write_csv(root / "index.csv", index)
    return index


def configure(root: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["preprocess"]["sizes"] = [SIDE]
    params["evaluate"]["resamples"] = 100
    params["export"] |= {"backbones": list(EXPORTS), "calibration_images": 6, "latency_repeats": 2}
    params["backbones"] = {name: {} for name in BACKBONES}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    params_module.read.cache_clear()


def change(root: Path, **values) -> None:
    """Set keys of section export."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["export"] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    params_module.read.cache_clear()


def declared(name: str) -> Network:
    own = {"builder": "MobileNetV3Small", "pooling": "average", "arguments": {}}
    if name == "scratch":
        own = {"builder": "scratch", "pooling": "flatten", "arguments": {"filters": [4, 8]}}
    return Network(name=name, input_size=SIDE, weights="random", checksum=None, inputs="raw", **own)


def make(root: Path, name: str, index: pd.DataFrame) -> None:
    """Write what stages weights and finetune would."""
    keras.utils.set_random_seed(5)
    origin = Origin("none") if name == "scratch" else Origin("random", "as set in params.yaml")
    if name == "partly":
        network = write_weights(root / "data/weights/partly")
    else:
        network = random(declared(name))
        weights.write(root / "data/weights" / name, network, declared(name), origin)
    model, (kept, start) = root / "data/models" / name, BACKBONES[name]
    model.mkdir(parents=True)
    found = train(root, name, network, model)
    head.save(found, model / "head.npz")
    # Called, not predicted: to trace a network for a few images takes longer.
    features = {split: np.asarray(network(images(root, split).astype(np.float32))) for split in SPLITS}
    write_predictions(model, index, {split: found.probabilities(rows) for split, rows in features.items()}, kept)
    changes = {"builder": declared(name).builder, "input_size": SIDE, "precision": "float32", "weights": vars(origin)}
    facts = artefacts.provenance(name, CLASSES, 1000, origin.source, kept) | changes
    if kept == "linear":
        facts |= {"train_images": 32, "train_views": 32}
    elif kept == "unfrozen":
        facts["head"]["strength"] = 30.0
    write_json(model / "provenance.json", facts | {"top": start and {"input": start}})


def train(root: Path, name: str, network: keras.Model, model: Path) -> head.Head:
    """Return a head, and train or change the network below it where the backbone's is trained."""
    labels = np.arange(COUNTS["train"]) % 2
    if name == "scratch":
        built = keras_heads.build(Head.model_validate(DENSE), network.output.shape[-1], len(CLASSES))
        whole = keras.Model(network.input, built(network.output))
        whole.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
        whole.fit(images(root, "train").astype(np.float32), labels, batch_size=8, epochs=6, verbose=0)
        keras_engine.save(architectures.top(network, "image"), model / "top.keras")
        return keras_heads.arrays_of(built)
    if name == "partly":
        top = architectures.top(network, "block_1")
        for layer in top.layers:
            layer.set_weights([values * 1.5 for values in layer.get_weights()])
        keras_engine.save(top, model / "top.keras")
    scratch = model.parent.with_name("scratch") / name
    scratch.mkdir(parents=True)
    features = np.asarray(network(images(root, "train").astype(np.float32)))
    return linear.fit(features, labels, len(CLASSES), "none", 3.0, scratch)


def write_predictions(model: Path, index: pd.DataFrame, found: dict[str, np.ndarray], kept: str) -> None:
    parts = [part for part in SPLITS if kept == "linear" or part != "train"]
    table = pd.concat([index.loc[index["split"] == part, ["split", "file", "label"]] for part in parts])
    probabilities = np.concatenate([found[part] for part in parts])
    # One label is wrong: the temperature of images that are all right would be 1.
    wrong = table.index[table["split"] == "validation"][0]
    table.loc[wrong, "label"] = next(name for name in CLASSES if name != table.loc[wrong, "label"])
    table["predicted"] = np.array(CLASSES)[probabilities.argmax(axis=1)]
    table[[f"p:{name}" for name in CLASSES]] = probabilities
    write_csv(model / "predictions.csv", table)
    write_csv(model / "heads.csv", table[table["split"] != "train"].assign(head=kept))
    for name, key in {"folds": "fold", "repeats": "repeat"}.items():
        write_csv(model / f"{name}.csv", pd.DataFrame(columns=[key, *table]))
    write_csv(model / "shares.csv", shares.table([]))
    write_csv(model / "baseline.csv", table[:0])


def stage(module, name: str | None, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *([name] if name else [])])
    module.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run evaluate and export for each of EXPORTS, once, in a folder of their own."""
    root = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        # Threads can be set once in a process.
        patch.setattr(keras_engine, "make_deterministic", lambda seed, _: keras.utils.set_random_seed(seed))
        index = prepare(root / "data/prepared")
        configure(root)
        write_csv(root / "data/splits.csv", index[["file"]].assign(group=index["file"]))
        for name in BACKBONES:
            make(root, name, index)
        write_json(root / "data/recipes/names.json", {"backbones": list(BACKBONES)})
        stage(evaluate, None, patch)
        write_json(
            root / "data/metrics.json", {"best": "scratch", "recommended": None, **{name: {} for name in BACKBONES}}
        )
        for name in EXPORTS:
            stage(export, name, patch)
    yield root
    params_module.read.cache_clear()


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch) -> Path:
    """Return a copy without exports, to run the stage in."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("exports"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keras_engine, "make_deterministic", lambda seed, _: keras.utils.set_random_seed(seed))
    params_module.read.cache_clear()
    yield tmp_path
    params_module.read.cache_clear()


def images(root: Path, split: str = "test") -> np.ndarray:
    return np.load(root / f"data/prepared/{SIDE}/{split}.npy")


@pytest.fixture(scope="module")
def by_keras(finished: Path) -> dict[str, np.ndarray]:
    """Return the probabilities of the test images that each export's `.keras` file gives: tracing it takes longest."""
    files = {name: finished / f"data/exports/{name}/model.keras" for name in EXPORTS}
    return {name: keras.models.load_model(file).predict(images(finished), verbose=0) for name, file in files.items()}


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("form", FLOAT)
def test_a_form_takes_raw_bytes_and_gives_the_probabilities_of_keras(
    finished: Path, by_keras: dict[str, np.ndarray], name: str, form: str
) -> None:
    path = open_export(finished / "data/exports" / name, form)[1]
    found = runners.runner(form, path, threads=1)(images(finished))
    assert (found.dtype, found.shape) == (np.float32, (COUNTS["test"], len(CLASSES)))
    np.testing.assert_allclose(found, by_keras[name], atol=1e-4)


@pytest.mark.parametrize("name", EXPORTS)
def test_probabilities_are_those_that_were_evaluated_scaled_by_their_temperature(finished: Path, name: str) -> None:
    backbone = EXPORTS[name]
    temperature = read_json(finished / f"data/evaluations/{backbone}/metrics.json")["temperature"]
    assert temperature != 1
    table = read_csv(finished / f"data/models/{backbone}/predictions.csv", text=("split",))
    evaluated = table.loc[table["split"] == "test", ["p:cold", "p:warm"]].to_numpy()
    manifest, path = open_export(finished / "data/exports" / name)
    assert manifest.temperature == temperature
    found = runners.runner("openvino", path, threads=1)(images(finished))
    np.testing.assert_allclose(found, apply_temperature(evaluated, temperature), atol=5e-3)


def test_int8_computes_in_whole_numbers_and_mostly_agrees(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    table = read_csv(folder / "comparison.csv", text=("format",)).set_index("format")
    assert table.loc["litert_int8", "agreement"] >= 0.75
    assert table.loc["litert_int8", "largest_difference"] > 0
    # Weights of one byte instead of four.
    assert (folder / "model_int8.tflite").stat().st_size < 0.5 * (folder / "model.tflite").stat().st_size


def test_each_form_is_compared_with_keras_and_timed_apart(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    table = read_csv(folder / "comparison.csv", text=("format",))
    assert list(table["format"]) == list(PATHS)
    assert (table["images"] == COUNTS["test"]).all()
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
    assert took["latency_under_load"].isin([False, True]).all()


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
    found = network({"images": images(finished)})["embedding"]
    choice = Choice("openvino", "float32", 1)
    expected = forward(finished / "data/weights/frozen", choice, ("features",))(images(finished))["features"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_reference_has_the_distances_and_evaluated_predictions_of_validation_images(finished: Path) -> None:
    folder = finished / "data/exports/winner"
    known = Reference.model_validate_json(open_reference(folder).read_bytes())
    assert (known.training_images, len(known.validation)) == (COUNTS["train"], COUNTS["validation"])
    network = compile_openvino(open_export(folder)[1], Choice("openvino", "float32", 1))
    said = network({"images": images(finished, "validation")})
    actual, predicted, confidences, distances = zip(*known.validation, strict=True)
    table = read_predictions(finished / "data/models/scratch/predictions.csv")
    rows = table[table["split"] == "validation"]
    temperature = read_json(finished / "data/evaluations/scratch/metrics.json")["temperature"]
    expected = apply_temperature(rows[["p:cold", "p:warm"]].to_numpy(), temperature)
    assert [CLASSES[position] for position in actual] == rows["label"].tolist()
    assert [CLASSES[position] for position in predicted] == rows["predicted"].tolist()
    np.testing.assert_allclose(confidences, expected.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(distances, known.measure(said["embedding"]), rtol=1e-4)


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
    with pytest.raises(ExportError, match="was truncated or altered"):
        open_export(folder, form)


def test_the_winner_is_the_recommended_backbone_and_else_the_most_accurate(project: Path) -> None:
    assert export.read_subject("winner").backbone == "scratch"
    write_json(
        project / "data/metrics.json", {"best": "scratch", "recommended": "frozen", **{name: {} for name in BACKBONES}}
    )
    assert export.read_subject("winner").backbone == "frozen"
    assert export.read_subject("scratch").backbone == "scratch"


def test_the_card_says_what_it_is_how_good_and_whose_weights(finished: Path) -> None:
    text = (finished / "data/exports/winner/README.md").read_text()
    assert "# A classifier of 2 classes with backbone `scratch`" in text
    assert "| `cold` | 12 | 4 | 4 |" in text
    assert "All weights were trained on the images above" in text
    assert "most accurate backbone in a comparison that recommends none" in text
    assert "trying things out" not in text
    other = (finished / "data/exports/frozen/README.md").read_text()
    assert "**Its backbone has random weights (`as set in params.yaml`): use it only for trying" in other
    assert "no licence applies" in other


def test_the_card_has_the_layers_of_the_head_that_was_kept(finished: Path) -> None:
    text = {name: (finished / f"data/exports/{name}/README.md").read_text() for name in EXPORTS}
    assert "a head that has a dense layer of 8 units (gelu) before the output layer" in text["winner"]
    assert "Its head is linear: multinomial logistic regression" in text["frozen"]
    assert "With it the top of the backbone was trained, 9 of its 18 blocks, starting" in text["partly"]


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
    with pytest.raises(ExportError, match=r"'onnx' of 'scratch' predicts another class than Keras on 100.00% of 8"):
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
    with pytest.raises(DataError, match=r"no data/metrics.json; expected the output of stage compare"):
        export.read_subject("winner")


def test_a_backbone_that_was_not_trained_is_one_line_with_the_command(project: Path) -> None:
    with pytest.raises(DataError, match=r"no data/models/vgg16/provenance.json.*run 'dvc repro finetune@vgg16'"):
        export.read_subject("vgg16")


def test_a_backbone_without_its_network_is_one_line_with_the_command(project: Path, monkeypatch) -> None:
    shutil.rmtree(project / "data/weights/scratch")
    with pytest.raises(DataError, match=r"no data/weights/scratch/backbone.keras.*run 'dvc repro weights@scratch'"):
        stage(export, "winner", monkeypatch)


def test_images_are_spread_evenly_over_a_split() -> None:
    index = pd.DataFrame({"split": "train", "row": range(20), "fold": -1})
    assert export.select(index, "train", 4)["row"].tolist() == [0, 6, 13, 19]
    assert export.select(index, "train", 100)["row"].tolist() == list(range(20))


def test_the_trained_blocks_and_all_that_was_not_trained_are_in_the_export(finished: Path) -> None:
    whole = keras_engine.load(finished / "data/exports/partly/model.keras").get_layer("backbone")
    trained = keras_engine.load(finished / "data/models/partly/top.keras")
    before = keras_engine.load(finished / "data/weights/partly/backbone.keras")
    above = {layer.name for layer in trained.layers}
    assert above & {layer.name for layer in before.layers}
    for layer in whole.layers:
        expected = (trained if layer.name in above else before).get_layer(layer.name).get_weights()
        for found, value in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(found, value)


def test_a_top_of_another_network_is_a_fault_of_the_program(project: Path, monkeypatch) -> None:
    shutil.copy(project / "data/models/partly/top.keras", project / "data/models/scratch/top.keras")
    with pytest.raises(RuntimeError, match="trained layers that the backbone does not have: "):
        stage(export, "winner", monkeypatch)


def test_a_head_other_than_the_evaluated_one_is_a_fault_of_the_program(project: Path, monkeypatch) -> None:
    path = project / "data/models/frozen/head.npz"
    *below, last = head.load(path).layers
    turned = head.Layer(-last.kernel, -last.bias)
    head.save(head.Head((*below, turned), head.load(path).moments), path)
    with pytest.raises(RuntimeError, match=r"frozen: 100.0% of its predictions differ from the evaluated ones"):
        stage(export, "frozen", monkeypatch)


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory) -> Clone:
    """Return a clone of the project in which DVC has exported the winner once more, in a process of its own."""
    clone = Clone.of_project(tmp_path_factory.mktemp("exported") / "project")
    shutil.copyfile(finished / "params.yaml", clone.folder / "params.yaml")
    shutil.copytree(
        finished / "data", clone.folder / "data", dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("exports", "latencies"),
    )  # fmt: skip
    done = clone.dvc("repro", "--single-item", "export@winner")
    assert done.code == 0, done.errors
    clone.commit("export")
    return clone


def test_the_same_classifier_gives_the_same_card_and_the_same_files_but_for_numbers_that_tensorflow_counts(
    finished: Path, exported: Clone
) -> None:
    old, new = finished / "data/exports/winner", exported.folder / "data/exports/winner"
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


def test_dvc_hands_out_each_artifact_by_its_name_and_version(finished: Path, exported: Clone, tmp_path: Path) -> None:
    clone = exported
    # DVC looks for annotated tags alone.
    clone.git("tag", "--annotate", "classifier@v1.0.0", "--message", "first")
    shutil.rmtree(clone.folder / "data/exports")
    (tmp_path / "elsewhere").mkdir()
    commands = {
        "classifier": ("artifacts", "get", str(clone.folder), "classifier", "--rev", "v1.0.0"),
        "model.onnx": ("get", str(clone.folder), "data/exports/winner/model.onnx"),
    }
    for name, command in commands.items():
        target = tmp_path / "elsewhere" / name
        got = clone.dvc(*command, "--out", str(target))
        assert got.code == 0, got.errors
        path = "openvino/model.bin" if target.is_dir() else name
        found = target / path if target.is_dir() else target
        assert found.read_bytes() == (finished / "data/exports/winner" / path).read_bytes()
    assert open_export(tmp_path / "elsewhere/classifier")[0].backbone == "scratch"


def test_artifacts_are_named_for_a_registry_and_lie_in_what_export_writes() -> None:
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    written = {"data/exports/winner", *(f"data/exports/winner/{path}" for path in PATHS.values())}
    for name, artifact in artifacts.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert artifact["type"] == "model"
        assert artifact["path"] in written | {"data/exports/winner/openvino"}


def test_the_costs_that_decide_are_exported_in_the_order_of_the_classes() -> None:
    matrix = {"warm": {"warm": 0.0, "cold": 1.0}, "cold": {"warm": 12.5, "cold": 0.0}}
    decided = {"measure": {"name": "cost", "matrix": matrix}}
    assert export._costs(export.Subject("winner", "a", {"classes": ["cold", "warm"]}, decided)) == ((0, 12.5), (1, 0))
    by_accuracy = {"measure": {"name": "accuracy"}}
    assert export._costs(export.Subject("winner", "a", {"classes": ["cold", "warm"]}, by_accuracy)) is None


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        ({"name": "cost", "matrix": {"cold": {"cold": 0.0, "warm": 12.5}, "warm": {"cold": 1.0, "warm": 0.0}}}, 0.5),
        ({"name": "accuracy"}, None),
    ],
)
def test_the_measure_that_decided_is_logged_of_each_form(
    decided: dict[str, Any], said: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    subject = export.Subject("winner", "a", {"classes": list(CLASSES)}, {"measure": decided})
    # Cold is decided for at any chance of it: of four images two are warm.
    probabilities = np.tile([0.2, 0.8] if CLASSES[0] == "cold" else [0.8, 0.2], (4, 1))
    found = Predictions(CLASSES, np.array([0, 1, 0, 1]), probabilities.argmax(axis=1), probabilities)
    with caplog.at_level("INFO"):
        export._report(subject, "keras", found)
    expected = [] if said is None else [f"a keras: mean cost {said:.3f}"]
    assert [record.getMessage() for record in caplog.records] == expected
