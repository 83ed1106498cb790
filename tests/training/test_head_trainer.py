"""Dense heads, trained repeatedly: each training is like that of a new process, smooth, and reproducible."""

import random
import threading
from itertools import pairwise

import keras
import numpy as np
import pytest

from stages.core.dataset.features import normalisation
from stages.core.dataset.prepared import Lazy
from stages.core.head import Head
from stages.training import head_trainer
from stages.training.head_trainer import HeadTrainer, predict
from stages.training.inputs import BOTH, TrainingData
from stages.training.loop import Run
from tests.support.features import CLASSES, WIDTH


@pytest.fixture(scope="module")
def used() -> HeadTrainer:
    """Return a trainer that has trained whatever the tests before this one had to train."""
    return HeadTrainer(WIDTH, len(CLASSES))


def train(trainer: HeadTrainer, inputs: TrainingData, folder) -> tuple[Head, Run]:
    run = Run()
    (checkpoints := folder / f"checkpoints{len(list(folder.iterdir()))}").mkdir()
    return trainer.train(inputs, run, checkpoints), run


CHANGES = [
    {},
    {"seed": 4},
    {"views": 1},
    {"head": {"units": [8], "dropout": 0.0}},
    {"head": {"units": [8], "l2": 0.3}},
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
def test_a_training_by_a_used_trainer_is_that_by_a_new_one(used, inputs_of, tmp_path, changes: dict) -> None:
    before, _ = train(used, inputs_of(epochs=2), tmp_path)
    inputs = inputs_of(epochs=2, **changes)
    (found, run), (expected, expected_run) = (
        train(trainer, inputs, tmp_path) for trainer in (used, HeadTrainer(WIDTH, len(CLASSES)))
    )
    own = predict(found, inputs, "test")
    np.testing.assert_array_equal(own, predict(expected, inputs, "test"))
    assert run.rows == expected_run.rows
    # What is varied has an effect, but where all classes have as many images.
    assert np.array_equal(own, predict(before, inputs, "test")) == (not changes or "class_weight" in changes)


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
        train(trainer, inputs_of(epochs=1, **line), tmp_path)
    assert len(functions) == traced


def test_the_arrays_predict_what_keras_does(used, inputs_of, tmp_path) -> None:
    # Without a penalty the loss is the log loss.
    inputs = inputs_of(head={"units": [8, 4], "activation": "selu", "l2": 0.0})
    head, run = train(used, inputs, tmp_path)
    network = next(each.head for key, each in used._networks.items() if key[:2] == ((8, 4), "selu"))
    mean, deviation = normalisation(inputs.feature_rows("train"))
    expected = network.predict((inputs.feature_rows("test")[:] - mean) / deviation, verbose=0)
    np.testing.assert_allclose(predict(head, inputs, "test"), expected, rtol=1e-5)
    # And these are of the epoch that validation prefers.
    right = predict(head, inputs, "validation")[np.arange(20), inputs.targets("validation")]
    assert -np.log(right).mean() == pytest.approx(min(row["val_loss"] for row in run.rows), rel=1e-4)


def test_a_refit_sees_validation_images_for_as_many_steps_at_the_same_rates(
    used, inputs_of, tmp_path, monkeypatch
) -> None:
    # A tiny patience: the rate falls on the way.
    inputs = inputs_of(epochs=9, optimizer={"learning_rate": 0.1}, reduce_on_plateau={"patience": 1})
    rates, fit = [], keras.Model.fit
    head, run = train(used, inputs, tmp_path)

    def noted(self, *arguments, callbacks: list, **named) -> None:
        note = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: rates.append(float(self.optimizer.learning_rate)))
        fit(self, *arguments, callbacks=[*callbacks, note], **named)

    monkeypatch.setattr(keras.Model, "fit", noted)
    again = used.refit(inputs, run)
    best = [row["learning_rate"] for row in run.rows][: run.best_epoch]
    steps = {split: len(inputs.batched(split, inputs.feature_rows(split))) for split in ("train", BOTH)}
    assert (steps["train"], steps[BOTH]) == (3, 4)
    assert len(rates) == round(run.best_epoch * 3 / 4)
    assert rates == pytest.approx([best[epoch * len(best) // len(rates)] for epoch in range(len(rates))])
    np.testing.assert_array_equal(again.moments[0], normalisation(inputs.feature_rows(BOTH))[0])
    assert not np.array_equal(predict(again, inputs, "validation"), predict(head, inputs, "validation"))


def test_a_refit_is_the_same_whatever_was_trained_before(used, inputs_of, tmp_path) -> None:
    inputs, found = inputs_of(views=1), []
    for trainer in (used, HeadTrainer(WIDTH, len(CLASSES))):
        _, run = train(trainer, inputs, tmp_path)
        found.append(predict(trainer.refit(inputs, run), inputs, "test"))
    np.testing.assert_array_equal(*found)


def test_features_of_any_scale_train_alike(used, inputs_of, tmp_path) -> None:
    inputs = inputs_of()
    expected, _ = train(used, inputs, tmp_path)
    found = predict(expected, inputs, "test")
    for split in ("train", "validation", "test"):
        np.save(inputs.features / f"{split}.npy", np.load(inputs.features / f"{split}.npy") * np.float32(2.0**-33))
    small, _ = train(used, inputs, tmp_path)
    np.testing.assert_allclose(predict(small, inputs, "test"), found, rtol=1e-4)


@pytest.fixture
def wide(inputs_of) -> TrainingData:
    """Return inputs of 2048 features, as a ResNet has them, and of the optimiser as it is shipped."""
    inputs, draw = inputs_of(head={"units": [64], "dropout": 0.0, "l2": 0.0}, epochs=6), np.random.default_rng(0)
    for split, count in inputs.index["split"].value_counts().items():
        classes = np.arange(count)[:, None] % 2
        features = np.maximum(draw.normal(0, 1, (count, 2048)) + 0.15 * classes, 0)
        np.save(inputs.features / f"{split}.npy", features.astype(np.float32))
    return inputs


def test_wide_features_train_smoothly_where_the_first_steps_on_standardised_ones_do_harm(
    wide, tmp_path, monkeypatch
) -> None:
    trainer = HeadTrainer(2048, len(CLASSES))
    losses = _losses(trainer, wide, tmp_path)
    assert all(later < earlier for earlier, later in pairwise(losses))

    def standardised(rows: Lazy) -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = normalisation(rows)
        return mean, deviation / np.float32(np.sqrt(len(mean)))

    monkeypatch.setattr(head_trainer, "normalisation", standardised)
    # Whoever knows nothing has a loss of log 2.
    assert losses[0] < np.log(2) < _losses(trainer, wide, tmp_path)[0] - 0.05


def _losses(trainer: HeadTrainer, inputs: TrainingData, folder) -> list[float]:
    _, run = train(trainer, inputs, folder)
    return [row["val_loss"] for row in run.rows]


def test_who_else_draws_random_numbers_changes_nothing(used, inputs_of, tmp_path) -> None:
    inputs = inputs_of(epochs=2)
    expected, _ = train(used, inputs, tmp_path)
    stop = threading.Event()

    def draw() -> None:
        while not stop.wait(1e-5):
            random.random()
            np.random.random()  # noqa: NPY002 (what others may use)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        found, _ = train(HeadTrainer(WIDTH, len(CLASSES)), inputs, tmp_path)
    finally:
        stop.set()
        thread.join()
    np.testing.assert_array_equal(predict(found, inputs, "test"), predict(expected, inputs, "test"))
