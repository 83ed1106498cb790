"""Stage explain on small networks that were never trained: what it writes, from real processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages import explain as stage
from stages import params as params_module
from stages import weights
from stages.errors import DataError, ParameterError
from stages.files import read_csv, read_json, write_csv, write_json
from stages.images.prepared import SPLITS, read_index
from stages.models import heads, keras_engine
from stages.models.backbones import resolve
from stages.models.engine import Choice
from stages.models.extraction import forward
from stages.models.inputs import Inputs
from stages.models.weights import Origin, random
from tests.clone import Done, environment

ROOT = Path(__file__).parents[1]
SIDE, CLASSES = 32, ["<b>NA</b>", "001", "ñandú"]
LINES = {
    "frozen": {"builder": "mobilenet_v3_small"},
    "partly": {"builder": "mobilenet_v3_small", "unfreeze": {"blocks": 1, "epochs": 1}},
    "scratch": {"arguments": {"filters": [4, 8]}, "unfreeze": {"blocks": "all", "epochs": 1}},
    "pixels": {"builder": "scratch", "arguments": {"filters": []}, "unfreeze": {"blocks": "all", "epochs": 1}},
}  # fmt: skip
TEST_PICTURES = 24
# The surest right and wrong ones; on the map two of three pictures of each class.
EXAMPLES, MAPPED = 3, 18
# What a user's other settings must not change, and what is measured here.
APART = {"PYTHONPATH": str(ROOT), **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}}


def prepare(root: Path) -> pd.DataFrame:
    """Write data/prepared: smooth pictures of three classes, and views of those for training; return the index."""
    draw, rows = np.random.default_rng(0), []
    for split in SPLITS:
        coarse = draw.integers(0, 256, (TEST_PICTURES, 4, 4, 3)).astype(np.uint8)
        (root / str(SIDE)).mkdir(parents=True, exist_ok=True)
        np.save(root / f"{SIDE}/{split}.npy", coarse.repeat(8, axis=1).repeat(8, axis=2))
        labels = [CLASSES[number % 3] for number in range(TEST_PICTURES)]
        rows += [(split, row, f"{label}/{split}{row:02}.jpg", label, 0, -1) for row, label in enumerate(labels)]
    index = pd.DataFrame(rows, columns=["split", "row", "file", "label", "view", "fold"])
    write_csv(root / "index.csv", index)
    write_json(root / "classes.json", {"classes": CLASSES})
    return index


def configure(root: Path, **explain: int) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["preprocess"]["sizes"] = [SIDE]
    params["finetune"]["head"] |= {"units": [8]}
    params["explain"] = {"examples": EXAMPLES, "map_pictures": MAPPED} | explain
    params["backbones"] = LINES
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for name in LINES:
        write_json(root / f"data/candidates/{name}.json", {"finetune": True})


def make(root: Path, name: str, index: pd.DataFrame) -> None:
    """Write what stages weights, features and finetune would of a network with random weights."""
    keras.utils.set_random_seed(5)
    backbone = resolve(name, params_module.read(root / "params.yaml"))
    network, folder = random(backbone), root / "data/weights" / name
    folder.mkdir(parents=True)
    weights.write(folder, network, backbone, Origin("random"))
    width = network.output.shape[-1]
    pictures = {split: np.load(root / f"data/prepared/{SIDE}/{split}.npy") for split in SPLITS}
    # Called, not predicted: to trace a network for a few pictures takes longer.
    frozen = np.asarray(network(pictures["train"].astype(np.float32), training=False))
    head = heads.build(backbone.head, width, len(CLASSES), (frozen.mean(axis=0), frozen.var(axis=0) + 1e-12))
    model = keras.Model(network.input, head(network(network.input)), name="classifier")
    write_features(root / "data/features" / name, folder, pictures)
    (root / "data/models" / name).mkdir(parents=True)
    keras_engine.save(model, root / f"data/models/{name}/model.keras")
    found = {split: np.asarray(model(pictures[split].astype(np.float32), training=False)) for split in SPLITS[1:]}
    tables = [index.loc[index["split"] == split, ["split", "file", "label"]] for split in found]
    probabilities = np.concatenate(list(found.values()))
    table = pd.concat(tables, ignore_index=True).assign(predicted=np.array(CLASSES)[probabilities.argmax(axis=1)])
    columns = pd.DataFrame(probabilities, columns=[f"p:{label}" for label in CLASSES])
    write_csv(root / f"data/models/{name}/predictions.csv", pd.concat([table, columns], axis=1))


def write_features(folder: Path, weights_folder: Path, pictures: dict[str, np.ndarray]) -> None:
    """Write the frozen part's features; the activations below the cut are computed anew."""
    folder.mkdir(parents=True)
    facts = read_json(weights_folder / "backbone.json")
    if not facts["frozen"]:
        write_json(folder / "features.json", {"engine": "none", "precision": "float32"})
        return
    choice = Choice("openvino", "float32", 1)
    for split, shown in pictures.items():
        np.save(folder / f"{split}.npy", forward(weights_folder, choice, "features")(shown)["features"])
    write_json(folder / "features.json", vars(choice) | {"cut": "anew" if facts["cut"] else "none", "cut_scale": 1.0})


def explain(root: Path, name: str) -> Done:
    """Run the stage as DVC does."""
    command = [sys.executable, "-m", "stages.explain", name]
    done = subprocess.run(command, cwd=root, env=environment(root) | APART, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> tuple[Path, dict[str, Done]]:
    """Return a project whose networks are explained, and what each process said."""
    root = tmp_path_factory.mktemp("explained")
    index = prepare(root / "data/prepared")
    configure(root)
    for name in LINES:
        make(root, name, index)
    return root, {name: explain(root, name) for name in LINES}


def examples(root: Path, name: str) -> pd.DataFrame:
    return read_csv(root / f"data/explanations/{name}/examples.csv", text=("file", "label", "predicted", "overlay"))


def embedding(root: Path, name: str) -> pd.DataFrame:
    return read_csv(root / f"data/explanations/{name}/embedding.csv", text=("file", "label"))


def part(root: Path, name: str) -> pd.DataFrame:
    table = read_csv(root / f"data/models/{name}/predictions.csv", text=("split", "file", "label", "predicted"))
    return table[table["split"] == "test"].set_index("file")


@pytest.mark.parametrize("name", LINES)
def test_examples_are_predictions_of_the_test_part_with_their_confidence(explained, name: str) -> None:
    root, done = explained
    assert done[name].code == 0, done[name].errors
    table, test = examples(root, name), part(root, name)
    assert list(table) == ["file", "label", "predicted", "confidence", "right", "picture", "overlay"]
    found = test.loc[table["file"]]
    assert table["predicted"].tolist() == found["predicted"].tolist()
    assert table["right"].tolist() == (found["label"] == found["predicted"]).tolist()
    np.testing.assert_allclose(table["confidence"], found.filter(like="p:").max(axis=1), rtol=1e-6)
    expected = (test["label"] == test["predicted"]).value_counts().clip(upper=EXAMPLES)
    assert table["right"].value_counts().to_dict() == expected.to_dict()


@pytest.mark.parametrize("name", LINES)
def test_the_table_names_every_picture_there_is(explained, name: str) -> None:
    root, _ = explained
    folder, table = root / f"data/explanations/{name}", examples(root, name)
    names = {*table["picture"], *table["overlay"]} - {""}
    assert {path.name for path in folder.iterdir()} == names | {"examples.csv", "embedding.csv"}
    assert len(names) == len(table) * (1 if name == "pixels" else 2)


@pytest.mark.parametrize("name", LINES)
def test_a_picture_is_the_one_that_the_table_says(explained, name: str) -> None:
    root, _ = explained
    shown = np.load(root / f"data/prepared/{SIDE}/test.npy")
    for file, picture in examples(root, name)[["file", "picture"]].to_numpy():
        with Image.open(root / f"data/explanations/{name}/{picture}") as read:
            found = np.asarray(read.convert("RGB"), dtype=int)
        distances = np.abs(shown.astype(int) - found).mean(axis=(1, 2, 3))
        assert f"{distances.argmin():02}.jpg" == file[-6:]


@pytest.mark.parametrize("name", ["frozen", "partly", "scratch"])
def test_overlays_have_colour_where_something_speaks_for_the_class(explained, name: str) -> None:
    root, _ = explained
    saturation = []
    for overlay in examples(root, name)["overlay"]:
        with Image.open(root / f"data/explanations/{name}/{overlay}") as read:
            saturation.append(np.asarray(read.convert("HSV"), dtype=int)[:, :, 1])
    # For a class of a network that was never trained nothing may speak in any place.
    assert any(found.max() > found.min() + 50 for found in saturation)


def test_a_network_without_a_feature_map_says_so_and_has_no_overlays(explained) -> None:
    root, done = explained
    assert "pixels: the network has no feature map, so its examples have no overlay" in done["pixels"].errors
    assert set(examples(root, "pixels")["overlay"]) == {""}


@pytest.mark.parametrize("name", LINES)
def test_the_map_has_the_same_share_of_the_test_pictures_of_each_class(explained, name: str) -> None:
    root, done = explained
    table = embedding(root, name)
    assert list(table) == ["file", "label", "x", "y"]
    assert table["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, MAPPED // 3)
    assert table["label"].tolist() == part(root, name).loc[table["file"], "label"].tolist()
    assert table[["x", "y"]].nunique().tolist() == [MAPPED, MAPPED]
    assert f"{name}: {MAPPED} of {TEST_PICTURES} test pictures are on the map" in done[name].errors


@pytest.mark.parametrize("name", LINES)
def test_the_map_is_made_of_what_the_head_is_given(explained, name: str) -> None:
    root, _ = explained
    params = params_module.read(root / "params.yaml")
    places = np.array([7, 2])
    inputs = Inputs(
        resolve(name, params), root / "data/weights" / name, root / "data/features" / name, root / "data/prepared",
        read_index(root / "data/prepared"), CLASSES, 1,
    )  # fmt: skip
    backbone = keras_engine.load(root / f"data/models/{name}/model.keras").get_layer("backbone")
    expected = backbone(np.load(root / f"data/prepared/{SIDE}/test.npy")[places].astype(np.float32), training=False)
    found = stage._features(backbone, inputs)(places)
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_another_process_writes_the_same_bytes(explained) -> None:
    root, _ = explained
    folder = root / "data/explanations/frozen"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert explain(root, "frozen").code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_examples_there_is_the_same_map_alone(explained) -> None:
    root, _ = explained
    before = embedding(root, "scratch")
    configure(root, examples=0)
    assert explain(root, "scratch").code == 0
    folder = root / "data/explanations/scratch"
    assert {path.name for path in folder.iterdir()} == {"examples.csv", "embedding.csv"}
    assert examples(root, "scratch").empty
    pd.testing.assert_frame_equal(embedding(root, "scratch"), before, rtol=0, atol=0)


@pytest.fixture
def project(explained, tmp_path, monkeypatch) -> Path:
    """Work in a copy of the tables, asked to explain the backbone `frozen`."""
    root, _ = explained
    shutil.copytree(root / "data/prepared", tmp_path / "data/prepared")
    shutil.copytree(root / "data/models/frozen", tmp_path / "data/models/frozen")
    configure(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["explain", "frozen"])
    params_module.read.cache_clear()
    return tmp_path


def test_a_backbone_that_was_not_trained_is_one_line(project: Path) -> None:
    (project / "data/models/frozen/predictions.csv").unlink()
    with pytest.raises(DataError, match=r"no data/models/frozen/predictions.csv; .* run 'dvc repro finetune@frozen'"):
        stage.main()


def test_predictions_for_other_pictures_are_one_line(project: Path) -> None:
    index = read_csv(project / "data/prepared/index.csv", text=("split", "file", "label"))
    write_csv(project / "data/prepared/index.csv", index.replace(f"{CLASSES[0]}/test00.jpg", "another.jpg"))
    with pytest.raises(DataError, match="predictions of 'frozen' for other pictures; expected those of data/prepared"):
        stage.main()


def test_a_backbone_that_is_not_declared_is_one_line(project: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["explain", "frozn"])
    with pytest.raises(ParameterError, match=r"explain of backbone 'frozn'; .* did you mean 'frozen'"):
        stage.main()


def test_a_backbone_that_is_no_candidate_has_empty_tables(project: Path) -> None:
    write_json(project / "data/candidates/frozen.json", {"finetune": False})
    stage.main()
    written = {path.name: path.read_bytes() for path in (project / "data/explanations/frozen").iterdir()}
    assert written == {"examples.csv": b"", "embedding.csv": b""}
