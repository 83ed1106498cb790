"""Training heads on frozen features over and over, as repeats, shares, folds and searches do.

Before it trains a network TensorFlow traces its functions, which takes longer than training a head. So a network is
kept for each shape of head, with whatever else may differ in variables, and every training starts it anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stages.images.prepared import Mapped
from stages.models import heads
from stages.models.inputs import Inputs
from stages.models.recipe import Recipe
from stages.models.training import Phase, Run, Views, Watch, fit

Moments = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class _Network:
    """An untrained or trained head that takes standardised features, and its rates."""

    head: keras.Model
    rates: heads.Rates


class HeadTrainer:
    """Trains heads for features of one width and for one number of classes.

    Of each training `moments`, `head` and `predict` tell until the next one.
    """

    def __init__(self, width: int, classes: int) -> None:
        self.width, self.classes = width, classes
        self.moments: Moments | None = None
        self._networks: dict[tuple[Any, ...], _Network] = {}
        self._current: _Network | None = None

    def train(self, inputs: Inputs, run: Run, checkpoints: Path, watch: Watch | None = None) -> None:
        """Train a head as `inputs` say, as if the process had just started; add to `run`.

        After each epoch `watch` says whether to stop.
        Raises ParameterError when training diverges.
        """
        recipe = inputs.backbone
        keras.utils.set_random_seed(inputs.seed)
        self.moments = None
        if recipe.head.standardise:
            self.moments = heads.moments(inputs.feature_rows("train").batches(recipe.batch_size))
        phase = Phase("head", recipe.frozen_epochs, recipe.optimizer.learning_rate)
        data = self._views(inputs, "train"), self._views(inputs, "validation")
        self._current = self._started(recipe, phase, data[0], inputs.seed)
        fit(self._current.head, data, phase, recipe, run, checkpoints, watch)

    def predict(self, inputs: Inputs, split: str) -> NDArray[np.float32]:
        """Return the probabilities of the split's pictures, (pictures, classes), by the last training."""
        found: NDArray[np.float32] = self._network.head.predict(self._views(inputs, split).dataset(), verbose=0)
        return found

    def head(self, recipe: Recipe) -> keras.Model:
        """Return the head that was trained last, as it takes features."""
        built = heads.build(recipe.head, self.width, self.classes, self.moments)
        dense = [layer for layer in built.layers if isinstance(layer, keras.layers.Dense)]
        for layer in dense:
            layer.set_weights(self._network.head.get_layer(layer.name).get_weights())
        return built

    @property
    def _network(self) -> _Network:
        assert self._current is not None
        return self._current

    def _views(self, inputs: Inputs, split: str) -> Views:
        rows = inputs.feature_rows(split)
        return inputs.views(split, rows if self.moments is None else Mapped(rows, heads.standardisation(self.moments)))

    def _started(self, recipe: Recipe, phase: Phase, training: Views, seed: int) -> _Network:
        """Return the network of the recipe's shape, compiled, in the state in which a new one is."""
        rates = heads.Rates()
        fresh = heads.build(recipe.head, self.width, self.classes, None, rates, seed=seed)
        steps = phase.epochs * len(training)
        key = _shape(recipe, phase.learning_rate, steps, training.read_at_once)
        if key not in self._networks:
            heads.compile_for(fresh, recipe, phase.learning_rate, steps, training.read_at_once)
            self._networks[key] = _Network(fresh, rates)
        network = self._networks[key]
        network.rates.set(recipe.head)
        for variable, value in zip(network.head.variables, fresh.variables, strict=True):
            variable.assign(value)
        heads.restart(network.head.optimizer, recipe.schedule, phase.learning_rate)
        return network


def _shape(recipe: Recipe, learning_rate: float, steps: int, at_once: int) -> tuple[Any, ...]:
    """Return what is traced into a network's functions, and cannot be changed afterwards."""
    fixed = recipe.schedule.name == "constant"
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": 0.0})
    scheduled = None if fixed else (recipe.schedule, learning_rate, steps)
    return recipe.head.units, recipe.head.activation, optimizer, scheduled, at_once
