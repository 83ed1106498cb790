"""The typed parameters of fine-tuning: section `finetune` of params.yaml, and what a backbone's line may change.

Imports no Keras: `stages.check` reads these classes before anything heavy is loaded.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.params import Section, Tuple

Monitor = Literal["val_loss", "val_accuracy"]


class Head(Section):
    """The layers that are put on a backbone: pooling, standardisation, dense layers with dropout, softmax."""

    pooling: Literal["average", "max", "flatten"]
    units: Tuple[Annotated[int, Field(ge=1, le=65536)]]
    activation: Literal["relu", "gelu", "silu", "elu", "selu", "leaky_relu", "tanh"]
    dropout: float = Field(ge=0, lt=1)
    l2: float = Field(ge=0, le=10)
    standardise: bool


class Optimizer(Section):
    """An optimiser of Keras (https://keras.io/api/optimizers/)."""

    name: Literal["sgd", "rmsprop", "adam", "adamw"]
    learning_rate: float = Field(gt=0, le=100)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=1)
    clip_norm: float | None = Field(gt=0)


class Schedule(Section):
    """How the learning rate moves over a phase (https://keras.io/api/optimizers/learning_rate_schedules/)."""

    name: Literal["constant", "cosine", "exponential", "step"]
    warmup: float = Field(ge=0, lt=1)
    decay: float = Field(gt=0, le=1)
    boundaries: Tuple[float]

    @model_validator(mode="after")
    def _boundaries_rise(self) -> Self:
        if list(self.boundaries) != sorted(set(self.boundaries)) or any(not 0 < b < 1 for b in self.boundaries):
            raise ValueError("boundaries rising between 0 and 1, for instance [0.5, 0.75]")
        if self.warmup and self.name != "cosine":
            raise ValueError(f"warmup: 0 with schedule '{self.name}' (only cosine warms up)")
        return self


class EarlyStopping(Section):
    """When to stop before the last epoch (keras.callbacks.EarlyStopping)."""

    monitor: Monitor
    patience: int = Field(ge=0)
    min_delta: float = Field(ge=0)


class ReduceOnPlateau(Section):
    """When to lower the learning rate (keras.callbacks.ReduceLROnPlateau)."""

    monitor: Monitor
    patience: int = Field(ge=0)
    factor: float = Field(gt=0, lt=1)
    min_learning_rate: float = Field(ge=0)


class Checkpoint(Section):
    """Which epoch's weights are kept (keras.callbacks.ModelCheckpoint)."""

    monitor: Monitor
    keep: Literal["best", "last"]


class Unfreeze(Section):
    """Phase 2: how much of the backbone is trained, from the top, and how."""

    blocks: int | Literal["all"]
    epochs: int = Field(ge=0, le=100_000)
    learning_rate: float = Field(gt=0, le=100)

    @model_validator(mode="after")
    def _blocks_are_counted(self) -> Self:
        if self.blocks != "all" and self.blocks < 0:
            raise ValueError("blocks: 0, 1, 2, ... or all")
        return self


class Recipe(Section):
    """Section `finetune`: how a head, and then the top of a backbone, is trained."""

    head: Head
    epochs: int = Field(ge=0, le=100_000)
    batch_size: int = Field(ge=1, le=65536)
    optimizer: Optimizer
    schedule: Schedule
    label_smoothing: float = Field(ge=0, lt=1)
    class_weight: Literal["none", "balanced"]
    early_stopping: EarlyStopping
    reduce_on_plateau: ReduceOnPlateau
    checkpoint: Checkpoint
    unfreeze: Unfreeze

    @model_validator(mode="after")
    def _phases_make_sense(self) -> Self:
        if self.schedule.name != "constant" and self.reduce_on_plateau.patience:
            raise ValueError(
                f"schedule.name: constant while reduce_on_plateau.patience is {self.reduce_on_plateau.patience}; "
                f"with '{self.schedule.name}' set reduce_on_plateau.patience to 0"
            )
        if not self.frozen_epochs + self.unfrozen_epochs:
            raise ValueError("at least one epoch in one phase (epochs, unfreeze.epochs)")
        return self

    @property
    def frozen_epochs(self) -> int:
        """Epochs of phase 1. There is none when nothing is frozen: the features would move under the head."""
        return 0 if self.unfreeze.blocks == "all" else self.epochs

    @property
    def unfrozen_epochs(self) -> int:
        """Epochs of phase 2."""
        return 0 if self.unfreeze.blocks == 0 else self.unfreeze.epochs
