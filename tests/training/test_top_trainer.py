"""Phase 2 begins as the linear head, moves the top blocks alone, and is kept where validation prefers it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.core.files import read_json, write_json
from stages.core.head import Head
from stages.core.params import read
from stages.core.settings.backbones import resolve
from stages.heads import linear
from stages.networks import keras_engine
from stages.training.inputs import TrainingData
from stages.training.loop import Run
from stages.training.top_trainer import TopTrainer, TrainedTop
from tests.support.features import ROOT
from tests.support.tiny_backbone import BLOCKS, CLASSES, COUNTS, prepare, write_weights

SPLITS = ("validation", "test")
# So short that no second epoch begins.
SHORT = {
    "blocks": 2, "epochs": 3, "learning_rate": 0.003, "schedule": "constant", "decay": 1.0, "minutes": 1e-6,
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a training made, what it noted and logged, and the files that it left in its folder."""

    top: TrainedTop
    run: Run
    said: list[str]
    files: list[str]
    weights: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Project:
    """A folder with a frozen network and images, and the head of its features that training begins with."""

    root: Path
    network: keras.Model
    inputs: TrainingData
    head: Head

    def train(self, scratch: Path, unfreeze: dict[str, Any]) -> Trained:
        """Train from the linear head on, as section `unfreeze` says."""
        backbone = self.inputs.backbone
        changed = backbone.model_copy(update={"unfreeze": backbone.unfreeze.model_copy(update=unfreeze)})
        inputs, run, said = TrainingData(**(vars(self.inputs) | {"backbone": changed})), Run(), Said()
        logger = logging.getLogger("stages.training.top_trainer")
        logger.addHandler(said)
        top = TopTrainer(scratch).train(inputs, self.head, run, SPLITS)
        logger.removeHandler(said)
        weights = {variable.path: variable.numpy() for variable in top.top.variables}
        return Trained(top, run, said.lines, sorted(path.name for path in scratch.glob("*.npy")), weights)

    def before(self) -> dict[str, NDArray[np.float32]]:
        return {variable.path: variable.numpy() for variable in self.network.variables}


class Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    network, index = write_weights(root / "weights"), prepare(root / "prepared")
    computed = {"engine": "openvino", "precision": "float32", "threads": 1}
    write_json(root / "features/features.json", computed | {"network": read_json(root / "weights/backbone.json")})
    for split in COUNTS:
        np.save(root / f"features/{split}.npy", network.predict(np.load(root / f"prepared/32/{split}.npy"), verbose=0))
    params = read(ROOT / "params.yaml")
    line = {"builder": "mobilenet_v3_small", "batch_size": 8, "early_stopping": {"patience": 0}}
    backbone = resolve("net", params | {"preprocess": {"sizes": [32]}, "backbones": {"net": line}})
    folders = (root / "features", root / "prepared")
    inputs = TrainingData(backbone, *folders, index, list(CLASSES), 3, weights=root / "weights")
    head = linear.fit(inputs.feature_rows("train"), inputs.targets("train"), 2, "none", 3.0, root)
    return Project(root, network, inputs, head)


@pytest.fixture(scope="module")
def trained(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Return what trains by `SHORT` with changes, each of them once."""
    made: dict[str, Trained] = {}

    def train(**changes: Any) -> Trained:
        key = str(changes)
        if key not in made:
            made[key] = project.train(tmp_path_factory.mktemp("scratch"), SHORT | changes)
        return made[key]

    return train


# Validation prefers none of these epochs to what there was before.
HARMFUL = {"blocks": "all", "learning_rate": 0.3, "minutes": 10.0, "epochs": 2}


def test_phase_2_begins_as_the_linear_head_and_where_no_epoch_is_better_that_is_kept(project, trained) -> None:
    found = trained(**HARMFUL)
    assert (found.run.best_epoch, len(found.run.rows), found.top.spent) == (0, 2, False)
    for split in SPLITS:
        expected = project.head.probabilities(np.load(project.root / f"features/{split}.npy"))
        np.testing.assert_allclose(found.top.probabilities[split], expected, atol=1e-4)
    for path, value in project.before().items():
        np.testing.assert_array_equal(found.weights[path], value)


def test_where_phase_2_diverges_the_linear_head_is_kept(project, trained) -> None:
    found = trained(blocks=2, learning_rate=1e30, minutes=10.0, epochs=1)
    assert not np.isfinite(found.run.rows[0]["val_loss"])
    for split in SPLITS:
        expected = project.head.probabilities(np.load(project.root / f"features/{split}.npy"))
        np.testing.assert_allclose(found.top.probabilities[split], expected, atol=2e-3)


def test_an_epoch_that_validation_prefers_is_kept(project, trained) -> None:
    found, classes = trained(), project.inputs.targets("validation")
    before = project.head.probabilities(np.load(project.root / "features/validation.npy"))
    losses = [-np.log(each[np.arange(len(classes)), classes]).mean() for each in (
        before, found.top.probabilities["validation"])]  # fmt: skip
    assert found.run.best_epoch == 1
    assert losses[1] == pytest.approx(found.run.rows[0]["val_loss"], rel=1e-4)
    assert losses[1] < losses[0]


def test_the_top_blocks_alone_move_and_no_statistics_of_batch_normalization(project, trained) -> None:
    found, before = trained(), project.before()
    moved = {path for path, value in found.weights.items() if not np.array_equal(value, before[path])}
    assert moved == {"convolution_2/kernel", "convolution_3/kernel"}
    assert (found.top.start, found.top.blocks) == ("block_2", 2)
    assert {path.split("/")[0] for path in found.weights} == {
        f"{kind}_{block}" for kind in ("convolution", "normalization") for block in (2, 3)
    }


@pytest.mark.parametrize(
    ("source", "share", "expected"),
    [
        ("random", "all", {"convolution", "normalization"}),
        ("random", 0.67, {"convolution"}),
        ("imagenet", "all", {"convolution"}),
    ],
)
def test_batch_normalization_trains_only_in_random_weights_that_are_trained_as_a_whole(
    project, tmp_path, source: str, share: float | str, expected: set[str]
) -> None:
    computed = read_json(project.root / "features/features.json")
    computed["network"]["weights"]["source"] = source
    write_json(tmp_path / "features.json", computed)
    backbone = project.inputs.backbone
    last = backbone.model_copy(update={"checkpoint": backbone.checkpoint.model_copy(update={"keep": "last"})})
    changed = replace(project, inputs=replace(project.inputs, features=tmp_path, backbone=last))
    found, before = changed.train(tmp_path, SHORT | {"blocks": share}), project.before()
    moved = {path for path, value in found.weights.items() if not np.array_equal(value, before[path])}
    assert {path.split("_")[0] for path in moved} == expected


def test_the_rate_falls_to_nothing_along_a_cosine(trained) -> None:
    falling = trained(**HARMFUL, schedule="cosine", warmup=0.0)
    assert [row["learning_rate"] for row in falling.run.rows] == pytest.approx([0.15, 0.0], abs=1e-6)


def test_all_blocks_begin_with_the_images(trained) -> None:
    found = trained(**HARMFUL)
    assert (found.top.start, found.top.blocks, found.files) == ("image", BLOCKS, [])


def test_blocks_further_down_learn_more_slowly(project, trained) -> None:
    # Two of three blocks, as in the other training.
    slower, before = trained(blocks=0.67, decay=0.1), project.before()
    assert (slower.top.start, slower.top.blocks) == ("block_2", 2)

    def share(path: str) -> float:
        one, other = (np.abs(each.weights[path] - before[path]).mean() for each in (slower, trained()))
        return float(one / other)

    assert share("convolution_2/kernel") < 0.2
    assert share("convolution_3/kernel") > 0.8


def test_training_stops_between_epochs_when_its_minutes_are_over(trained) -> None:
    found = trained()
    assert (found.top.spent, len(found.run.rows)) == (True, 1)


def test_activations_on_disk_train_as_those_that_are_recomputed(trained) -> None:
    kept, recomputed = trained(), trained(cache_gb=0.0)
    assert kept.files == ["test.npy", "train.npy", "validation.npy"]
    assert (kept.said, recomputed.files) == ([], [])
    assert len(recomputed.said) == 1
    assert recomputed.said[0].startswith("net: activations for phase 2 would take")
    assert "more than finetune.unfreeze.cache_gb = 0: they are recomputed in each epoch" in recomputed.said[0]
    for split in SPLITS:
        np.testing.assert_allclose(kept.top.probabilities[split], recomputed.top.probabilities[split], atol=5e-3)


def test_top_and_head_apart_predict_what_they_do_together(project, trained) -> None:
    found = trained().top
    below = keras.Model(project.network.input, project.network.get_layer("convolution_2").input)
    images = np.load(project.root / "prepared/32/test.npy").astype(np.float32)
    features = found.top.predict(below.predict(images, verbose=0), verbose=0)
    np.testing.assert_allclose(found.head.probabilities(features), found.probabilities["test"], atol=2e-3)


def test_a_network_that_is_let_go_holds_no_memory(project, tmp_path) -> None:
    found = project.train(tmp_path, SHORT).top
    held = [*found.part.variables, *found.part.optimizer.variables]
    assert sum(variable.numpy().size for variable in held) > 1000
    found.free_memory()
    assert sum(np.asarray(keras_engine.tf.raw_ops.VariableShape(input=variable.value.handle)).prod()
               for variable in held) <= len(held)  # fmt: skip
