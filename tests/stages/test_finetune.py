"""Stages unfreeze and finetune: more than the linear head for candidates, and what validation prefers is kept."""

import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import yaml

from stages import features, finetune, probe, unfreeze, views, weights
from stages.core import head
from stages.core import params as parameters
from stages.core.errors import ParameterError
from stages.core.files import read_csv, read_json, write_csv, write_json
from stages.core.measure import Measure
from stages.core.settings.recipes import FinetuneRecipe, UnfreezeRecipe, WeightsRecipe, read_recipe, write_recipes
from stages.core.shares import trainings
from stages.exports import exporting
from stages.networks import architectures, engine, keras_engine
from stages.networks.origin import Origin
from stages.training.attempts import Attempt, Kind, kept, validation_losses
from stages.training.inputs import BOTH, TrainingData
from tests.support.tiny_backbone import CLASSES, COUNTS, FOLDS, SIDE, WIDTH, prepare, write_weights

ROOT = Path(__file__).parents[2]
TINY = {"builder": "mobilenet_v3_small", "unfreeze": {"blocks": 0}}
DENSE = {"units": [8], "choose": "declared"}
LINES: dict[str, dict[str, Any]] = {
    "linear": TINY,
    # No candidate.
    "left": TINY | {"head": DENSE, "unfreeze": {"blocks": 1}},
    "dense": TINY | {"head": DENSE},
    # Like the one before, but with what a search has chosen.
    "tuned": TINY | {"head": DENSE, "repeats": 1},
    "top": TINY | {"head": {"choose": "declared"}, "unfreeze": {"blocks": 1, "epochs": 2, "repeats": 2}},
    "all": TINY | {"head": {"units": [8]}, "repeats": 1, "unfreeze": {"blocks": "all", "epochs": 3, "minutes": 1e-6}},
    "scratch": {"arguments": {"filters": [4, 8]}, "head": {"units": [8], "pooling": "flatten", "dropout": 0.0},
                "unfreeze": {"epochs": 5, "learning_rate": 0.01, "repeats": 2}},
}  # fmt: skip
# Whoever is no candidate and has no frozen features is trained all the same.
LEFT = ("left", "scratch")
UNTRAINED = ("linear", "left")
TUNED = {"units": [4], "views": 0}
TRAINED = ("dense", "top", "scratch")
TEXT = ("split", "file", "label", "predicted", "head")
P = ["p:cold", "p:warm"]
FILES = {
    "head.npz", "predictions.csv", "heads.csv", "history.csv", "repeats.csv", "shares.csv", "folds.csv", "baseline.csv",
    "provenance.json", "architecture/architecture.json",
}  # fmt: skip
TOP = {"top.keras", "architecture/top.xml", "architecture/top.bin"}


def configure(repeats: int, shares: list[float]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["preprocess"] |= {"sizes": [SIDE], "views": 1}
    params["features"] |= {"engine": "openvino", "precision": "float32"}
    params["finetune"] |= {"epochs": 3, "batch_size": 8, "repeats": repeats}
    params["finetune"] |= {"training_shares": shares, "training_draws": 2}
    params["finetune"]["optimizer"]["learning_rate"] = 0.05
    params["backbones"] = LINES
    Path("params.yaml").write_text(yaml.safe_dump(params))
    parameters.read.cache_clear()
    write_recipes(params)


def write_networks() -> None:
    """Write what stage weights writes: a network for all lines but one, whose network is not pretrained."""
    write_weights(Path("data/weights/linear"))
    facts = read_json(Path("data/weights/linear/backbone.json"))
    for name in set(LINES) - {"linear", "scratch"}:
        shutil.copytree("data/weights/linear", f"data/weights/{name}")
        write_json(Path(f"data/weights/{name}/backbone.json"), facts | {"backbone": name})
    scratch = read_recipe(WeightsRecipe, "scratch").network
    weights.write(Path("data/weights/scratch"), architectures.build(scratch, None), scratch, Origin("none"))


@contextmanager
def project(root: Path, folds: int, repeats: int, shares: list[float]) -> Iterator[Callable[[ModuleType, str], None]]:
    """Work in `root`, where what comes before the stages of a backbone is ready; give what runs a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        configure(repeats, shares)
        if not Path("data/weights").exists():
            write_networks()
        prepare(Path("data/prepared"), folds)
        for name in LINES:
            write_json(Path(f"data/candidates/{name}.json"), {"finetune": name not in LEFT})
            write_json(Path(f"data/tuning/{name}/chosen.json"), {"values": TUNED if name == "tuned" else {}})
        # Threads can be set once in a process: the set-up itself is tested by the whole graph.
        patch.setattr(keras_engine, "make_deterministic", lambda seed, _: keras.utils.set_random_seed(seed))

        def stage(module: ModuleType, name: str) -> None:
            patch.setattr(sys, "argv", [module.__name__, name])
            module.main()

        yield stage


@pytest.fixture(scope="module", autouse=True)
def _generator_of_its_own() -> Iterator[None]:
    """Give Keras a generator of seeds that no thread of another test, such as those of Prefect, draws from."""
    own = random.Random()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras.src.utils.rng_utils.random", own)
        patch.setattr("keras.src.random.seed_generator.python_random", own)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run the stages for each line of LINES, once, in a folder of their own; without folds."""
    root = tmp_path_factory.mktemp("graph")
    with project(root, 0, 2, [0.5]) as stage:
        for name in LINES:
            for module in (features, probe, *([] if name in ("linear", "top") else [views])):
                stage(module, name)
        run_without_tensorflow(root)
        for name in set(LINES) - set(UNTRAINED):
            stage(unfreeze, name)
            stage(finetune, name)
    yield root
    parameters.read.cache_clear()


def run_without_tensorflow(root: Path) -> None:
    """Run the stages, in a process of its own, where nothing is trained; note which libraries that takes."""
    program = """
import sys
from stages import finetune, unfreeze
for name in sys.argv[1:]:
    sys.argv = ["stage", name]
    unfreeze.main()
    finetune.main()
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *UNTRAINED],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    (root / "modules.txt").write_text(done.stdout)


@pytest.fixture(scope="module")
def folded(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run the stages again, with the same images in folds, and neither repeats nor shares."""
    root = tmp_path_factory.mktemp("folds")
    shutil.copytree(finished / "data/weights", root / "data/weights")
    with project(root, FOLDS, 1, []) as stage:
        for name in ("linear", *TRAINED):
            for module in (features, probe, *([] if name in ("linear", "top") else [views]), unfreeze, finetune):
                stage(module, name)
    yield root
    parameters.read.cache_clear()


def read(root: Path, name: str, table: str) -> pd.DataFrame:
    return read_csv(root / f"data/models/{name}/{table}.csv", text=TEXT)


def provenance(root: Path, name: str) -> dict[str, Any]:
    return read_json(root / f"data/models/{name}/provenance.json")


def assert_predictions(table: pd.DataFrame) -> None:
    """Check that each row has probabilities, and that the class with the largest is the one predicted."""
    probabilities = table[P].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert table["predicted"].tolist() == [CLASSES[number] for number in probabilities.argmax(axis=1)]


# The linear head ---------------------------------------------------------------------------------------


def test_where_nothing_is_trained_no_network_library_is_loaded(finished: Path) -> None:
    loaded = (finished / "modules.txt").read_text().split()
    assert "numpy" in loaded
    assert {"tensorflow", "keras", "openvino", "cv2"}.isdisjoint(loaded)


@pytest.mark.parametrize("name", ["linear", "left"])
def test_the_linear_head_and_its_predictions_are_taken_as_stage_probe_made_them(finished: Path, name: str) -> None:
    model, probed = finished / f"data/models/{name}", finished / f"data/probes/{name}"
    for file in ("head.npz", "predictions.csv", "shares.csv", "folds.csv"):
        assert (model / file).read_bytes() == (probed / file).read_bytes()
    assert set(read(finished, name, "predictions")["split"]) == {"train", "validation", "test"}
    assert len(read(finished, name, "shares")) == 2


@pytest.mark.parametrize("name", ["linear", "left"])
def test_a_linear_head_is_described_without_any_network(finished: Path, name: str) -> None:
    model = finished / f"data/models/{name}"
    files = {str(path.relative_to(model)): path.stat().st_size for path in model.rglob("*") if path.is_file()}
    assert set(files) == FILES
    assert max(files.values()) < 5000
    found, probed = provenance(finished, name), read_json(finished / f"data/probes/{name}/probe.json")
    recipe = read_recipe(FinetuneRecipe, name, finished / "data/recipes")
    assert found["head"] == {
        "kept": "linear", "declared": "linear", "choose": recipe.head.choose,
        "fitted_on": ["train", "validation"], "strength": probed["strength"], "losses": probed["losses"],
        "validation_log_loss": {"linear": pytest.approx(log_loss(read(finished, name, "predictions")), abs=1e-8)},
    }  # fmt: skip
    assert (found["unfrozen"], found["top"], found["trainable_parameters"]) == (None, None, (WIDTH + 1) * 2)
    assert (found["epochs_run"], found["best_epoch"], found["train_images"], found["train_views"]) == (0, 0, 36, 36)
    assert set(found["versions"]) == {"numpy", "openvino", "scipy"}
    heads = read(finished, name, "heads")
    assert heads["head"].tolist() == ["linear"] * (COUNTS["validation"] + COUNTS["test"])
    for stage in ("unfreeze", "finetune"):
        timings = read_json(finished / f"data/timings/{stage}/{name}.json")
        assert (timings["seconds"], timings["epochs"]) == (0, 0)
    assert [path.name for path in (finished / f"data/unfrozen/{name}").iterdir()] == ["attempt.json"]


def log_loss(table: pd.DataFrame, split: str = "validation") -> float:
    rows = table[table["split"] == split]
    return float(-np.log([row[f"p:{row['label']}"] for _, row in rows.iterrows()]).mean())


# Which is kept -----------------------------------------------------------------------------------------


def tried(kind: Kind, **right: float) -> Attempt:
    """Return a head with the probability that it gives the right class of each validation image."""
    rows = [("validation", file, "cold", "cold", p, 1 - p) for file, p in right.items()]
    rows += [("train", "t", "cold", "cold", 0.01, 0.99), ("test", "u", "warm", "warm", 0.01, 0.99)]
    table = pd.DataFrame(rows, columns=["split", "file", "label", "predicted", *P])
    return Attempt(kind, head.Head((head.Layer(np.zeros((1, 2), np.float32), np.zeros(2, np.float32)),)), table)


LINEAR, BETTER, SAME = tried("linear", a=0.5, b=0.5), tried("dense", a=0.9, b=0.4), tried("unfrozen", a=0.5, b=0.5)


@pytest.mark.parametrize(
    ("found", "choose", "expected"),
    [
        ([LINEAR, BETTER], "best", "dense"),
        ([LINEAR, SAME], "best", "linear"),
        ([LINEAR, SAME], "declared", "unfrozen"),
        ([LINEAR, BETTER, SAME], "declared", "unfrozen"),
        ([LINEAR, BETTER, SAME], "best", "dense"),
        ([LINEAR], "declared", "linear"),
        # Of the images that the linear head could predict, too, the other one is worse.
        ([tried("linear", a=0.6), tried("dense", a=0.5, b=1.0)], "best", "linear"),
        # There are none.
        ([tried("linear"), BETTER], "best", "linear"),
        ([tried("linear", a=0.0), tried("dense", a=0.01)], "best", "dense"),
    ],
)  # fmt: skip
def test_the_lowest_log_loss_on_common_validation_images_is_kept_or_what_is_declared(
    found: list[Attempt], choose: str, expected: str
) -> None:
    assert kept(found, choose, Measure("accuracy")).kind == expected
    losses = validation_losses(found)
    assert choose == "declared" or losses[expected] == min(losses.values())


# Of three images, one of them warm, the linear head gets the warm one wrong, and the dense one both others by a hair.
COLD = tried("linear", a=0.99, b=0.99).predictions
WARM = COLD.assign(**{P[0]: 0.49, P[1]: 0.51, "predicted": "warm"})


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (Measure("accuracy"), "linear"),
        (Measure("recall:warm"), "dense"),
        (Measure("cost", {"warm": {"cold": 2.2}}), "dense"),
        (Measure("balanced_accuracy"), "linear"),
        # No image of it: log loss decides.
        (Measure("recall:hot"), "linear"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_measure_decides_which_head_is_kept_and_between_equals_log_loss(measure: Measure, expected: str) -> None:
    extra = pd.DataFrame(
        [("validation", "c", "warm", "cold", 0.86, 0.14)], columns=["split", "file", "label", "predicted", *P]
    )
    right = extra.assign(**{P[0]: 0.49, P[1]: 0.51, "predicted": "warm"})
    tables = {"linear": pd.concat([COLD, extra]), "dense": pd.concat([WARM, right])}
    found = [replace(LINEAR, kind=kind, predictions=table.reset_index(drop=True)) for kind, table in tables.items()]
    assert kept(found, "best", measure).kind == expected


@pytest.mark.parametrize("name", LINES)
def test_of_each_head_that_was_tried_the_predictions_are_kept(finished: Path, name: str) -> None:
    heads, own, told = read(finished, name, "heads"), read(finished, name, "predictions"), provenance(finished, name)
    names = {"linear": ["linear"], "left": ["linear"], "dense": ["linear", "dense"], "tuned": ["linear", "dense"],
             "top": ["linear", "unfrozen"], "all": ["linear", "dense", "unfrozen"], "scratch": ["whole"]}  # fmt: skip
    assert list(heads) == ["head", *own]
    assert heads["head"].unique().tolist() == names[name]
    assert set(told["head"]["validation_log_loss"]) == set(names[name])
    for kind, table in heads.groupby("head"):
        assert table["split"].tolist() == ["validation"] * COUNTS["validation"] + ["test"] * COUNTS["test"]
        assert_predictions(table)
        assert told["head"]["validation_log_loss"][kind] == pytest.approx(log_loss(table), abs=1e-6)
    losses = told["head"]["validation_log_loss"]
    best = told["head"]["choose"] == "best"
    assert told["head"]["kept"] == (min(names[name], key=losses.get) if best else names[name][-1])
    mine = heads[heads["head"] == told["head"]["kept"]].drop(columns="head").reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, own[own["split"] != "train"].reset_index(drop=True))


# Dense heads -------------------------------------------------------------------------------------------


def test_a_dense_head_predicts_validation_images_before_it_has_seen_them(finished: Path) -> None:
    table, own = read(finished, "dense", "predictions"), head.load(finished / "data/models/dense/head.npz")
    assert [(len(layer.bias), layer.activation) for layer in own.layers] == [(8, "relu"), (2, "linear")]
    difference = {}
    for split in ("validation", "test"):
        found = own.probabilities(np.load(finished / f"data/features/dense/{split}.npy"))
        difference[split] = np.abs(found - table.loc[table["split"] == split, P].to_numpy()).max()
    assert difference["test"] < 1e-6
    assert difference["validation"] > 1e-3


def test_the_provenance_of_a_dense_head_says_what_it_was_fitted_on(finished: Path) -> None:
    found = provenance(finished, "dense")
    assert found["weights"]["source"] == "random"
    assert (found["builder"], found["input_size"], found["classes"]) == ("MobileNetV3Small", SIDE, list(CLASSES))
    assert (found["engine"], found["precision"], found["seed"], found["tuned"]) == ("openvino", "float32", 20, {})
    assert found["head"]["fitted_on"] == ["train", "validation"]
    # A view of each.
    assert (found["train_images"], found["train_views"]) == (36, 72)
    assert found["trainable_parameters"] == WIDTH * 8 + 8 + 8 * 2 + 2
    below = read_json(finished / "data/weights/dense/backbone.json")["parameters"]
    assert found["parameters"] == below + found["trainable_parameters"]
    assert found["versions"]["keras"] == version("keras")
    assert (found["unfrozen"], found["top"]) == (None, None)
    assert set(LINES["dense"]) == {"builder", "unfreeze", "head"}


def test_what_a_search_has_chosen_is_trained_and_what_there_was_without_it_is_predicted(finished: Path) -> None:
    found = provenance(finished, "tuned")
    assert found["tuned"] == TUNED
    assert (found["train_images"], found["train_views"]) == (36, 36)
    own = head.load(finished / "data/models/tuned/head.npz")
    assert [len(layer.bias) for layer in own.layers] == [4, 2]
    pd.testing.assert_frame_equal(read(finished, "tuned", "baseline"), read(finished, "dense", "predictions"))


def test_without_a_dense_head_of_its_own_the_linear_one_is_what_there_was(finished: Path, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    default = inputs_of("linear")
    chosen, any_trainer = default.with_values({"units": [4]}), object()
    table = finetune.baseline(chosen, default, any_trainer, [LINEAR, BETTER], Measure("accuracy"))
    pd.testing.assert_frame_equal(table, LINEAR.predictions[LINEAR.predictions["split"] != "train"])
    # Neither where what was chosen is not kept, nor where nothing was.
    assert finetune.baseline(chosen, default, any_trainer, [LINEAR, SAME], Measure("accuracy")).empty
    assert finetune.baseline(default, default, any_trainer, [LINEAR, BETTER], Measure("accuracy")).empty


# Trained blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["top", "scratch"])
def test_the_parts_on_disk_joined_predict_what_was_predicted_from_raw_images(finished: Path, name: str) -> None:
    model = finished / f"data/models/{name}"
    backbone, top = (
        keras_engine.load(path) for path in (finished / f"data/weights/{name}/backbone.keras", model / "top.keras")
    )
    whole = exporting.joined(backbone, top, head.load(model / "head.npz"))
    images, table = np.load(finished / f"data/prepared/{SIDE}/test.npy"), read(finished, name, "predictions")
    expected = table.loc[table["split"] == "test", P]
    # Activations below trained blocks are kept with three digits.
    np.testing.assert_allclose(whole.predict(images.astype(np.float32), verbose=0), expected, atol=2e-3)


def test_what_is_trained_is_said_with_the_tensor_that_it_begins_with(finished: Path) -> None:
    found = {name: provenance(finished, name) for name in ("top", "all", "scratch")}
    assert found["top"]["top"] == {"input": "block_1"}
    assert found["top"]["unfrozen"] == {"blocks": 1, "of": 3, "epochs": 2, "stopped": ""}
    assert found["top"]["trainable_parameters"] == 9 * 8 * 12 + (WIDTH + 1) * 2
    assert (found["top"]["head"]["fitted_on"], found["top"]["train_views"]) == (["train"], 2 * COUNTS["train"])
    # One epoch, after which the minutes were over, whether that is kept or not.
    assert found["all"]["unfrozen"] == {"blocks": 3, "of": 3, "epochs": 1, "stopped": "minutes"}
    assert found["scratch"]["top"] == {"input": "image"}
    assert found["scratch"]["unfrozen"] == {"blocks": 2, "of": 2, "epochs": 5, "stopped": ""}
    assert found["scratch"]["head"]["strength"] is None


@pytest.mark.parametrize(("name", "start"), [("top", "block_1"), ("scratch", "image")])
def test_the_architecture_has_the_shape_of_the_whole_classifier(finished: Path, name: str, start: str) -> None:
    model = finished / f"data/models/{name}"
    assert {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()} == FILES | TOP
    architecture = engine.read_architecture(model / "architecture")
    assert (architecture["input"], architecture["parameters"]) == (start, provenance(finished, name)["parameters"])
    whole = engine.join(finished / f"data/weights/{name}/frozen.xml", model / "architecture")
    assert list(whole.output("probabilities").get_partial_shape())[1].get_length() == 2


def test_a_network_without_pretrained_weights_is_trained_whole_whoever_is_a_candidate(finished: Path) -> None:
    table = read(finished, "scratch", "predictions")
    assert (table["label"] == table["predicted"]).mean() > 0.8


PHASES = [
    ("linear", []),
    ("dense", ["head"] * 3),
    ("top", ["finetune"] * 2),
    ("all", ["head"] * 3 + ["finetune"]),
    ("scratch", ["finetune"] * 5),
]


@pytest.mark.parametrize(("name", "phases"), PHASES)
def test_the_history_shows_each_epoch_and_how_long_all_took_is_written_apart(
    finished: Path, name: str, phases: list[str]
) -> None:
    history = read_csv(finished / f"data/models/{name}/history.csv", text=("phase",))
    assert list(history) == list(finetune.HISTORY)
    assert history["phase"].tolist() == phases
    assert history["epoch"].tolist() == list(range(1, len(phases) + 1))
    for phase, stage in {"head": "finetune", "finetune": "unfreeze"}.items():
        timings = read_json(finished / f"data/timings/{stage}/{name}.json")
        assert set(timings) == {"seconds", "epochs", "processor"}
        assert (timings["seconds"] > 0) == (phase in phases)
        assert (timings["epochs"], bool(timings["processor"])) == (phases.count(phase), True)


# Retraining --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", *TRAINED])
def test_over_the_folds_every_image_is_predicted_once_in_its_own(folded: Path, name: str) -> None:
    table, index = read(folded, name, "folds"), read_csv(folded / "data/prepared/index.csv", text=("file", "label"))
    assert list(table) == ["fold", "file", "label", "predicted", *P]
    expected = index.sort_values(["fold", "file"])[["fold", "file", "label"]]
    assert table[["fold", "file", "label"]].to_numpy().tolist() == expected.to_numpy().tolist()
    assert_predictions(table)
    if name == "top":
        assert ((table["label"] == table["predicted"]).groupby(table["fold"]).mean() > 0.8).all()


@pytest.mark.parametrize("name", ["linear", *TRAINED])
def test_folds_repeats_and_shares_change_no_byte_of_the_main_run(finished: Path, folded: Path, name: str) -> None:
    models = [root / f"data/models/{name}" for root in (finished, folded)]
    for file in (FILES | (TOP if name in ("top", "scratch") else set())) - {"folds.csv", "repeats.csv", "shares.csv"}:
        assert (models[0] / file).read_bytes() == (models[1] / file).read_bytes(), file


@pytest.mark.parametrize("name", TRAINED)
def test_a_repeat_predicts_what_the_main_run_does_with_another_seed(finished: Path, name: str) -> None:
    table, main = read(finished, name, "repeats"), read(finished, name, "predictions")
    assert list(table) == ["repeat", *main]
    assert set(table["repeat"]) == {1}
    assert table[["split", "file", "label"]].equals(main[["split", "file", "label"]])
    assert_predictions(table)
    assert (table["p:cold"] != main["p:cold"]).mean() > 0.5


@pytest.mark.parametrize("name", ["dense", "top", "scratch"])
def test_fewer_images_are_for_linear_heads_but_where_there_is_none(finished: Path, name: str) -> None:
    table, main = read(finished, name, "shares"), read(finished, name, "predictions")
    images = COUNTS["train"] + (0 if name == "scratch" else COUNTS["validation"])
    found = trainings(table, int((main["split"] == "test").sum()))
    draws = 1 if name == "scratch" else 2
    assert [(each.share, each.draw, each.images) for each in found] == [(0.5, n, images // 2) for n in range(draws)]
    assert {*np.concatenate([each.predicted for each in found])} <= {0, 1}
    own = (finished / f"data/probes/{name}/shares.csv").read_bytes()
    assert ((finished / f"data/models/{name}/shares.csv").read_bytes() == own) == (name != "scratch")


def inputs_of(name: str) -> TrainingData:
    """Return what finetune reads for a line of LINES in the working folder."""
    parameters.read.cache_clear()
    return TrainingData.with_view_features(
        read_recipe(FinetuneRecipe, name), finetune.PREPARED, finetune.FEATURES, finetune.VIEWS
    )


@pytest.fixture
def roots(finished: Path, folded: Path) -> dict[str, Path]:
    return {"folds": folded, "repeats": finished}


@pytest.mark.parametrize(
    ("table", "name", "kind", "changes"),
    [
        ("folds", "dense", "dense", {"fold": FOLDS - 1}),
        ("folds", "top", "unfrozen", {"fold": FOLDS - 1}),
        ("repeats", "scratch", "whole", {"seed": 21}),
    ],
)
def test_a_training_does_not_depend_on_what_was_trained_before(
    roots: dict[str, Path], table: str, name: str, kind: Kind, changes: dict, tmp_path, monkeypatch
) -> None:
    root = roots[table]
    monkeypatch.chdir(root)
    monkeypatch.setattr(keras_engine, "make_deterministic", lambda *_: None)
    parameters.read.cache_clear()
    if kind == "dense":
        dense = replace(inputs_of(name), **changes)
        found = finetune.Trainer(dense, tmp_path).retrain(dense, "alone")
    else:
        top = replace(unfreeze.read_inputs(read_recipe(UnfreezeRecipe, name)), **changes)
        strength = provenance(root, name)["head"]["strength"]
        found = unfreeze.Trainer(top, strength, tmp_path).retrain(top, "alone")
    expected = read(root, name, table)
    if "fold" in changes:
        found, expected = found[found["split"] == "test"], expected[expected["fold"] == changes["fold"]]
    write_csv(tmp_path / "alone.csv", found)
    alone = read_csv(tmp_path / "alone.csv", text=TEXT)
    assert alone["file"].tolist() == expected["file"].tolist()
    np.testing.assert_array_equal(alone[P].to_numpy(), expected[P].to_numpy())


def test_where_nothing_is_trained_anew_the_tables_are_empty(finished: Path, folded: Path) -> None:
    columns = "file,label,predicted,p:cold,p:warm\n"
    for root, name, table, keys in (
        *((finished, name, "folds", "fold") for name in ("linear", *TRAINED)),
        *((finished, name, "baseline", "split") for name in ("linear", *TRAINED)),
        *((folded, name, "repeats", "repeat,split") for name in ("linear", "dense")),
        (finished, "linear", "repeats", "repeat,split"),
    ):
        assert (root / f"data/models/{name}/{table}.csv").read_text() == f"{keys},{columns}"
    for name in ("linear", *TRAINED):
        assert (folded / f"data/models/{name}/shares.csv").read_text() == "share,draw,training_images,predicted\n"


def test_a_refit_takes_training_and_validation_images_in_one_order(finished: Path, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    inputs = inputs_of("dense")
    rows, targets = inputs.feature_rows(BOTH), inputs.targets(BOTH)
    assert len(rows) == len(targets) == 2 * (COUNTS["train"] + COUNTS["validation"])
    own = [np.load(f"data/features/dense/{split}.npy") for split in ("train", "validation")]
    np.testing.assert_array_equal(rows[: len(targets) // 2], np.concatenate(own))


# The command -------------------------------------------------------------------------------------------


def test_that_functions_are_traced_for_each_training_is_no_news(finished: Path, caplog) -> None:
    # The stage has run in this process.
    logger = logging.getLogger("tensorflow")
    logger.warning("5 out of the last 5 calls to <function f> triggered tf.function retracing. Tracing is expensive")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_a_failed_stage_leaves_what_was_there_and_no_checkpoints(finished: Path, tmp_path, monkeypatch) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    parameters.read.cache_clear()
    monkeypatch.setattr(sys, "argv", ["finetune", "linear"])
    monkeypatch.setattr(finetune, "write", lambda *_: 1 / 0)
    before = Path("data/models/linear/head.npz").read_bytes()
    with pytest.raises(ZeroDivisionError):
        finetune.main()
    assert Path("data/models/linear/head.npz").read_bytes() == before
    assert [path.name for path in Path("data/models").iterdir() if path.name.startswith(".")] == []
    assert list(Path(".cache").iterdir()) == []


def test_the_log_says_which_head_is_kept_and_why_there_is_no_other(
    finished: Path, tmp_path, monkeypatch, caplog
) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    parameters.read.cache_clear()
    monkeypatch.setattr(sys, "argv", ["finetune", "left"])
    caplog.set_level(logging.INFO)
    finetune.main()
    unfreeze.main()
    assert caplog.messages[0] == "left: not selected as a candidate, so no dense head is trained"
    assert caplog.messages[1].startswith("left: the linear head is kept; log loss on validation: linear 0.")
    assert caplog.messages[2] == "left: no blocks are trained: not selected as a candidate"


@pytest.mark.parametrize("module", [weights, features, unfreeze, finetune])
def test_a_backbone_that_is_not_declared_is_one_line(finished: Path, module: ModuleType, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    parameters.read.cache_clear()
    monkeypatch.setattr(sys, "argv", [module.__name__, "linaer"])
    with pytest.raises(ParameterError, match=r"of backbone 'linaer'; expected the name of one.* did you mean 'linear'"):
        module.main()
