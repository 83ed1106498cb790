"""The stages weights, features, finetune and benchmark on a small prepared data set, each by its own code."""

import logging
import random
import re
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml

from stages import benchmark, features, finetune, tune, weights
from stages import params as params_module
from stages.errors import ParameterError
from stages.files import read_csv, read_json, write_csv, write_json
from stages.images.prepared import SPLITS, read_index
from stages.models import keras_engine
from stages.models.head_trainer import HeadTrainer

ROOT = Path(__file__).parents[1]
SIDE, CLASSES = 32, ("cold", "warm")
COUNTS = {"train": 24, "validation": 8, "test": 8}
FOLDS = 3
# The top block of MobileNetV3Small, small enough to train in a test and with BatchNormalization in it.
LINES = {
    "frozen": {"builder": "mobilenet_v3_small", "head": {"units": [8]}},
    "partly": {"builder": "mobilenet_v3_small", "head": {"units": [8]}, "unfreeze": {"blocks": 1, "epochs": 2}},
    "scratch": {"arguments": {"filters": [4, 8]}, "head": {"units": [8], "pooling": "flatten"},
                "unfreeze": {"blocks": "all", "epochs": 3, "learning_rate": 0.01}},
}  # fmt: skip


def prepare(root: Path, *, folds: bool = False) -> None:
    """Write data/prepared: pictures that are blue or red, with noise.

    With `folds` those of validation and test have a view each, black, which the main run must not look at.
    """
    draw, rows = np.random.default_rng(0), []
    for split in SPLITS:
        numbers = np.arange(COUNTS[split]) % 2
        pictures = draw.integers(0, 90, (len(numbers), SIDE, SIDE, 3))
        pictures[numbers == 0, :, :, 2] += 120
        pictures[numbers == 1, :, :, 0] += 120
        views = 1 + (folds and split != "train")
        shown = np.zeros((len(numbers) * views, SIDE, SIDE, 3), np.uint8)
        shown[::views] = pictures
        (root / str(SIDE)).mkdir(parents=True, exist_ok=True)
        np.save(root / str(SIDE) / f"{split}.npy", shown)
        rows += [
            (
                split,
                row * views + view,
                f"{CLASSES[n]}/{split}{row:02}.png",
                CLASSES[n],
                view,
                row // 2 % FOLDS if folds else -1,
            )
            for row, n in enumerate(numbers)
            for view in range(views)
        ]
    write_csv(root / "index.csv", pd.DataFrame(rows, columns=["split", "row", "file", "label", "view", "fold"]))
    write_json(root / "classes.json", {"classes": list(CLASSES)})


def configure(root: Path, lines: dict, repeats: int = 2, shares: tuple[float, ...] = (0.5,)) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["preprocess"]["sizes"] = [SIDE]
    params["weights"]["source"] = "random"
    params["features"] |= {"precision": "float32", "batch_size": 7}
    params["finetune"] |= {"epochs": 3, "batch_size": 8, "repeats": repeats, "training_shares": list(shares)}
    params["benchmark"] = {"warmup": 1, "repeats": 4, "batch_sizes": [2]}
    params["backbones"] = lines
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for name in lines:
        write_json(root / f"data/candidates/{name}.json", {"finetune": True})
    params_module.read.cache_clear()


def inputs_of(name: str) -> finetune.Inputs:
    """Return what finetune reads for a line of LINES in the working folder."""
    params_module.read.cache_clear()
    return finetune.Inputs(
        finetune.resolve(name, params_module.read()), Path("data/weights") / name, Path("data/features") / name,
        finetune.PREPARED, read_index(finetune.PREPARED), list(CLASSES), params_module.seed(),
    )  # fmt: skip


def stage(module, name: str, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, name])
    module.main()


@pytest.fixture(scope="module", autouse=True)
def _generator_of_its_own():
    """Give Keras a generator of seeds that no thread of another test, such as those of Prefect, draws from."""
    own = random.Random()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras.src.utils.rng_utils.random", own)
        patch.setattr("keras.src.random.seed_generator.python_random", own)
        yield


@contextmanager
def prepared(root: Path, lines: dict, *, folds: bool = False, **options):
    """Work in `root`, where what comes before the stages of a backbone is ready."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        prepare(root / "data/prepared", folds=folds)
        configure(root, lines, **options)
        # Threads can be set once in a process: the set-up itself is tested by the whole graph.
        patch.setattr(keras_engine, "repeatable", lambda seed, _: keras.utils.set_random_seed(seed))
        yield patch


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run the five stages for each line of LINES, once, in a folder of their own."""
    root = tmp_path_factory.mktemp("graph")
    with prepared(root, LINES) as patch:
        for name in LINES:
            for module in (weights, features, tune, finetune, benchmark):
                stage(module, name, patch)
    yield root
    params_module.read.cache_clear()


@pytest.fixture(scope="module")
def folded(finished: Path, tmp_path_factory):
    """Run features, tune and finetune again, with the same pictures in folds, and neither repeats nor shares."""
    root = tmp_path_factory.mktemp("folds")
    shutil.copytree(finished / "data/weights", root / "data/weights")
    with prepared(root, LINES, folds=True, repeats=1, shares=()) as patch:
        for name in LINES:
            for module in (features, tune, finetune):
                stage(module, name, patch)
    yield root
    params_module.read.cache_clear()


def assert_predictions(table: pd.DataFrame) -> None:
    """Check that each row has probabilities, and that the class with the largest is the one predicted."""
    probabilities = table[["p:cold", "p:warm"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert table["predicted"].tolist() == [CLASSES[n] for n in probabilities.argmax(axis=1)]


@pytest.mark.parametrize("name", LINES)
def test_predictions_have_a_row_for_each_picture_of_validation_and_test(finished: Path, name: str) -> None:
    table = read_csv(finished / f"data/models/{name}/predictions.csv", text=("split", "file", "label", "predicted"))
    assert table["split"].tolist() == ["validation"] * 8 + ["test"] * 8
    assert_predictions(table)


@pytest.mark.parametrize("name", LINES)
def test_the_saved_model_takes_raw_pictures_and_gives_the_same_predictions(finished: Path, name: str) -> None:
    model = keras.models.load_model(finished / f"data/models/{name}/model.keras")
    table = read_csv(finished / f"data/models/{name}/predictions.csv", text=("split",))
    pictures = np.load(finished / f"data/prepared/{SIDE}/test.npy").astype("float32")
    expected = table[table["split"] == "test"][["p:cold", "p:warm"]]
    # Activations below the cut are kept with three digits.
    tolerance = 1e-3 if name == "partly" else 2e-4
    np.testing.assert_allclose(model.predict(pictures, verbose=0), expected, atol=tolerance)


def test_something_is_learnt(finished: Path) -> None:
    table = read_csv(finished / "data/models/scratch/predictions.csv", text=("split", "label", "predicted"))
    assert (table["label"] == table["predicted"]).mean() > 0.8


@pytest.mark.parametrize(
    ("name", "phases"),
    [("frozen", ["head"] * 3), ("partly", ["head"] * 3 + ["finetune"] * 2), ("scratch", ["finetune"] * 3)],
)
def test_the_history_shows_the_phases(finished: Path, name: str, phases: list[str]) -> None:
    history = read_csv(finished / f"data/models/{name}/history.csv", text=("phase",))
    assert history["phase"].tolist() == phases
    assert history["epoch"].tolist() == list(range(1, len(phases) + 1))


def trained_anew(root: Path, name: str, table: str) -> pd.DataFrame:
    """Return folds, repeats or shares of a line of LINES."""
    return read_csv(root / f"data/models/{name}/{table}.csv", text=("split", "file", "label", "predicted"))


@pytest.mark.parametrize("name", LINES)
def test_over_the_folds_every_picture_is_predicted_once_in_its_own(folded: Path, name: str) -> None:
    table, index = trained_anew(folded, name, "folds"), read_csv(folded / "data/prepared/index.csv", text=("file",))
    assert list(table) == ["fold", "file", "label", "predicted", "p:cold", "p:warm"]
    expected = index[index["view"] == 0].sort_values(["fold", "file"])
    assert (
        table[["fold", "file", "label"]].to_numpy().tolist() == expected[["fold", "file", "label"]].to_numpy().tolist()
    )
    assert_predictions(table)


def test_something_is_learnt_in_every_fold(folded: Path) -> None:
    table = trained_anew(folded, "scratch", "folds")
    assert ((table["label"] == table["predicted"]).groupby(table["fold"]).mean() > 0.8).all()


@pytest.mark.parametrize("name", LINES)
def test_folds_repeats_and_shares_change_nothing_of_the_main_run(finished: Path, folded: Path, name: str) -> None:
    models = [root / f"data/models/{name}" for root in (finished, folded)]
    for file in ("history.csv", "predictions.csv", "provenance.json"):
        assert models[0].joinpath(file).read_bytes() == models[1].joinpath(file).read_bytes()
    without, within = (keras.models.load_model(model / "model.keras").get_weights() for model in models)
    for found, expected in zip(within, without, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", LINES)
def test_a_repeat_predicts_what_the_main_run_does_with_another_seed(finished: Path, name: str) -> None:
    table, main = trained_anew(finished, name, "repeats"), trained_anew(finished, name, "predictions")
    assert list(table) == ["repeat", *main]
    assert set(table["repeat"]) == {1}
    assert table[["split", "file", "label"]].equals(main[["split", "file", "label"]])
    assert_predictions(table)
    assert (table["p:cold"] != main["p:cold"]).mean() > 0.5


@pytest.mark.parametrize("name", LINES)
def test_a_share_of_the_training_pictures_predicts_the_test_pictures(finished: Path, name: str) -> None:
    table, main = trained_anew(finished, name, "shares"), trained_anew(finished, name, "predictions")
    assert list(table) == ["share", "training_pictures", "file", "label", "predicted", "p:cold", "p:warm"]
    assert set(zip(table["share"], table["training_pictures"], strict=True)) == {(0.5, 12)}
    assert table["file"].tolist() == main["file"][main["split"] == "test"].tolist()
    assert_predictions(table)


def test_a_share_sees_no_other_pictures(finished: Path, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    part = replace(inputs_of("frozen"), share=0.5)
    views, features = part.views("train", part.feature_rows("train")), np.load("data/features/frozen/train.npy")
    rows, whole = part.selected("train")["row"].to_numpy(), inputs_of("frozen")
    seen = np.concatenate([inputs.numpy() for inputs, _, _ in views.dataset()])
    assert len(views) == len(whole.views("train", whole.feature_rows("train")))
    assert len(set(rows)) == 12
    np.testing.assert_array_equal(np.unique(seen, axis=0), np.unique(features[rows], axis=0))
    np.testing.assert_array_equal(part.feature_rows("validation")[:], np.load("data/features/frozen/validation.npy"))


ANEW = [
    ("folds", "frozen", {"fold": 0}),
    ("folds", "partly", {"fold": FOLDS - 1}),
    ("folds", "scratch", {"fold": 1}),
    ("repeats", "frozen", {"seed": 21}),
    ("repeats", "scratch", {"seed": 21}),
    ("shares", "frozen", {"share": 0.5}),
    ("shares", "partly", {"share": 0.5}),
]


@pytest.mark.parametrize(("table", "name", "changes"), ANEW)
def test_a_training_does_not_depend_on_what_was_trained_before(
    finished: Path, folded: Path, table: str, name: str, changes: dict, tmp_path, monkeypatch
) -> None:
    root = folded if table == "folds" else finished
    monkeypatch.chdir(root)
    part = replace(inputs_of(name), **changes)
    trainer = HeadTrainer(read_json(part.weights / "backbone.json")["width"], len(CLASSES))
    found = finetune.train_anew(part, trainer, tmp_path, "alone", "test")["test"]
    expected = trained_anew(root, name, table)
    if "fold" in changes:
        expected = expected[expected["fold"] == changes["fold"]]
    elif "split" in expected:
        expected = expected[expected["split"] == "test"]
    write_csv(tmp_path / "alone.csv", pd.DataFrame(found, columns=["p:cold", "p:warm"]))
    alone = read_csv(tmp_path / "alone.csv")
    np.testing.assert_array_equal(alone.to_numpy(), expected[["p:cold", "p:warm"]].to_numpy())


@pytest.mark.parametrize("name", LINES)
def test_where_nothing_is_trained_anew_the_tables_are_empty(finished: Path, folded: Path, name: str) -> None:
    columns = "file,label,predicted,p:cold,p:warm\n"
    for root, table, keys in (
        (finished, "folds", "fold"),
        (folded, "repeats", "repeat,split"),
        (folded, "shares", "share,training_pictures"),
        (finished, "untuned", "split"),
    ):
        assert (root / f"data/models/{name}/{table}.csv").read_text() == f"{keys},{columns}"


@pytest.mark.parametrize(
    ("name", "phases"), [("frozen", {"head"}), ("partly", {"head", "finetune"}), ("scratch", {"finetune"})]
)
def test_how_long_each_phase_took_is_written_apart(finished: Path, name: str, phases: set[str]) -> None:
    found = read_json(finished / f"data/timings/{name}.json")
    assert set(found) == {"head_seconds", "finetune_seconds", "epochs", "processor"}
    assert {phase for phase in ("head", "finetune") if found[f"{phase}_seconds"] > 0} == phases
    assert found["epochs"] == read_json(finished / f"data/models/{name}/provenance.json")["epochs_run"]
    assert found["processor"]


def test_that_functions_are_traced_for_each_training_is_no_news(finished: Path, caplog) -> None:
    # The stage has run in this process.
    logger = logging.getLogger("tensorflow")
    logger.warning("5 out of the last 5 calls to <function f> triggered tf.function retracing. Tracing is expensive")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_an_array_that_does_not_fit_the_index_is_an_error(finished: Path, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    inputs = inputs_of("frozen")
    shorter = replace(inputs, index=inputs.index[inputs.index["file"] != "warm/train01.png"])
    with pytest.raises(ValueError, match=r"features/frozen/train.npy has 24 rows, its index 23"):
        shorter.feature_rows("train")


def changed(finished: Path, name: str) -> set[str]:
    """Return the variables of the backbone that training changed."""
    before = keras.models.load_model(finished / f"data/weights/{name}/backbone.keras")
    after = keras.models.load_model(finished / f"data/models/{name}/model.keras").get_layer("backbone")
    pairs = zip(before.variables, after.variables, strict=True)
    return {old.path for old, new in pairs if not np.array_equal(old.numpy(), new.numpy())}


def test_a_frozen_backbone_comes_out_as_it_went_in(finished: Path) -> None:
    assert changed(finished, "frozen") == set()


def test_phase_two_changes_the_top_block_alone_and_no_batch_normalization(finished: Path) -> None:
    provenance = read_json(finished / "data/models/partly/provenance.json")
    found = changed(finished, "partly")
    assert provenance["unfrozen_blocks"] == 1
    assert found <= {"conv_1/kernel", "conv_1/bias"}
    # Validation may have preferred the head alone; then nothing of phase 2 is kept.
    assert bool(found) == (provenance["best_epoch"] > 3)


def test_features_have_a_row_for_each_view(finished: Path) -> None:
    for split, count in COUNTS.items():
        assert np.load(finished / f"data/features/partly/{split}.npy").shape == (count, 576)
        kept = np.load(finished / f"data/features/partly/cut_{split}.npy")
        assert (len(kept), kept.dtype) == (count, np.float16)
    assert not (finished / "data/features/frozen/cut_train.npy").exists()


def test_activations_below_the_cut_keep_three_digits(finished: Path, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    inputs = inputs_of("partly")
    kept = inputs.rows("train")[:]
    exact = inputs._below_the_cut(np.load(f"data/prepared/{SIDE}/train.npy"))
    assert np.linalg.norm(kept - exact) < 5e-4 * np.linalg.norm(exact)


def test_an_activation_beyond_all_others_is_cut_off_and_not_infinite() -> None:
    found = features._halved(np.array([1e-10, -3e30], np.float32), 2.0**33)
    assert found.tolist() == [pytest.approx(1e-10 * 2**33, rel=1e-3), -65504.0]


def test_activations_that_pass_the_limit_are_computed_anew(finished: Path, tmp_path, monkeypatch, caplog) -> None:
    for folder in ("data/weights/partly", "data/prepared"):
        shutil.copytree(finished / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    configure(tmp_path, LINES)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["features"]["max_cache_gb"] = 0
    Path("params.yaml").write_text(yaml.safe_dump(params))
    params_module.read.cache_clear()
    monkeypatch.setattr(keras_engine, "repeatable", lambda seed, _: keras.utils.set_random_seed(seed))
    with caplog.at_level("WARNING"):
        for module in (features, tune, finetune):
            stage(module, "partly", monkeypatch)
    assert "partly: activations for phase 2 would take" in caplog.text
    assert "GB, more than features.max_cache_gb = 0: each epoch computes them anew" in caplog.text
    assert not list(Path("data/features/partly").glob("cut_*"))
    tables = [
        read_csv(root / "data/models/partly/predictions.csv")[["p:cold", "p:warm"]] for root in (Path(), finished)
    ]
    np.testing.assert_allclose(*tables, atol=2e-3)


def test_a_network_without_a_frozen_part_has_no_features(finished: Path) -> None:
    assert [path.name for path in (finished / "data/features/scratch").iterdir()] == ["features.json"]


def test_the_provenance_says_what_was_trained_from_what(finished: Path) -> None:
    found = read_json(finished / "data/models/frozen/provenance.json")
    assert found["weights"] == {"source": "random", "reason": "params.yaml says random", "file": "", "checksum": ""}
    assert (found["builder"], found["input_size"], found["classes"]) == ("MobileNetV3Small", SIDE, list(CLASSES))
    assert (found["engine"], found["precision"], found["train_pictures"]) == ("openvino", "float32", 24)
    assert found["trainable_parameters"] == 576 * 8 + 8 + 8 * 2 + 2
    assert found["versions"]["keras"] == version("keras")
    assert set(found["versions"]) == set(finetune.LIBRARIES)


@pytest.mark.parametrize("name", LINES)
def test_the_benchmark_measures_the_whole_network(finished: Path, name: str) -> None:
    found = read_json(finished / f"data/benchmarks/{name}.json")
    assert found["latency_ms_p95"] >= found["latency_ms_median"] > 0
    assert found["throughput_per_s"] > 0
    assert found["flops"] > 1e5
    assert found["parameters"] == read_json(finished / f"data/models/{name}/provenance.json")["parameters"]
    assert found["peak_memory_mb"] > 50
    assert found["processor"]


def test_a_network_that_is_not_its_parts_is_noticed(finished: Path, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    other = keras.Sequential([keras.Input((576,)), keras.layers.Dense(2, activation="softmax")])
    other.set_weights([np.zeros((576, 2)), np.array([9.0, -9.0])])
    whole = keras.models.load_model("data/models/frozen/model.keras")
    with pytest.raises(RuntimeError, match=r"frozen: probabilities differ by .* from those of the network's parts"):
        finetune.compare_parts(whole, other, inputs_of("frozen"))


def test_a_failed_stage_leaves_what_was_there_and_no_checkpoints(finished: Path, tmp_path, monkeypatch) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    params_module.read.cache_clear()
    monkeypatch.setattr(keras_engine, "repeatable", lambda *_: None)
    monkeypatch.setattr(finetune, "write", lambda *_: 1 / 0)
    before = Path("data/models/frozen/model.keras").read_bytes()
    with pytest.raises(ZeroDivisionError):
        stage(finetune, "frozen", monkeypatch)
    assert Path("data/models/frozen/model.keras").read_bytes() == before
    assert [path.name for path in Path("data/models").iterdir() if path.name.startswith(".")] == []
    assert not list(Path(".cache").glob("checkpoints*"))


@pytest.mark.parametrize("module", [weights, features, finetune, benchmark])
def test_a_backbone_that_is_not_declared_is_one_line(finished: Path, module, monkeypatch) -> None:
    monkeypatch.chdir(finished)
    params_module.read.cache_clear()
    with pytest.raises(ParameterError, match=r"of backbone 'frozn'; expected the name of one.* did you mean 'frozen'"):
        stage(module, "frozn", monkeypatch)


def test_a_backbone_that_is_no_candidate_is_not_trained_and_leaves_every_file_that_others_wait_for(
    finished: Path, tmp_path, monkeypatch, caplog
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    configure(tmp_path, LINES)
    write_json(tmp_path / "data/candidates/frozen.json", {"finetune": False})
    for module in (finetune, benchmark):
        stage(module, "frozen", monkeypatch)
    graph = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    awaited = set(re.findall(r"data/models/\$\{key\}/(\S+)", graph))
    assert {path.name: path.stat().st_size for path in Path("data/models/frozen").iterdir()} == dict.fromkeys(
        awaited, 0
    )
    assert (read_json(Path("data/timings/frozen.json")), read_json(Path("data/benchmarks/frozen.json"))) == ({}, {})
    assert caplog.messages == [
        "frozen: not among the candidates, so it is not fine-tuned",
        "frozen: not fine-tuned, so there is nothing to measure",
    ]
