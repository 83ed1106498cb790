"""Training: a phase of epochs, and which epoch's weights are kept."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from stages.core.errors import ParameterError
from stages.core.settings.finetune import Recipe
from stages.training.batches import BatchedDataset

log = logging.getLogger(__name__)
# Called after each epoch with its number, from 0, and Keras's metrics (val_log_loss, val_accuracy and others); returns
# True to stop.
EpochCallback = Callable[[int, Mapping[str, float]], bool]
_MEASURED = ("loss", "accuracy", "val_loss", "val_accuracy")


def expect_tracing() -> None:
    """Suppress TensorFlow's warning about retracing: each shape of network has its own functions."""
    logging.getLogger("tensorflow").addFilter(_unexpected)


def _unexpected(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()


@dataclass
class Run:
    """The record of a training: a row per epoch as in history.csv, seconds per phase, the kept epoch (0: none)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_value: float | None = None


@dataclass(frozen=True)
class Phase:
    """One phase: its name, its maximum number of epochs, and its initial learning rate."""

    name: str
    epochs: int
    learning_rate: float


def fit(
    model: keras.Model,
    data: tuple[BatchedDataset, BatchedDataset],
    phase: Phase,
    recipe: Recipe,
    run: Run,
    checkpoints: Path,
    callback: EpochCallback | None = None,
) -> None:
    """Train a compiled `model` for one phase on (training, validation) and leave the kept weights in it.

    With `checkpoint.keep: best` these are the weights of the best epoch on validation, or those from before the
    phase if `run` already has a better value. Adds to `run`.
    """
    training, validation = data
    path = checkpoints / f"{phase.name}.weights.h5"
    before = model.get_weights()
    log_epochs, begin = _Epochs(phase, run, training, callback), time.perf_counter()
    model.fit(
        training.dataset(),
        validation_data=validation.dataset(),
        epochs=phase.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[log_epochs, *callbacks(recipe, path, run.best_value)],
    )
    run.seconds[phase.name] = time.perf_counter() - begin
    _note_best(recipe, run)
    if recipe.checkpoint.keep == "best":
        # Without a file no epoch was better than the value before the phase.
        model.load_weights(path) if path.exists() else model.set_weights(before)


def refit(model: keras.Model, training: BatchedDataset, epochs: int, rates: Sequence[float]) -> None:
    """Train a compiled `model` for `epochs` epochs, without validation, with the learning rates of another fit.

    `rates` are those of its epochs, stretched evenly over these; empty if the rate follows a schedule.
    """

    class Order(keras.callbacks.Callback):  # type: ignore[misc]
        """Sets the order and the learning rate of each epoch."""

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 (Keras's)
            training.begin(epoch)
            if rates:
                self.model.optimizer.learning_rate = rates[epoch * len(rates) // epochs]

    model.fit(training.dataset(), epochs=epochs, shuffle=False, verbose=0, callbacks=[Order()])


class Budget:
    """Stops training after an epoch if another one would exceed `minutes` since the first began."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.begun, self.last, self.spent = 60 * minutes, time.perf_counter(), 0.0, False

    def __call__(self, epoch: int, measured: Mapping[str, float]) -> bool:  # noqa: ARG002 (a Watch)
        """Return whether to stop after this epoch."""
        passed = time.perf_counter() - self.begun
        self.last, took = passed, passed - self.last
        self.spent = passed + took > self.seconds
        return self.spent


def _note_best(recipe: Recipe, run: Run) -> None:
    """Record in `run` which epoch's weights are kept.

    Raises ParameterError when training diverged and there are no earlier weights to keep.
    """
    if recipe.checkpoint.keep == "last":
        run.best_epoch = len(run.rows)
        return
    monitor = recipe.checkpoint.monitor
    values = [row[monitor] for row in run.rows]
    if not np.isfinite(values).any():
        if run.best_value is not None:
            log.warning("training diverged: %s is not a number in any epoch; the weights from before are kept", monitor)
            return
        raise ParameterError(
            f"training diverged: {monitor} is not a number in any epoch",
            "a finite loss",
            "lower the learning rate, or set optimizer.clip_norm",
        )
    best = int(np.nanargmin(values) if mode(monitor) == "min" else np.nanargmax(values))
    sign = 1 if mode(monitor) == "min" else -1
    if run.best_value is None or sign * values[best] < sign * run.best_value:
        run.best_epoch, run.best_value = best + 1, values[best]


def callbacks(recipe: Recipe, path: Path, threshold: float | None) -> list[keras.callbacks.Callback]:
    """Return the callbacks for `recipe`; `threshold` is the value that a checkpoint must beat."""
    chosen: list[keras.callbacks.Callback] = []
    if recipe.checkpoint.keep == "best":
        monitor = recipe.checkpoint.monitor
        chosen.append(
            keras.callbacks.ModelCheckpoint(
                path,
                monitor=monitor,
                mode=mode(monitor),
                save_best_only=True,
                save_weights_only=True,
                initial_value_threshold=threshold,
            )
        )
    stopping = recipe.early_stopping
    if stopping.patience:
        chosen.append(
            keras.callbacks.EarlyStopping(
                stopping.monitor, stopping.min_delta, stopping.patience, mode=mode(stopping.monitor)
            )
        )
    plateau = recipe.reduce_on_plateau
    if plateau.patience:
        chosen.append(
            keras.callbacks.ReduceLROnPlateau(
                plateau.monitor,
                plateau.factor,
                plateau.patience,
                mode=mode(plateau.monitor),
                min_delta=plateau.min_delta,
                min_lr=plateau.min_learning_rate,
            )
        )
    return chosen


def mode(monitor: str) -> str:
    """Return Keras's mode for a metric: min if lower is better, else max."""
    return "min" if monitor.endswith("loss") else "max"


class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the order of each epoch, records it with its learning rate, and logs it."""

    def __init__(self, phase: Phase, run: Run, training: BatchedDataset, callback: EpochCallback | None) -> None:
        super().__init__()
        self.phase, self.run, self.training, self.callback = phase, run, training, callback

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 (Keras's)
        self.training.begin(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        found = {name: float((logs or {})[name]) for name in _MEASURED}
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.run.rows.append(
            {"phase": self.phase.name, "epoch": len(self.run.rows) + 1, **found, "learning_rate": rate}
        )
        log.info(
            "%s %d/%d: loss %.4f, accuracy %.3f; validation loss %.4f, accuracy %.3f",
            self.phase.name, epoch + 1, self.phase.epochs,
            found["loss"], found["accuracy"], found["val_loss"], found["val_accuracy"],
        )  # fmt: skip
        if self.callback and self.callback(epoch, logs or {}):
            self.model.stop_training = True
