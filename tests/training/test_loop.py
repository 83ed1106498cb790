"""Training: batches in a repeatable order, epochs, and which of them is kept."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from stages.core.dataset.prepared import Rows
from stages.core.errors import ParameterError
from stages.networks import keras_heads
from stages.training.batches import BatchedDataset
from stages.training.loop import Budget, Phase, Run, callbacks, fit, mode, refit

ROWS, WIDTH, CLASSES = 48, 4, 2


@pytest.fixture
def file(tmp_path):
    """Features that tell two classes apart, and the class of each row."""
    draw = np.random.default_rng(0)
    targets = np.arange(ROWS) % CLASSES
    features = draw.normal(0, 1, (ROWS, WIDTH)) + 2.0 * targets[:, None]
    np.save(tmp_path / "features.npy", features.astype(np.float32))
    return tmp_path / "features.npy", targets


def rows(path: Path, count: int = ROWS) -> Rows:
    return Rows(pd.DataFrame({"split": "train", "row": range(count)}), {"train": path})


def data(file, **changes) -> tuple[BatchedDataset, BatchedDataset]:
    path, targets = file
    rows_of = rows(path, len(targets))
    training = BatchedDataset(rows_of, targets, CLASSES, 16, seed=1, **changes)
    return training, BatchedDataset(rows_of, targets, CLASSES, 16)


def batches(views: BatchedDataset) -> list[tuple[np.ndarray, ...]]:
    """Return inputs, targets and weights of each batch, as Keras gets them."""
    return [tuple(value.numpy() for value in batch) for batch in views.dataset()]


def compiled(recipe, rate: float = 0.01) -> keras.Model:
    keras.utils.set_random_seed(3)
    head = keras_heads.build(recipe.head, WIDTH, CLASSES)
    keras_heads.compile_for(head, recipe, rate, 100)
    return head


def trained(recipe, file, folder, epochs: int = 4, rate: float = 0.01):
    head, run = compiled(recipe, rate), Run()
    fit(head, data(file), Phase("head", epochs, rate), recipe, run, folder)
    return head, run


@pytest.fixture(params=["held", "read"])
def where(request, monkeypatch) -> str:
    """Let views be held in memory, or read in every epoch."""
    if request.param == "read":
        monkeypatch.setattr("stages.training.batches._HELD_BYTES", ROWS * WIDTH * 4 - 1)
    return request.param


def test_an_epoch_shows_every_view_once_in_an_order_of_its_own(file, where) -> None:
    views = data(file)[0]
    dataset, seen = views.dataset(), []
    for epoch in range(2):
        views.begin(epoch)
        inputs = np.concatenate([batch[0].numpy() for batch in dataset])
        np.testing.assert_array_equal(np.sort(inputs, axis=0), np.sort(np.load(file[0]), axis=0))
        seen.append(inputs)
    assert not np.array_equal(*seen)
    np.testing.assert_array_equal(seen[0][:16], batches(data(file)[0])[0][0])


def test_every_epoch_of_a_training_is_in_its_own_order(declare, file, tmp_path, where, monkeypatch) -> None:
    order, orders = BatchedDataset.order, []
    monkeypatch.setattr(BatchedDataset, "order", lambda views: orders.append((views.seed, views.epoch)) or order(views))
    trained(declare("vgg16", head={"units": [4]}, early_stopping={"patience": 0}), file, tmp_path, epochs=3)
    epochs = [epoch for seed, epoch in orders if seed is not None]
    assert epochs == ([0, 0, 1, 2] if where == "held" else [0, 1, 2])


def test_views_held_in_memory_train_as_those_read_in_every_epoch_do(declare, file, tmp_path, monkeypatch) -> None:
    recipe, found = declare("vgg16", head={"units": [4]}, early_stopping={"patience": 0}), []
    for number, kept in enumerate((ROWS * WIDTH * 4, ROWS * WIDTH * 4 - 1)):
        monkeypatch.setattr("stages.training.batches._HELD_BYTES", kept)
        (folder := tmp_path / str(number)).mkdir()
        head, run = trained(recipe, file, folder)
        found.append(
            (run.rows, [variable.numpy().tolist() for variable in head.variables if "seed" not in variable.path])
        )
    assert found[0] == found[1]


def test_the_last_batch_may_be_smaller(file, where) -> None:
    views = BatchedDataset(rows(file[0]), file[1], CLASSES, 20)
    assert [len(batch[0]) for batch in batches(views)] == [20, 20, 8]
    assert len(views) == len(views.dataset()) == 3


@pytest.mark.parametrize("count", [1, 2, 64])
def test_batches_do_not_depend_on_how_many_are_read_at_once(file, monkeypatch, count: int) -> None:
    expected = batches(data(file)[0])
    monkeypatch.setattr("stages.training.batches._READ_BYTES", count * 16 * WIDTH * 4)
    views = data(file)[0]
    assert views.read_at_once == count
    for found, other in zip(batches(views), expected, strict=True):
        for one, two in zip(found, other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_smoothed_targets_give_the_loss_that_keras_gives_with_label_smoothing(file) -> None:
    views = BatchedDataset(rows(file[0]), file[1], CLASSES, 16, smoothing=0.2)
    _, targets, _ = batches(views)[0]
    sure = np.tile(np.array([[0.9, 0.1]], dtype="float32"), (16, 1))
    one_hot = np.eye(CLASSES, dtype="float32")[file[1][:16]]
    found = keras.losses.CategoricalCrossentropy()(targets, sure)
    expected = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(one_hot, sure)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_rows_that_do_not_fit_their_targets_are_an_error(file) -> None:
    with pytest.raises(ValueError, match="48 rows with 47 targets"):
        BatchedDataset(rows(file[0]), file[1][:-1], CLASSES, 16)


def test_rows_of_several_files_are_shown_as_those_of_one_would_be(file, tmp_path) -> None:
    features = np.load(file[0])
    np.save(tmp_path / "first.npy", features[:20])
    np.save(tmp_path / "second.npy", features[20:])
    places = pd.DataFrame({"split": ["test"] * 20 + ["train"] * 28, "row": [*range(20), *range(28)]})
    apart = BatchedDataset(Rows(places, {"train": tmp_path / "second.npy", "test": tmp_path / "first.npy"}),
                  file[1], CLASSES, 16, seed=1)  # fmt: skip
    for batch, expected in zip(batches(apart), batches(data(file)[0]), strict=True):
        for found, other in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(found, other)


def test_class_weights_reach_the_batches(file) -> None:
    views = data(file, class_weights=np.array([0.5, 3.0]))[0]
    _, targets, weights = batches(views)[0]
    np.testing.assert_array_equal(weights, np.where(targets[:, 1] == 1, 3.0, 0.5).astype("float32"))


def test_class_weights_change_what_is_learned(declare, file, tmp_path) -> None:
    recipe = declare("vgg16", checkpoint={"keep": "last"})
    shares = []
    for weights in (None, np.array([0.05, 20.0])):
        head = compiled(recipe, 0.05)
        fit(head, data(file, class_weights=weights), Phase("head", 5, 0.05), recipe, Run(), tmp_path)
        shares.append(head.predict(np.load(file[0]), verbose=0)[:, 1].mean())
    assert shares[1] > shares[0] + 0.03


def test_an_epoch_is_noted_with_the_rate_that_it_was_trained_at(declare, file, tmp_path) -> None:
    recipe = declare("vgg16", early_stopping={"patience": 0}, reduce_on_plateau={"patience": 0})
    _, run = trained(recipe, file, tmp_path, epochs=2)
    keys = ["phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    assert [list(row) for row in run.rows] == [keys] * 2
    assert [(row["phase"], row["epoch"]) for row in run.rows] == [("head", 1), ("head", 2)]
    assert [row["learning_rate"] for row in run.rows] == pytest.approx([0.01, 0.01])
    assert run.seconds["head"] > 0


def test_early_stopping_stops_when_validation_does_not_improve(declare, file, tmp_path) -> None:
    line = {"head": {"units": [4]}, "reduce_on_plateau": {"patience": 0}}
    impossible = {"monitor": "val_loss", "patience": 2, "min_delta": 1e6}
    _, stopped = trained(declare("vgg16", **line, early_stopping=impossible), file, tmp_path, epochs=9)
    _, full = trained(declare("vgg16", **line, early_stopping=impossible | {"patience": 0}), file, tmp_path, epochs=9)
    assert (len(stopped.rows), len(full.rows)) == (3, 9)


def test_the_rate_is_reduced_on_a_plateau_down_to_its_minimum(declare, file, tmp_path) -> None:
    # A rate of nothing learns nothing: every epoch after the first is a plateau.
    plateau = {"patience": 1, "min_delta": 0.0, "factor": 0.1, "min_learning_rate": 2e-32}
    recipe = declare("vgg16", head={"units": [4]}, early_stopping={"patience": 0}, reduce_on_plateau=plateau)
    _, run = trained(recipe, file, tmp_path, epochs=4, rate=1e-30)
    assert [row["learning_rate"] for row in run.rows] == pytest.approx([1e-30, 1e-30, 1e-31, 2e-32], rel=0.01, abs=0)


def test_an_improvement_by_less_than_min_delta_is_a_plateau(declare, file, tmp_path) -> None:
    plateau = {"patience": 1, "min_delta": 1e6, "factor": 0.1}
    recipe = declare("vgg16", head={"units": [4]}, early_stopping={"patience": 0}, reduce_on_plateau=plateau)
    _, run = trained(recipe, file, tmp_path, epochs=3)
    assert run.rows[1]["val_loss"] < run.rows[0]["val_loss"]
    assert [row["learning_rate"] for row in run.rows] == pytest.approx([0.01, 0.01, 0.001])


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 4)])
def test_the_checkpoint_keeps_the_best_epoch_or_the_last(declare, file, tmp_path, keep: str, kept: int) -> None:
    recipe = declare(
        "vgg16",
        optimizer={"name": "sgd", "momentum": 0.0},
        early_stopping={"patience": 0},
        reduce_on_plateau={"patience": 0},
        checkpoint={"keep": keep},
    )
    path, targets = file
    # Validation has the opposite labels of training: the more is learned, the worse it gets, on every processor.
    opposite = BatchedDataset(rows(path), 1 - targets, CLASSES, 16)
    head, run = compiled(recipe, 0.1), Run()
    fit(head, (data(file)[0], opposite), Phase("head", 4, 0.1), recipe, run, tmp_path)
    losses = [row["val_loss"] for row in run.rows]
    assert losses == sorted(set(losses))
    assert run.best_epoch == kept
    loss = head.evaluate(opposite.dataset(), verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(losses[kept - 1], rel=1e-4)


def test_where_no_epoch_is_better_than_what_there_was_that_is_kept(declare, file, tmp_path) -> None:
    recipe = declare("vgg16", early_stopping={"patience": 0})
    head, run = compiled(recipe, 50.0), Run(best_value=1e-6)
    before = head.get_weights()
    fit(head, data(file), Phase("finetune", 2, 50.0), recipe, run, tmp_path)
    assert (run.best_epoch, run.best_value, len(run.rows)) == (0, 1e-6, 2)
    for found, expected in zip(head.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_watch_ends_training_after_the_epoch_that_it_is_told_of(declare, file, tmp_path) -> None:
    recipe, told = declare("vgg16", early_stopping={"patience": 0}), []

    def watch(epoch: int, measured) -> bool:
        told.append((epoch, measured["val_log_loss"]))
        return epoch == 1

    run = Run()
    fit(compiled(recipe), data(file), Phase("head", 5, 0.01), recipe, run, tmp_path, watch)
    assert told == [(number, pytest.approx(row["val_loss"], rel=1e-5)) for number, row in enumerate(run.rows)]
    assert len(told) == 2


@pytest.mark.parametrize(
    ("ends", "minutes", "expected"),
    [
        ([50, 100, 150], 3, [False, False, True]),
        ([50, 100, 150], 2.4, [False, True, True]),
        ([200], 3, [True]),
        ([10, 100], 3, [False, True]),
    ],
)
def test_no_epoch_begins_that_would_end_after_the_minutes(
    monkeypatch, ends: list[int], minutes: float, expected: list[bool]
) -> None:
    clock = iter([1000.0, *(1000.0 + end for end in ends)])
    monkeypatch.setattr("stages.training.loop.time.perf_counter", lambda: next(clock))
    budget = Budget(minutes)
    assert [budget(epoch, {}) for epoch in range(len(ends))] == expected
    assert budget.spent == expected[-1]


@pytest.mark.parametrize(
    ("rates", "epochs", "expected"),
    [
        ([0.4, 0.4, 0.2, 0.1], 4, [0.4, 0.4, 0.2, 0.1]),
        ([0.4, 0.4, 0.2, 0.1], 2, [0.4, 0.2]),
        ([0.4, 0.1], 3, [0.4, 0.4, 0.1]),
        ([], 2, [0.01, 0.01]),
    ],
)
def test_a_refit_spreads_the_rates_over_its_epochs_each_in_its_own_order(
    declare, file, monkeypatch, rates: list[float], epochs: int, expected: list[float]
) -> None:
    head, seen = compiled(declare("vgg16", optimizer={"name": "sgd"})), []

    def fitted(dataset, *, epochs: int, callbacks: list, **_) -> None:
        for callback in callbacks:
            callback.set_model(head)
        for epoch in range(epochs):
            callbacks[0].on_epoch_begin(epoch)
            seen.append((float(head.optimizer.learning_rate), next(iter(dataset))[0].numpy()))

    monkeypatch.setattr(head, "fit", fitted)
    views = data(file)[0]
    refit(head, views, epochs, rates)
    assert [rate for rate, _ in seen] == pytest.approx(expected)
    for epoch, (_, first) in enumerate(seen):
        views.begin(epoch)
        np.testing.assert_array_equal(first, np.load(file[0])[views.order()[:16]])


def test_training_that_diverges_is_one_line(declare, tmp_path) -> None:
    np.save(tmp_path / "nan.npy", np.full((8, WIDTH), np.nan, dtype=np.float32))
    file = (tmp_path / "nan.npy", np.arange(8) % 2)
    with pytest.raises(ParameterError, match=r"training diverged: val_loss is not a number.*lower the learning rate"):
        trained(declare("vgg16", head={"units": [4]}), file, tmp_path, epochs=2)


def test_callbacks_are_those_asked_for(declare, tmp_path) -> None:
    def kinds(**line) -> list[str]:
        return [type(one).__name__ for one in callbacks(declare("vgg16", **line), tmp_path / "w.weights.h5", None)]

    assert kinds() == ["ModelCheckpoint", "EarlyStopping", "ReduceLROnPlateau"]
    off = {"early_stopping": {"patience": 0}, "reduce_on_plateau": {"patience": 0}, "checkpoint": {"keep": "last"}}
    assert kinds(**off) == []


def test_less_loss_and_more_accuracy_are_better() -> None:
    assert (mode("val_loss"), mode("val_accuracy")) == ("min", "max")
