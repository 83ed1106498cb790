import random
import threading

import keras
import numpy as np
import pandas as pd
import pytest

from stages.models.head_trainer import HeadTrainer
from stages.models.inputs import Inputs
from stages.models.training import Run

WIDTH, CLASSES = 6, ["cold", "warm"]
COUNTS = {"train": 40, "validation": 12, "test": 12}


@pytest.fixture
def features(tmp_path):
    """Write features that tell two classes apart; return their folder and index."""
    draw, rows = np.random.default_rng(0), []
    (tmp_path / "features").mkdir()
    for split, count in COUNTS.items():
        numbers = np.arange(count) % 2
        found = draw.normal(5, 2, (count, WIDTH)) + numbers[:, None]
        np.save(tmp_path / f"features/{split}.npy", found.astype("float32"))
        rows += [(split, row, f"{split}{row}.png", CLASSES[number], 0, -1) for row, number in enumerate(numbers)]
    index = pd.DataFrame(rows, columns=["split", "row", "file", "label", "view", "fold"])
    return tmp_path / "features", index


@pytest.fixture
def inputs_of(declare, features, tmp_path):
    """Return what makes the inputs of a training from what its line of `backbones` changes."""
    folder, index = features

    def make(seed: int = 3, **line) -> Inputs:
        line = {"head": {"units": [8]}, "epochs": 4, "batch_size": 16} | line
        return Inputs(declare("vgg16", **line), tmp_path, folder, tmp_path, index, CLASSES, seed)

    return make


def trained(trainer: HeadTrainer, inputs: Inputs, folder) -> tuple[np.ndarray, Run]:
    run = Run()
    (checkpoints := folder / f"checkpoints{len(list(folder.iterdir()))}").mkdir()
    trainer.train(inputs, run, checkpoints)
    return trainer.predict(inputs, "test"), run


CHANGES = [
    {"seed": 4},
    {"head": {"units": [8], "dropout": 0.0}},
    {"head": {"units": [8], "l2": 0.3}},
    {"head": {"units": [8], "standardise": False}},
    {"head": {"units": [4, 4]}},
    {"head": {"units": [8], "activation": "gelu"}},
    {"optimizer": {"learning_rate": 0.05}},
    {"optimizer": {"name": "sgd", "momentum": 0.5}},
    {"schedule": {"name": "cosine"}, "reduce_on_plateau": {"patience": 0}},
    {"label_smoothing": 0.3},
    {"batch_size": 7},
    {"class_weight": "balanced"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_a_training_by_a_used_trainer_is_that_by_a_new_one(inputs_of, tmp_path, changes: dict) -> None:
    used = HeadTrainer(WIDTH, len(CLASSES))
    before, _ = trained(used, inputs_of(), tmp_path)
    found, run = trained(used, inputs_of(**changes), tmp_path)
    expected, expected_run = trained(HeadTrainer(WIDTH, len(CLASSES)), inputs_of(**changes), tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert run.rows == expected_run.rows
    # What is varied has an effect, but where all classes have as many pictures.
    assert np.array_equal(found, before) == ("class_weight" in changes)


@pytest.mark.parametrize(("changes", "traced"), [
    ({"head": {"units": [8], "dropout": 0.1, "l2": 0.1}}, 1),
    ({"optimizer": {"learning_rate": 0.1}, "label_smoothing": 0.0, "batch_size": 7}, 1),
    ({"head": {"units": [9]}}, 2),
    ({"optimizer": {"name": "rmsprop"}}, 2),
])  # fmt: skip
def test_a_network_is_traced_anew_for_another_shape_or_optimiser_alone(
    inputs_of, tmp_path, monkeypatch, changes: dict, traced: int
) -> None:
    functions, make = [], keras.Model.make_train_function
    monkeypatch.setattr(
        keras.Model, "make_train_function",
        lambda self, force=False: (functions.append(self) if self.train_function is None else None, make(self, force)),
    )  # fmt: skip
    trainer = HeadTrainer(WIDTH, len(CLASSES))
    for line in ({}, changes):
        trained(trainer, inputs_of(**line), tmp_path)
    assert len(functions) == traced


@pytest.mark.parametrize("standardise", [True, False])
def test_the_head_takes_the_features_as_they_are(inputs_of, tmp_path, standardise) -> None:
    trainer = HeadTrainer(WIDTH, len(CLASSES))
    inputs = inputs_of(head={"units": [8], "standardise": standardise})
    found, _ = trained(trainer, inputs, tmp_path)
    head = trainer.head(inputs.backbone)
    assert ("standardise" in {layer.name for layer in head.layers}) == standardise
    np.testing.assert_allclose(head.predict(inputs.feature_rows("test")[:], verbose=0), found, atol=1e-5)
    assert keras.models.model_from_json(head.to_json()).count_params() == head.count_params()


def test_who_else_draws_random_numbers_changes_nothing(inputs_of, tmp_path, monkeypatch) -> None:
    expected, _ = trained(HeadTrainer(WIDTH, len(CLASSES)), inputs_of(), tmp_path)
    stop = threading.Event()

    def draw() -> None:
        while not stop.wait(1e-5):
            random.random()
            np.random.random()  # noqa: NPY002 (what others may use)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        found, _ = trained(HeadTrainer(WIDTH, len(CLASSES)), inputs_of(), tmp_path)
    finally:
        stop.set()
        thread.join()
    np.testing.assert_array_equal(found, expected)
