"""Training heads on frozen features over and over, as repeats, shares, folds and searches do.

Before it trains a network TensorFlow traces its functions, which takes longer than training a head. So a network is
kept for each shape of head, with whatever else may differ in variables, and every training starts it anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.prepared import Mapped
from stages.core.head import Head
from stages.core.settings.finetune import Recipe
from stages.heads.linear import normalisation
from stages.networks import keras_heads
from stages.training.inputs import BOTH, Inputs
from stages.training.loop import Phase, Run, Views, Watch, fit, refit

# Rows predicted at a time.
_BATCH = 1024


@dataclass(frozen=True)
class _Network:
    """An untrained or trained head that takes normalised features, and its rates."""

    head: keras.Model
    rates: keras_heads.Rates


class HeadTrainer:
    """Trains dense heads for features of one width and for one number of classes.

    They are given features of mean 0 and rows of a norm of about 1, as the linear head is: a step of Adam moves each
    weight by about the learning rate, and on rows of the norm sqrt(width) a unit's input by up to width times as much.
    """

    def __init__(self, width: int, classes: int) -> None:
        self.width, self.classes = width, classes
        self._networks: dict[tuple[Any, ...], _Network] = {}

    def train(self, inputs: Inputs, run: Run, checkpoints: Path, watch: Watch | None = None) -> Head:
        """Train a head as `inputs` say, as if the process had just started; add to `run`.

        After each epoch `watch` says whether to stop. Raises ParameterError when training diverges.
        """
        recipe, phase = inputs.backbone, _phase(inputs.backbone)
        keras.utils.set_random_seed(inputs.seed)
        moments = normalisation(inputs.feature_rows("train"))
        data = _views(inputs, "train", moments), _views(inputs, "validation", moments)
        network = self._started(recipe, phase, phase.epochs * len(data[0]), data[0].read_at_once, inputs.seed)
        fit(network.head, data, phase, recipe, run, checkpoints, watch)
        return keras_heads.arrays_of(network.head, moments)

    def refit(self, inputs: Inputs, run: Run) -> Head:
        """Train the head of `run` once more, on training and validation images, for as many steps as were best."""
        recipe, phase = inputs.backbone, _phase(inputs.backbone)
        keras.utils.set_random_seed(inputs.seed)
        moments = normalisation(inputs.feature_rows(BOTH))
        before, data = len(_views(inputs, "train", moments)), _views(inputs, BOTH, moments)
        network = self._started(recipe, phase, phase.epochs * before, data.read_at_once, inputs.seed)
        epochs = max(1, round(run.best_epoch * before / len(data)))
        refit(network.head, data, epochs, _rates(recipe, run))
        return keras_heads.arrays_of(network.head, moments)

    def _started(self, recipe: Recipe, phase: Phase, steps: int, at_once: int, seed: int) -> _Network:
        """Return the network of the recipe's shape, compiled, in the state in which a new one is."""
        rates = keras_heads.Rates()
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
    """Return what is traced into a network's functions, and cannot be changed afterwards."""
    fixed = recipe.schedule.name == "constant"
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": 0.0})
    scheduled = None if fixed else (recipe.schedule, learning_rate, steps)
    return recipe.head.units, recipe.head.activation, optimizer, scheduled, at_once


def predict(head: Head, inputs: Inputs, split: str) -> NDArray[np.float32]:
    """Return the probabilities of the split's images by a head, (images, classes)."""
    return np.concatenate([head.probabilities(batch) for batch in inputs.feature_rows(split).batches(_BATCH)])


def _phase(recipe: Recipe) -> Phase:
    return Phase("head", recipe.epochs, recipe.optimizer.learning_rate)


def _views(inputs: Inputs, split: str, moments: keras_heads.Moments) -> Views:
    mean, deviation = moments
    return inputs.batched(split, Mapped(inputs.feature_rows(split), lambda batch: (batch - mean) / deviation))


def _rates(recipe: Recipe, run: Run) -> Sequence[float]:
    """Return the learning rates of the epochs up to the best one, where they follow no schedule."""
    if recipe.schedule.name != "constant":
        return []
    return [row["learning_rate"] for row in run.rows if row["phase"] == "head"][: run.best_epoch]
