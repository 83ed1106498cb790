"""Training the top of a network together with its head.

It starts from the linear head (Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform
out-of-distribution", https://arxiv.org/abs/2202.10054): a random head would first distort the features. Lower blocks
have lower learning rates (Howard and Ruder 2018, section 3.2), BatchNormalization stays frozen, except where
`blocks: all` meets random weights. A network without weights to load, such as `scratch`, is trained as a whole, with a
random head.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.prepared import Lazy
from stages.core.head import Head
from stages.core.settings.backbones import Backbone
from stages.core.settings.finetune import Recipe, Schedule
from stages.networks import activations, architectures, extraction, keras_engine, keras_heads
from stages.networks.engine import IMAGE, Choice
from stages.training.batches import BatchedDataset
from stages.training.inputs import TrainingData
from stages.training.loop import Budget, Phase, Run, fit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedTop:
    """A trained top: the network above the tensor `start`, its head, the probabilities of some splits.

    `part` is both as one network, as it was trained. `spent` says whether training was stopped by its time limit.
    """

    top: keras.Model
    start: str
    part: keras.Model
    head: Head
    blocks: int
    probabilities: Mapping[str, NDArray[np.float32]]
    spent: bool

    def free_memory(self) -> None:
        """Free the memory of the network, which cannot be used afterwards."""
        keras_engine.free_memory(self.part)


class TopTrainer:
    """Trains the top of one backbone, repeatedly; activations are kept in the folder `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    def train(self, inputs: TrainingData, head: Head | None, run: Run, splits: tuple[str, ...]) -> TrainedTop:
        """Train on `inputs`, from a fitted `head` or a random one; add to `run`; predict the images of `splits`.

        Raises ParameterError when training diverges.
        """
        recipe = inputs.backbone
        keras.utils.set_random_seed(inputs.seed)
        assert inputs.weights is not None
        backbone = keras_engine.load(inputs.weights / keras_engine.BACKBONE)
        start = architectures.split_point(backbone, recipe.unfreeze.blocks, recipe.name)
        # Random weights come with a mean of 0 and a variance of 1: frozen, their BatchNormalization would do nothing.
        untrained = start == IMAGE and inputs.network["weights"]["source"] == "random"
        top = architectures.top(backbone, start, train_normalization=untrained)
        built = keras_heads.joined(head) if head else _random_head(inputs, top)
        part = keras.Model(top.input, built(top.output), name="trained")
        rows = self._rows(inputs, start, ("train", "validation", *splits))
        data = [inputs.batched(split, rows[split]) for split in ("train", "validation")]
        depths = architectures.depths(top)
        factors = {path: recipe.unfreeze.decay**depth for path, depth in depths.items()}
        spent = self._fit(part, (data[0], data[1]), inputs, run, factors, begun=head is not None)
        found = {split: _predict(part, inputs.batched(split, rows[split])) for split in splits}
        arrays = keras_heads.arrays_of(built, head.moments if head else None)
        blocks = len({depths[variable.path] for variable in top.trainable_variables})
        return TrainedTop(top, start, part, arrays, blocks, found, spent)

    def _fit(
        self,
        part: keras.Model,
        data: tuple[BatchedDataset, BatchedDataset],
        inputs: TrainingData,
        run: Run,
        factors: Mapping[str, float],
        *,
        begun: bool,
    ) -> bool:
        """Train one phase; return whether it hit its time limit. If `begun`, the first weights can be kept."""
        recipe, unfreeze = _recipe(inputs.backbone), inputs.backbone.unfreeze
        phase = Phase("finetune", unfreeze.epochs, unfreeze.learning_rate)
        at_once = data[0].read_at_once
        keras_heads.compile_for(part, recipe, phase.learning_rate, phase.epochs * len(data[0]), at_once, factors)
        if begun:
            run.best_value = _measured(part, data[1], recipe.checkpoint.monitor)
        (checkpoints := self.scratch / "checkpoints").mkdir(exist_ok=True)
        for left in checkpoints.iterdir():
            # A phase that never improves writes no checkpoint, and must not find that of an earlier training.
            left.unlink()
        budget = Budget(unfreeze.minutes)
        fit(part, data, phase, recipe, run, checkpoints, budget)
        return budget.spent and len(run.rows) < phase.epochs

    def _rows(self, inputs: TrainingData, start: str, splits: tuple[str, ...]) -> dict[str, Lazy]:
        """Return the inputs of the trained part for each split: images, or intermediate activations."""
        images = {split: inputs.image_rows(split) for split in splits}
        if start == IMAGE:
            return images
        choice = Choice(*(inputs.computed[key] for key in ("engine", "precision", "threads")))
        assert inputs.weights is not None
        network, limit = extraction.forward(inputs.weights, choice, (start,)), inputs.backbone.unfreeze.cache_gb
        needed = sum(activations.size_gb(network, start, rows) for rows in images.values())
        if needed > limit:
            log.warning(
                "%s: activations for phase 2 would take %.3g GB, more than finetune.unfreeze.cache_gb = %g: they are "
                "recomputed in each epoch, which takes longer",
                inputs.backbone.name, needed, limit,
            )  # fmt: skip
            return {split: activations.recomputed(network, start, rows) for split, rows in images.items()}
        return {
            split: activations.kept(network, start, rows, self.scratch / f"{split}.npy")
            for split, rows in images.items()
        }


def _recipe(backbone: Backbone) -> Recipe:
    """Return the recipe with the schedule of phase 2; reduce_on_plateau applies only to a constant one."""
    unfreeze = backbone.unfreeze
    warmup = unfreeze.warmup if unfreeze.schedule == "cosine" else 0.0
    schedule = Schedule(name=unfreeze.schedule, warmup=warmup, decay=1.0, boundaries=())
    changed: dict[str, Any] = {"schedule": schedule}
    if schedule.name != "constant":
        changed["reduce_on_plateau"] = backbone.reduce_on_plateau.model_copy(update={"patience": 0})
    return backbone.model_copy(update=changed)


def _random_head(inputs: TrainingData, top: keras.Model) -> keras.Model:
    return keras_heads.build(inputs.backbone.head, top.output.shape[-1], len(inputs.classes), seed=inputs.seed)


def _measured(part: keras.Model, validation: BatchedDataset, monitor: str) -> float:
    found = part.evaluate(validation.dataset(), verbose=0, return_dict=True)
    return float(found[monitor.removeprefix("val_")])


def _predict(part: keras.Model, views: BatchedDataset) -> NDArray[np.float32]:
    found: NDArray[np.float32] = part.predict(views.dataset(), verbose=0)
    return found
