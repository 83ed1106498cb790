"""`python -m stages.predict` with a small exported classifier: the same probabilities, whatever images come in."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from stages.core import errors, params
from stages.core.dataset.resizing import resize_to_square
from stages.core.head import Head, Layer
from stages.core.manifest import Form, checksums, read_manifest, write_manifest
from stages.exports import exporting
from stages.networks import keras_engine
from stages.predict import __main__
from tests.support import tiny_export
from tests.support.archives import tarred, zipped
from tests.support.clone import ROOT, environment
from tests.support.tiny_export import CLASSES, SIDE, arrays
from tests.support.web import serve

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, keras.Model]:
    folder = tmp_path_factory.mktemp("predict") / "winner"
    return folder, tiny_export.write(folder)


@pytest.fixture
def project(exported, tmp_path: Path, monkeypatch) -> Path:
    """Return a folder to work in, with params.yaml and the export in its place."""
    (tmp_path / "data/exports").mkdir(parents=True)
    shutil.copytree(exported[0], tmp_path / "data/exports/winner")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    params.read.cache_clear()
    yield tmp_path
    params.read.cache_clear()


@pytest.fixture
def command(project: Path, monkeypatch, capsys) -> Command:
    """Return what calls the program; it gives back exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        code = 0
        try:
            errors.run(__main__.main)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return call


def program(folder: Path, *arguments: str, shell: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    command: Any = " ".join([sys.executable, *arguments]) if shell else [sys.executable, *arguments]
    apart = environment(folder) | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=apart, shell=shell, check=False, capture_output=True, text=True, encoding="utf-8"
    )


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def probabilities(found: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"p:{name}"]) for name in CLASSES] for row in found])


def png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


# What is said ---------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_keras_in_the_order_of_the_paths(command: Command, exported, project: Path) -> None:
    images = arrays(75, seed=3)
    tiny_export.save(project / "new", images)
    code, text, _ = command("new", "--format", "csv")
    assert code == 0
    found = rows(text)
    assert [row["path"] for row in found] == [f"new/{number:03}.png" for number in range(75)]
    expected = exported[1].predict(images, verbose=0)
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-5)
    assert [row["label"] for row in found] == [CLASSES[number] for number in expected.argmax(axis=1)]
    np.testing.assert_allclose([float(row["confidence"]) for row in found], expected.max(axis=1), atol=1e-5)


def test_by_costs_the_decision_stands_beside_the_most_probable_class(command: Command, project: Path) -> None:
    folder = project / "data/exports/winner"
    tiny_export.save(project / "new", arrays(8, seed=3))
    plain = rows(command("new", "--format", "csv")[1])
    assert "decision" not in plain[0]
    # Whatever the probabilities are, the second class costs nothing.
    write_manifest(folder, read_manifest(folder).model_copy(update={"costs": ((9.0, 0.0), (9.0, 0.0))}))
    decided = rows(command("new", "--format", "csv")[1])
    assert {row["decision"] for row in decided} == {CLASSES[1]}
    assert [row | {"decision": ""} for row in plain] == [row | {"decision": ""} for row in decided]


def test_costs_of_another_number_of_classes_are_a_damaged_manifest(command: Command, project: Path) -> None:
    folder = project / "data/exports/winner"
    tiny_export.save(project / "new", arrays(2, seed=3))
    write_manifest(folder, read_manifest(folder).model_copy(update={"costs": ((0.0,),)}))
    code, _, said = command("new")
    assert code == 1
    assert "is damaged (Value error, costs of other classes)" in said
    assert len(said.splitlines()) == 1


def test_images_are_made_square_as_those_of_the_training_were(command: Command, exported, project: Path) -> None:
    image = Image.fromarray(arrays(1, seed=4, side=90)[0][:40])
    image.save("wide.png")
    _, text, _ = command("wide.png", "--format", "csv")
    expected = exported[1].predict(resize_to_square(image, SIDE, "pad")[None], verbose=0)
    np.testing.assert_allclose(probabilities(rows(text)), expected, atol=1e-5)


def test_json_has_what_csv_has(command: Command, project: Path) -> None:
    tiny_export.save(project / "new", arrays(40, seed=3))
    found = rows(command("new", "--format", "csv")[1])
    listed = json.loads(command("new", "--format", "json")[1])
    assert [(one["path"], one["label"]) for one in listed] == [(row["path"], row["label"]) for row in found]
    assert [list(one["probabilities"]) for one in listed] == [list(CLASSES)] * 40
    assert [list(one["probabilities"].values()) for one in listed] == probabilities(found).tolist()
    assert [one["confidence"] for one in listed] == [max(one["probabilities"].values()) for one in listed]


def test_a_table_for_people_has_label_confidence_and_path(command: Command, project: Path) -> None:
    tiny_export.save(project / "new", arrays(2, seed=3))
    header, *lines = command("new")[1].splitlines()
    assert header.split() == ["label", "confidence", "path"]
    assert lines[0].startswith("blue sky ")
    assert [line.split()[-1] for line in lines] == ["new/000.png", "new/001.png"]


def test_the_order_of_sources_and_the_number_of_processes_change_no_byte(
    command: Command, project: Path, monkeypatch
) -> None:
    tiny_export.save(project / "one", arrays(50, seed=5))
    tiny_export.save(project / "other", arrays(20, seed=6))
    first = command("one", "other", "--format", "csv")[1]
    monkeypatch.setattr("stages.core.parallel.processors", lambda: 3)
    assert command("other", "one", "--format", "csv")[1] == first
    monkeypatch.setattr("stages.core.parallel.processors", lambda: 1)
    assert command("one", "other", "--format", "csv")[1] == first


# Where images come from ---------------------------------------------------------------------------------


def test_archives_give_what_their_folder_gives(command: Command, project: Path) -> None:
    images = {f"inside/{number}.png": png(image) for number, image in enumerate(arrays(12, seed=7))}
    for name, data in images.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_bytes(data)
    zipped(project / "a.zip", images)
    tarred(project / "a.tar.gz", images)
    expected = command("inside", "--format", "csv")[1]
    for name in ("a.zip", "a.tar.gz"):
        assert command(name, "--format", "csv")[1].replace(f"{name}/", "") == expected


def test_urls_of_images_and_of_archives_are_fetched(command: Command, project: Path) -> None:
    one, other = (png(image) for image in arrays(2, seed=8))
    with serve() as web:
        web.files = {"one.png": one, "a.zip": zipped(project / "a.zip", {"other.png": other}).read_bytes()}
        code, text, _ = command(f"{web.url}/one.png", f"{web.url}/a.zip", "--format", "csv")
    assert code == 0
    assert [row["path"] for row in rows(text)] == [f"{web.url}/a.zip/other.png", f"{web.url}/one.png"]
    assert [row["label"] for row in rows(text)] == [CLASSES[1], CLASSES[0]]


def test_a_list_of_names_may_hold_any_name(command: Command, project: Path) -> None:
    paths = tiny_export.save(project / "new", arrays(3, seed=9))
    odd = paths[1].rename(paths[1].with_name("a\nb.png"))
    gone = project / "new/gone.png"
    (project / "list").write_bytes(b"\0".join(os.fsencode(path) for path in (paths[2], gone, odd, paths[0])))
    code, text, said = command("--files0-from", "list", "--format", "csv")
    assert code == 0
    assert [Path(row["path"]).name for row in rows(text)] == ["000.png", "002.png", r"a\nb.png"]
    assert f"left out: {gone}: unreadable: No such file or directory" in said


def test_names_that_mean_harm_stay_one_field_of_one_line(command: Command, project: Path) -> None:
    names = ["new\nline.png", 'quo"te,comma.png', "\x1b[31mred.png", os.fsdecode(b"not\xffutf8.png"), "=1+1.png"]
    for name, image in zip(names, arrays(5, seed=10), strict=True):
        Path("new").mkdir(exist_ok=True)
        Path("new", name).write_bytes(png(image))
    Path("new", "bro\nken.png").write_bytes(b"no image")
    code, text, said = command("new", "--format", "csv")
    assert code == 0
    expected = {"new\\nline.png", 'quo"te,comma.png', "\\x1b[31mred.png", "not\\udcffutf8.png", "=1+1.png"}
    assert {row["path"].removeprefix("new/") for row in rows(text)} == expected
    assert len(text.splitlines()) == 6
    assert said.splitlines()[0].startswith(r"left out: new/bro\nken.png: not an image")
    assert {one["path"] for one in json.loads(command("new", "--format", "json")[1])} == {
        row["path"] for row in rows(text)
    }


# What is left out -----------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_left_out_with_its_reason(project: Path) -> None:
    good, *_ = tiny_export.save(project / "new", arrays(1, seed=11))
    (project / "new/cut.png").write_bytes(good.read_bytes()[:-200])
    (project / "new/notes.txt").write_text("notes")
    (project / "new/empty.png").touch()
    (project / "new/.hidden").touch()
    Image.new("RGB", (8, 8)).save(project / "new/small.png")
    done = program(project, "-m", "stages.predict", "new", "--format", "csv", "--rejects", "rejects.csv", "--output",
                   "found.csv")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "INFO 1 predicted, 5 left out\n"
    assert [row["path"] for row in rows(Path("found.csv").read_text())] == ["new/000.png"]
    left_out = {row["path"]: row["reason"].split(":")[0] for row in rows(Path("rejects.csv").read_text())}
    assert left_out == {
        "new/.hidden": "hidden", "new/cut.png": "broken", "new/empty.png": "empty file",
        "new/notes.txt": "not an image", "new/small.png": "too small",
    }  # fmt: skip


def test_without_any_image_it_fails_with_one_line_and_keeps_what_was_there(command: Command, project: Path) -> None:
    (project / "new").mkdir()
    (project / "new/notes.txt").write_text("notes")
    (project / "found.csv").write_text("of yesterday")
    code, text, said = command("new", "--output", "found.csv", "--rejects", "rejects.csv")
    assert (code, text) == (1, "")
    assert said.splitlines()[-1] == (
        "data: none of 1 files could be predicted, such as 'new/notes.txt' (not an image: in no known format, or its "
        "header is broken); expected an image that can be read; name others"
    )
    assert (project / "found.csv").read_text() == "of yesterday"
    assert [row["path"] for row in rows((project / "rejects.csv").read_text())] == ["new/notes.txt"]


def test_a_source_that_is_missing_or_refused_does_not_stop_the_others(command: Command, project: Path) -> None:
    tiny_export.save(project / "new", arrays(1, seed=11))
    with serve() as web:
        code, text, said = command("nowhere.zip", "new", f"{web.url}/missing.jpg", "--format", "csv")
    assert code == 0
    assert [row["path"] for row in rows(text)] == ["new/000.png"]
    assert [line for line in said.splitlines() if line.startswith("left out: ")] == [
        f"left out: {web.url}/missing.jpg: unreadable source: '{web.url}/missing.jpg' does not exist",
        "left out: nowhere.zip: unreadable source: 'nowhere.zip' does not exist",
    ]


def test_sources_none_of_which_can_be_read_fail_with_the_reason_of_one(command: Command, project: Path) -> None:
    reason = "unreadable source: 'nowhere' does not exist"
    code, text, said = command("nowhere")
    assert (code, text) == (1, "")
    assert said.splitlines() == [
        f"left out: nowhere: {reason}",
        "data: none of 1 files could be predicted; expected an image that can be read; name others",
    ]
    assert command("nowhere", "nor here")[2].splitlines()[-1] == (
        f"data: none of 2 files could be predicted, such as 'nor here' ({reason.replace('nowhere', 'nor here')}); "
        "expected an image that can be read; name others"
    )


# A user's mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "predict: no SOURCE; expected as in 'python -m stages.predict images/'; see"),
        (["new", "--format", "xml"], "predict: argument --format: invalid choice: 'xml'"),
        (["new", "--threads", "0"], "predict: argument --threads: '0' is not a whole number from 1 to 1024; expected"),
        (["new", "--threads", "many"], "predict: argument --threads: 'many' is not a whole number"),
        (["new", "--modl", "x"], "predict: unrecognized arguments: --modl x"),
        (["new", "--model", "nowhere"], "export: 'nowhere/manifest.json' cannot be read (No such file or directory)"),
        (["new", "--output", "new"], "predict: 'new' is a folder, no file to write; expected"),
        (["new", "--output", "new/000.png/x"], "predict: 'new/000.png/x' cannot be written ("),
        (["new", "--explain", "new"], "predict: --explain 'new' is not a new or empty folder; expected"),
        (["--files0-from", "nowhere"], "data: --files0-from 'nowhere' cannot be read (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_line(command: Command, project: Path, arguments: list[str], said: str) -> None:
    tiny_export.save(project / "new", arrays(1, seed=12))
    code, text, error = command(*arguments)
    assert (code, text) == (1, "")
    assert error.startswith(said), error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["openvino/model.xml", "openvino/model.bin", "model.keras", "reference.json"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:]])
def test_an_export_that_was_cut_or_altered_is_refused(command: Command, project: Path, name: str, damage) -> None:
    tiny_export.save(project / "new", arrays(1, seed=12))
    file = project / "data/exports/winner" / name
    file.write_bytes(damage(file.read_bytes()))
    code, text, error = command("new", "--drift", "--explain", "seen")
    assert (code, text) == (1, "")
    assert error.startswith(f"export: 'data/exports/winner/{name}' was truncated or altered")
    assert error.count("\n") == 1
    assert not Path("seen").exists()


# Beside predictions ---------------------------------------------------------------------------------------


def test_no_tensorflow_is_loaded(project: Path) -> None:
    tiny_export.save(project / "new", arrays(30, seed=13))
    code = (
        "import sys; from stages.predict.__main__ import main; sys.argv = ['predict', 'new', '--drift']; main();"
        "sys.exit(str({'tensorflow', 'keras'} & set(sys.modules) or 0))"
    )
    done = program(project, "-c", code)
    assert done.stderr.splitlines()[-1] == "0", done.stderr
    assert len(done.stdout.splitlines()) == 31


def test_a_reader_that_has_enough_ends_it_without_a_word(project: Path) -> None:
    tiny_export.save(project / "new", arrays(40, seed=13))
    done = program(project, "-m", "stages.predict new | head -n 1", shell=True)
    assert done.stdout.split() == ["label", "confidence", "path"]
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_overlays_are_written_for_every_image(command: Command, project: Path) -> None:
    tiny_export.save(project / "new", arrays(10, seed=14))
    code, text, _ = command("new", "--format", "csv", "--explain", "seen")
    assert code == 0
    index = rows(Path("seen/index.csv").read_text())
    assert [(row["path"], row["label"]) for row in index] == [(row["path"], row["label"]) for row in rows(text)]
    for row in index:
        with Image.open(Path("seen", row["overlay"])) as image:
            assert (image.format, image.size) == ("WEBP", (SIDE, SIDE))
    assert len(list(Path("seen").iterdir())) == 11


def test_heatmaps_are_those_of_the_gradients_of_keras(exported) -> None:
    images, labels = arrays(6, seed=15), np.array([0, 1, 1, 0, 1, 0])
    found = __main__.heatmaps_of(exported[0] / "model.keras", 1)(images, labels)
    backbone, head = (exported[1].get_layer(name) for name in ("backbone", "head"))
    below = keras.Model(backbone.input, backbone.get_layer("convolution_2").output)
    last = head.get_layer("probabilities")
    hidden = keras.Model(head.input, last.input)
    maps = tf.constant(below(images.astype(np.float32)))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        features = tf.reduce_mean(tf.nn.max_pool2d(maps, 2, 2, "VALID"), (1, 2))
        logits = hidden(features) @ last.kernel + last.bias
        evidence = tf.reduce_sum(logits * tf.one_hot(labels, 2))
    expected = np.maximum(tf.reduce_sum(tape.gradient(evidence, maps) * maps, -1), 0)
    assert (expected.max(axis=(1, 2)) > 0).any()
    largest = expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, expected / np.where(largest > 0, largest, 1), atol=1e-4)


def test_an_export_without_a_feature_map_is_not_explained(command: Command, project: Path) -> None:
    tiny_export.save(project / "new", arrays(1, seed=12))
    folder = project / "data/exports/winner"
    image = keras.Input((SIDE, SIDE, 3))
    pixels = keras.Model(image, keras.layers.Flatten()(image), name="backbone")
    last = Layer(np.zeros((SIDE * SIDE * 3, 2), np.float32), np.zeros(2, np.float32))
    keras_engine.save(exporting.joined(pixels, None, Head((last,))), folder / "model.keras")
    manifest = read_manifest(folder)
    form = Form(path="model.keras", files=checksums(folder, "model.keras"))
    write_manifest(folder, manifest.model_copy(update={"formats": manifest.formats | {"keras": form}}))
    code, text, error = command("new", "--explain", "seen")
    assert (code, text) == (1, "")
    assert error.splitlines()[-1].startswith("predict: --explain with a network that has no feature map; expected one")
    assert not Path("seen").exists()


@pytest.mark.parametrize("seed", range(20, 25))
def test_drift_is_said_of_other_images_alone(command: Command, project: Path, seed: int) -> None:
    images = arrays(60, seed=seed)
    tiny_export.save(project / "same", images)
    tiny_export.save(project / "other", 255 - images // 2)
    code, _, said = command("same", "--drift")
    assert code == 0
    assert "drift: none found: " in said
    code, _, said = command("other", "--drift")
    assert code == 0
    assert "drift: found: the images differ from those of its training: " in said


def test_a_reference_of_an_earlier_version_is_refused_in_one_line(command: Command, project: Path) -> None:
    tiny_export.save(project / "new", arrays(1, seed=12))
    folder = project / "data/exports/winner"
    known = json.loads((folder / "reference.json").read_text())
    del known["validation"]
    (folder / "reference.json").write_text(json.dumps(known | {"validation_images": 200, "confidences": [0.9]}))
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(values | {"reference": checksums(folder, "reference.json")}))
    code, _, error = command("new", "--drift")
    assert (code, error.count("\n")) == (1, 1)
    assert error == (
        "export: 'data/exports/winner/reference.json' is not a valid reference; expected that of this version; "
        "export again with 'dvc repro export'\n"
    )


def test_drift_needs_a_reference(command: Command, project: Path) -> None:
    tiny_export.save(project / "new", arrays(1, seed=12))
    path = project / "data/exports/winner/manifest.json"
    values = json.loads(path.read_text())
    del values["reference"]
    path.write_text(json.dumps(values))
    code, _, error = command("new", "--drift")
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith("export: 'data/exports/winner' without a reference")
    assert command("new")[0] == 0
