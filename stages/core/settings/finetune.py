"""Section `finetune` of params.yaml, any key of which a backbone's line may override.

Imports no Keras: `stages.check` reads these classes before anything heavy is loaded.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from stages.core.params import Section, Tuple, conflict

Monitor = Literal["val_loss", "val_accuracy"]
Pooling = Literal["average", "max", "flatten"]


def _rising_shares(value: tuple[float, ...]) -> tuple[float, ...]:
    if list(value) != sorted(set(value)) or any(not 0 < share < 1 for share in value):
        raise ValueError("rising fractions between 0 and 1, for instance [0.5, 0.75]")
    return value


class Head(Section):
    """The layers on top of a backbone: pooling, normalisation, dense layers with dropout, softmax.

    Without `units` it is the linear head. `choose` says whether the linear head may replace a declared one.
    """

    pooling: Pooling
    units: Tuple[Annotated[int, Field(ge=1, le=65536)]]
    activation: Literal["relu", "gelu", "silu", "elu", "selu", "leaky_relu", "tanh"]
    dropout: float = Field(ge=0, lt=1)
    l2: float = Field(ge=0, le=10)
    choose: Literal["best", "declared"]


class Linear(Section):
    """The linear head: the inverse strengths of its L2 penalty to try, scikit-learn's C."""

    c: Tuple[Annotated[float, Field(gt=0, le=1e9)]] = Field(min_length=1)

    @field_validator("c")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("rising values, for instance [1, 10, 100]")
        return value


class Optimizer(Section):
    """An optimiser of Keras (https://keras.io/api/optimizers/)."""

    name: Literal["sgd", "rmsprop", "adam", "adamw"]
    learning_rate: float = Field(gt=0, le=100)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=1)
    clip_norm: float | None = Field(gt=0)


class Schedule(Section):
    """How the learning rate changes over a phase (https://keras.io/api/optimizers/learning_rate_schedules/)."""

    name: Literal["constant", "cosine", "exponential", "step"]
    warmup: float = Field(ge=0, lt=1)
    decay: float = Field(gt=0, le=1)
    boundaries: Tuple[float]

    @field_validator("warmup")
    @classmethod
    def _only_cosine_warms_up(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("name", "cosine") != "cosine":
            raise ValueError(f"0 with schedule '{info.data['name']}': only cosine warms up")
        return value

    @field_validator("boundaries")
    @classmethod
    def _boundaries_rise(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return _rising_shares(value)


class EarlyStopping(Section):
    """When to stop before the last epoch (keras.callbacks.EarlyStopping)."""

    monitor: Monitor
    patience: int = Field(ge=0)
    min_delta: float = Field(ge=0)


class ReduceOnPlateau(Section):
    """When to lower the learning rate (keras.callbacks.ReduceLROnPlateau)."""

    monitor: Monitor
    patience: int = Field(ge=0)
    min_delta: float = Field(ge=0)
    factor: float = Field(gt=0, lt=1)
    min_learning_rate: float = Field(ge=0)


class Checkpoint(Section):
    """Which epoch's weights are kept (keras.callbacks.ModelCheckpoint)."""

    monitor: Monitor
    keep: Literal["best", "last"]


def _count_share_or_all(value: object) -> object:
    count, share = type(value) is int and value >= 0, isinstance(value, float) and 0 < value < 1
    if value != "all" and not count and not share:
        raise ValueError("0, 1, 2, ..., a fraction of the blocks between 0 and 1, or all")
    return value


class Unfreeze(Section):
    """Phase 2: how much of the backbone is trained, from the top, and how.

    `schedule` says how the learning rate changes over the epochs: constant, or down to 0 along a cosine, after a linear
    rise over a fraction `warmup` of the steps. `decay` is the factor between the rates of a block and the block above
    it; `minutes` limits the time of one training, and `cache_gb` the size of the intermediate activations on disk.
    """

    blocks: Annotated[int | float | Literal["all"], BeforeValidator(_count_share_or_all)]
    epochs: int = Field(ge=1, le=100_000)
    learning_rate: float = Field(gt=0, le=100)
    schedule: Literal["constant", "cosine"]
    warmup: float = Field(ge=0, lt=1)
    decay: float = Field(gt=0, le=1)
    minutes: float = Field(gt=0, le=1e6)
    cache_gb: float = Field(ge=0, le=100_000, allow_inf_nan=False)
    repeats: int = Field(ge=1, le=100)


class Recipe(Section):
    """Section `finetune`: how a head, and then the top of a backbone, are trained."""

    linear: Linear
    head: Head
    refit: bool
    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=65536)
    optimizer: Optimizer
    schedule: Schedule
    label_smoothing: float = Field(ge=0, lt=1)
    class_weight: Literal["none", "balanced"]
    early_stopping: EarlyStopping
    reduce_on_plateau: ReduceOnPlateau
    checkpoint: Checkpoint
    unfreeze: Unfreeze
    repeats: int = Field(ge=1, le=100)
    training_shares: Tuple[float]
    training_draws: int = Field(ge=1, le=1000)

    # Validators of fields, not of the model: they run even if other keys are at fault.
    @field_validator("reduce_on_plateau")
    @classmethod
    def _one_rule_for_the_rate(cls, value: ReduceOnPlateau, info: ValidationInfo) -> ReduceOnPlateau:
        schedule = info.data.get("schedule")
        if value.patience and schedule and schedule.name != "constant":
            expected = f"0 with schedule.name '{schedule.name}': each would override the other"
            raise conflict(
                "patience",
                value.patience,
                expected,
                "set reduce_on_plateau.patience to 0, or schedule.name to constant",
            )
        return value

    @field_validator("training_shares")
    @classmethod
    def _shares_rise(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return _rising_shares(value)
