"""Training many heads on frozen features, as for repeats, shares, folds and searches.

TensorFlow traces the functions of a network before training it, which takes longer than training a head. So one network
is kept for each shape of head, all other settings are variables, and every training resets it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.features import normalisation
from stages.core.dataset.prepared import MappedRows
from stages.core.head import Head
from stages.core.settings.finetune import Recipe
from stages.networks import keras_heads
from stages.training.batches import BatchedDataset
from stages.training.inputs import BOTH, TrainingData
from stages.training.loop import EpochCallback, Phase, Run, fit, refit

# Rows predicted at a time.
_BATCH = 1024


@dataclass(frozen=True)
class _Network:
    """An untrained or trained head that takes normalised features, and its rates."""

    head: keras.Model
    rates: keras_heads.HeadRates


class HeadTrainer:
    """Trains dense heads for features of one width and for one number of classes.

    Their features have mean 0, and rows a norm of about 1, as for the linear head: a step of Adam changes each weight
    by about the learning rate, and on rows of norm sqrt(width) that would change a unit's input by up to width times as
    much.
    """

    def __init__(self, width: int, classes: int) -> None:
        self.width, self.classes = width, classes
        self._networks: dict[tuple[Any, ...], _Network] = {}

    def train(self, inputs: TrainingData, run: Run, checkpoints: Path, callback: EpochCallback | None = None) -> Head:
        """Train a head on `inputs`, as if the process had just started; add to `run`.

        `callback` decides after each epoch whether to stop. Raises ParameterError when training diverges.
        """
        recipe, phase = inputs.backbone, _phase(inputs.backbone)
        keras.utils.set_random_seed(inputs.seed)
        moments = normalisation(inputs.feature_rows("train"))
        data = _batched(inputs, "train", moments), _batched(inputs, "validation", moments)
        network = self._started(recipe, phase, phase.epochs * len(data[0]), data[0].read_at_once, inputs.seed)
        fit(network.head, data, phase, recipe, run, checkpoints, callback)
        return keras_heads.arrays_of(network.head, moments)

    def refit(self, inputs: TrainingData, run: Run) -> Head:
        """Train the head of `run` again, on training and validation images, for the best number of steps."""
        recipe, phase = inputs.backbone, _phase(inputs.backbone)
        keras.utils.set_random_seed(inputs.seed)
        moments = normalisation(inputs.feature_rows(BOTH))
        before, data = len(_batched(inputs, "train", moments)), _batched(inputs, BOTH, moments)
        network = self._started(recipe, phase, phase.epochs * before, data.read_at_once, inputs.seed)
        epochs = max(1, round(run.best_epoch * before / len(data)))
        refit(network.head, data, epochs, _rates(recipe, run))
        return keras_heads.arrays_of(network.head, moments)

    def _started(self, recipe: Recipe, phase: Phase, steps: int, at_once: int, seed: int) -> _Network:
        """Return the compiled network for the recipe, in the state of a new one."""
        rates = keras_heads.HeadRates()
        fresh = keras_heads.build(recipe.head, self.width, self.classes, rates, seed=seed)
        key = _shape(recipe, phase.learning_rate, steps, at_once)
        if key not in self._networks:
            keras_heads.compile_for(fresh, recipe, phase.learning_rate, steps, at_once)
            self._networks[key] = _Network(fresh, rates)
        network = self._networks[key]
        network.rates.set(recipe.head)
        for variable, value in zip(network.head.variables, fresh.variables, strict=True):
            variable.assign(value)
        keras_heads.restart(network.head.optimizer, recipe.schedule, phase.learning_rate)
        return network


def _shape(recipe: Recipe, learning_rate: float, steps: int, at_once: int) -> tuple[Any, ...]:
    """Return the settings that are traced into a network's functions and cannot be changed afterwards."""
    fixed = recipe.schedule.name == "constant"
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": 0.0})
    scheduled = None if fixed else (recipe.schedule, learning_rate, steps)
    return recipe.head.units, recipe.head.activation, optimizer, scheduled, at_once


def predict(head: Head, inputs: TrainingData, split: str) -> NDArray[np.float32]:
    """Return the probabilities of the split's images by a head, (images, classes)."""
    return np.concatenate([head.probabilities(batch) for batch in inputs.feature_rows(split).batches(_BATCH)])


def _phase(recipe: Recipe) -> Phase:
    return Phase("head", recipe.epochs, recipe.optimizer.learning_rate)


def _batched(inputs: TrainingData, split: str, moments: keras_heads.Moments) -> BatchedDataset:
    mean, deviation = moments
    return inputs.batched(split, MappedRows(inputs.feature_rows(split), lambda batch: (batch - mean) / deviation))


def _rates(recipe: Recipe, run: Run) -> Sequence[float]:
    """Return the learning rates of the epochs up to the best one; none if they follow a schedule."""
    if recipe.schedule.name != "constant":
        return []
    return [row["learning_rate"] for row in run.rows if row["phase"] == "head"][: run.best_epoch]
