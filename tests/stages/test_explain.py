"""Stage explain on small networks that were never trained: what it writes and says, here and as DVC runs it."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from logging.handlers import BufferingHandler
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from stages import explain as stage
from stages import weights
from stages.core import head
from stages.core import params as params_module
from stages.core.dataset.prepared import SPLITS
from stages.core.errors import DataError, ParameterError
from stages.core.files import read_csv, read_json, write_csv, write_json
from stages.core.settings.backbones import Network
from stages.networks import architectures, keras_engine
from stages.networks.engine import Choice
from stages.networks.extraction import forward
from stages.networks.origin import Origin
from stages.networks.pretrained import random
from tests.support.clone import environment

ROOT = Path(__file__).parents[2]
SIDE, CLASSES = 32, ["001", "<b>NA</b>", "ñandú"]
# Builder, arguments, and the tensor that the trained blocks start from.
NETWORKS = {
    "frozen": ("VGG16", {}, None),
    "partly": ("VGG16", {}, "block_1"),
    "scratch": ("scratch", {"filters": [4, 8]}, "image"),
    "pixels": ("scratch", {"filters": []}, "image"),
}
# What their features say that they were computed in.
PRECISIONS = {"frozen": "float32", "partly": "bfloat16", "scratch": "float32", "pixels": "float32"}
TEST_IMAGES = 24
TABLES = {"examples.csv", "embedding.csv", "precision.json"}
# The most confident right and wrong ones; on the map two of three images of each class.
EXAMPLES, MAPPED = 3, 18
# What a user's other settings must not change, and what is measured here.
APART = {"PYTHONPATH": str(ROOT), **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}}


def prepare(root: Path) -> pd.DataFrame:
    """Write data/prepared, smooth images of three classes; return the index."""
    draw, rows = np.random.default_rng(0), []
    for split in SPLITS:
        coarse = draw.integers(0, 256, (TEST_IMAGES, 4, 4, 3)).astype(np.uint8)
        (root / str(SIDE)).mkdir(parents=True, exist_ok=True)
        np.save(root / f"{SIDE}/{split}.npy", coarse.repeat(8, axis=1).repeat(8, axis=2))
        labels = [CLASSES[number % 3] for number in range(TEST_IMAGES)]
        rows += [(split, row, f"{label}/{split}{row:02}.jpg", label, -1) for row, label in enumerate(labels)]
    index = pd.DataFrame(rows, columns=["split", "row", "file", "label", "fold"])
    write_csv(root / "index.csv", index)
    return index


def configure(root: Path, **explain: int) -> None:
    recipe = {"seed": 20, "threads": 2, "examples": EXAMPLES, "map_images": MAPPED} | explain
    for name in NETWORKS:
        write_json(root / f"data/recipes/{name}/explain.json", recipe)
    params = {"backbones": {name: {} for name in NETWORKS}}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def make(root: Path, name: str, index: pd.DataFrame) -> None:
    """Write what stages weights, features and finetune would of a network with random weights."""
    keras.utils.set_random_seed(5)
    builder, arguments, start = NETWORKS[name]
    declared = Network(
        name=name, builder=builder, input_size=SIDE, pooling="flatten", weights="random", checksum=None, inputs="raw",
        arguments=arguments,
    )  # fmt: skip
    network, folder = random(declared), root / "data/weights" / name
    weights.write(folder, network, declared, Origin("none" if start == "image" else "random"))
    images = {split: np.load(root / f"data/prepared/{SIDE}/{split}.npy") for split in SPLITS}
    write_features(root / "data/features" / name, folder, images if start is None else {}, PRECISIONS[name])
    model = root / "data/models" / name
    model.mkdir(parents=True)
    if start:
        changed(network)
        keras_engine.save(architectures.top(network, start), model / "top.keras")
    write_json(model / "provenance.json", {"top": start and {"input": start}})
    # Called, not predicted: to trace a network for a few images takes longer.
    features = {split: np.asarray(network(images[split].astype(np.float32), training=False)) for split in SPLITS}
    write_predictions(model, index, features, head_for(features["train"], () if start is None else (8,)))


def changed(network: keras.Model) -> None:
    """Change the last weights, as training does."""
    weighted = [layer for layer in network.layers if layer.weights]
    for layer in weighted[-1:]:
        layer.set_weights([values * 1.5 + 0.01 for values in layer.get_weights()])


def head_for(features: np.ndarray, units: tuple[int, ...]) -> head.Head:
    draw, widths = np.random.default_rng(3), (features.shape[1], *units, len(CLASSES))
    kernels = [(draw.normal(size=shape) * 3 / np.sqrt(shape[0])).astype(np.float32) for shape in pairwise(widths)]
    layers = [head.Layer(kernel, np.zeros(kernel.shape[1], np.float32), "relu") for kernel in kernels[:-1]]
    last = head.Layer(kernels[-1], np.zeros(len(CLASSES), np.float32))
    return head.Head((*layers, last), (features.mean(axis=0), features.std(axis=0) + features.std()))


def write_predictions(model: Path, index: pd.DataFrame, features: dict[str, np.ndarray], kept: head.Head) -> None:
    head.save(kept, model / "head.npz")
    tables = [index.loc[index["split"] == split, ["split", "file", "label"]] for split in SPLITS]
    probabilities = np.concatenate([kept.probabilities(features[split]) for split in SPLITS])
    table = pd.concat(tables, ignore_index=True).assign(predicted=np.array(CLASSES)[probabilities.argmax(axis=1)])
    columns = pd.DataFrame(probabilities, columns=[f"p:{label}" for label in CLASSES])
    write_csv(model / "predictions.csv", pd.concat([table, columns], axis=1))


def write_features(folder: Path, weights_folder: Path, images: dict[str, np.ndarray], precision: str) -> None:
    """Write what explain reads of the features, in float32 whatever `precision` says."""
    folder.mkdir(parents=True)
    choice = Choice("openvino", "float32", 1)
    for split, shown in images.items():
        np.save(folder / f"{split}.npy", forward(weights_folder, choice, ("features",))(shown)["features"])
    write_json(folder / "features.json", vars(choice) | {"precision": precision})


def explain(root: Path, name: str) -> list[str]:
    """Run the stage in this process, where Keras is loaded; return what it logs."""
    params_module.read.cache_clear()
    heard, logger = BufferingHandler(100), logging.getLogger("stages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "argv", ["explain", name])
        patch.setattr(logger, "level", logging.INFO)
        patch.setattr(logger, "handlers", [heard])
        stage.main()
    return [record.getMessage() for record in heard.buffer]


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> Iterator[tuple[Path, dict[str, list[str]]]]:
    """Return a project whose networks are explained, and what was logged about each."""
    root = tmp_path_factory.mktemp("explained")
    index = prepare(root / "data/prepared")
    configure(root)
    for name in NETWORKS:
        make(root, name, index)
    yield root, {name: explain(root, name) for name in NETWORKS}
    params_module.read.cache_clear()


def examples(root: Path, name: str) -> pd.DataFrame:
    return read_csv(root / f"data/explanations/{name}/examples.csv", text=("file", "label", "predicted", "overlay"))


def embedding(root: Path, name: str) -> pd.DataFrame:
    return read_csv(root / f"data/explanations/{name}/embedding.csv", text=("file", "label"))


def part(root: Path, name: str) -> pd.DataFrame:
    table = read_csv(root / f"data/models/{name}/predictions.csv", text=("split", "file", "label", "predicted"))
    return table[table["split"] == "test"].set_index("file")


@pytest.mark.parametrize("name", NETWORKS)
def test_examples_are_predictions_of_the_test_part_with_their_confidence(explained, name: str) -> None:
    root, _ = explained
    table, test = examples(root, name), part(root, name)
    assert list(table) == ["file", "label", "predicted", "confidence", "right", "image", "overlay"]
    found = test.loc[table["file"]]
    assert table["predicted"].tolist() == found["predicted"].tolist()
    assert table["right"].tolist() == (found["label"] == found["predicted"]).tolist()
    np.testing.assert_allclose(table["confidence"], found.filter(like="p:").max(axis=1), rtol=1e-6)
    expected = (test["label"] == test["predicted"]).value_counts().clip(upper=EXAMPLES)
    assert table["right"].value_counts().to_dict() == expected.to_dict()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_names_every_image_there_is(explained, name: str) -> None:
    root, _ = explained
    folder, table = root / f"data/explanations/{name}", examples(root, name)
    names = {*table["image"], *table["overlay"]} - {""}
    assert {path.name for path in folder.iterdir()} == names | TABLES
    assert len(names) == len(table) * (1 if name == "pixels" else 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_is_the_one_that_the_table_says(explained, name: str) -> None:
    root, _ = explained
    shown = np.load(root / f"data/prepared/{SIDE}/test.npy")
    for file, image in examples(root, name)[["file", "image"]].to_numpy():
        with Image.open(root / f"data/explanations/{name}/{image}") as read:
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
    root, said = explained
    assert "pixels: the network has no feature map, so its examples have no heatmaps" in said["pixels"]
    assert set(examples(root, "pixels")["overlay"]) == {""}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_map_has_the_same_share_of_the_test_images_of_each_class(explained, name: str) -> None:
    root, said = explained
    table = embedding(root, name)
    assert list(table) == ["file", "label", "x", "y"]
    assert table["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, MAPPED // 3)
    assert table["label"].tolist() == part(root, name).loc[table["file"], "label"].tolist()
    assert table[["x", "y"]].nunique().tolist() == [MAPPED, MAPPED]
    assert f"{name}: {MAPPED} of {TEST_IMAGES} test images are on the map" in said[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_map_is_made_of_what_the_head_is_given(explained, monkeypatch, name: str) -> None:
    root, _ = explained
    monkeypatch.chdir(root)
    network, tested = classifier(name)
    rows = tested.index.iloc[[7, 2]]
    found = stage.features_of(network, tested, Path("data/features") / name, rows)
    # The classes of the head are those of the predictions, which were made by Keras.
    expected = part(root, name).loc[rows["file"]].filter(like="p:")
    np.testing.assert_allclose(network.head.probabilities(found), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["frozen", "partly", "scratch"])
def test_features_of_the_head_follow_from_the_map_that_is_explained(explained, monkeypatch, name: str) -> None:
    root, _ = explained
    monkeypatch.chdir(root)
    network, tested = classifier(name)
    images = np.load(tested.images)[:3]
    found = network.forward(images)
    assert network.tail[0]["kind"] == "max_pooling"
    side = found["map"].shape[1] // 2
    pooled = found["map"].reshape(3, side, 2, side, 2, -1).max(axis=(2, 4))
    np.testing.assert_allclose(pooled.reshape(3, -1), found["features"], rtol=1e-5)


@cache
def classifier(name: str) -> tuple[stage.Network, stage.Tested]:
    model = Path("data/models") / name
    tested = stage.read_tested(name, Path("data/prepared"), SIDE, model)
    return stage.read_network(Path("data/weights") / name, model, 1), tested


@pytest.mark.parametrize("name", NETWORKS)
def test_only_what_is_made_of_a_reduced_precision_is_predicted_once_more(explained, name: str) -> None:
    root, _ = explained
    found = read_json(root / f"data/explanations/{name}/precision.json")
    # They were predicted in float32, whatever the features say.
    images = TEST_IMAGES if name == "partly" else 0
    assert found == {"precision": PRECISIONS[name], "images": images, "differing": 0, "right": 0}


def test_answers_that_are_others_in_float32_are_counted(explained, monkeypatch) -> None:
    root, _ = explained
    monkeypatch.chdir(root)
    network, tested = classifier("frozen")
    images, weights_folder = np.load(tested.images), Path("data/weights/frozen")
    exact, reduced = (
        forward(weights_folder, Choice(*how, 1), ("features",))(images)["features"]
        for how in (("openvino", "float32"), ("tensorflow", "bfloat16"))
    )
    labels = tested.codes(tested.predicted["label"])
    # In bfloat16 one answer is wrong that is right in float32, and three are right that are not.
    in_bfloat16, in_float32 = (labels + np.isin(np.arange(TEST_IMAGES), places) for places in ([5], [3, 7, 11]))
    kernel = np.linalg.lstsq(
        np.concatenate([exact, reduced]).astype(float), np.eye(3)[np.concatenate([in_float32, in_bfloat16]) % 3]
    )[0]
    fitted = head.Head((head.Layer(kernel.astype(np.float32), np.zeros(3, np.float32)),))
    answers = np.array(CLASSES)[fitted.probabilities(reduced).argmax(axis=1)]
    evaluated = replace(tested, predicted=tested.predicted.assign(predicted=answers))
    network = replace(network, head=fitted)
    found = stage.compare_precision(network, evaluated, "bfloat16")
    assert found == {"precision": "bfloat16", "images": TEST_IMAGES, "differing": 4, "right": 2}
    nothing = {"precision": "float32", "images": 0, "differing": 0, "right": 0}
    assert stage.compare_precision(network, evaluated, "float32") == nothing
    assert stage.compare_precision(replace(network, start="image"), evaluated, "bfloat16") == nothing


@pytest.mark.parametrize(
    ("count", "most", "places"), [(3, 200, [0, 1, 2]), (7, 3, [0, 2, 4]), (8, 4, [0, 2, 4, 6]), (1, 1, [0])]
)
def test_images_that_are_predicted_once_more_are_evenly_spread(count: int, most: int, places: list[int]) -> None:
    assert stage.evenly_spaced(count, most).tolist() == places


def test_what_was_not_trained_is_explained_without_tensorflow(explained) -> None:
    root, _ = explained
    code = "import sys; from stages.explain import main; main(); print({'tensorflow', 'keras'} & set(sys.modules))"
    command = [sys.executable, "-c", code, "frozen"]
    done = subprocess.run(command, cwd=root, env=environment(root) | APART, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_another_process_writes_the_same_bytes(explained) -> None:
    root, _ = explained
    folder = root / "data/explanations/frozen"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = [sys.executable, "-m", "stages.explain", "frozen"]
    subprocess.run(command, cwd=root, env=environment(root) | APART, check=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_examples_there_is_the_same_map_alone(explained) -> None:
    root, _ = explained
    before = embedding(root, "scratch")
    configure(root, examples=0)
    explain(root, "scratch")
    folder = root / "data/explanations/scratch"
    assert {path.name for path in folder.iterdir()} == TABLES
    assert examples(root, "scratch").empty
    pd.testing.assert_frame_equal(embedding(root, "scratch"), before, rtol=0, atol=0)


@pytest.fixture
def project(explained, tmp_path, monkeypatch) -> Path:
    """Work in a copy of the tables, asked to explain the backbone `frozen`."""
    root, _ = explained
    shutil.copytree(root / "data/prepared", tmp_path / "data/prepared")
    shutil.copytree(root / "data/models/frozen", tmp_path / "data/models/frozen")
    (tmp_path / "data/weights/frozen").mkdir(parents=True)
    shutil.copy(root / "data/weights/frozen/backbone.json", tmp_path / "data/weights/frozen")
    configure(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["explain", "frozen"])
    params_module.read.cache_clear()
    return tmp_path


def test_a_backbone_that_was_not_trained_is_one_line(project: Path) -> None:
    (project / "data/models/frozen/predictions.csv").unlink()
    with pytest.raises(DataError, match=r"no data/models/frozen/predictions.csv; .* run 'dvc repro finetune@frozen'"):
        stage.main()


def test_predictions_for_other_images_are_one_line(project: Path) -> None:
    index = read_csv(project / "data/prepared/index.csv", text=("split", "file", "label"))
    write_csv(project / "data/prepared/index.csv", index.replace(f"{CLASSES[0]}/test00.jpg", "another.jpg"))
    with pytest.raises(DataError, match="predictions of 'frozen' for other images; expected those of data/prepared"):
        stage.main()


def test_a_backbone_that_is_not_declared_is_one_line(project: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["explain", "frozn"])
    with pytest.raises(ParameterError, match=r"explain of backbone 'frozn'; .* did you mean 'frozen'"):
        stage.main()
