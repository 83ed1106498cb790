"""Section `tune` of params.yaml: which hyperparameters a search varies, and how its choice is applied to a backbone.

Imports no Keras and no Optuna: `stages.check` reads these classes before anything heavy is loaded.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from stages.core.params import Section, Tuple
from stages.core.settings.backbones import Backbone

N = TypeVar("N", int, float)


def _ends(value: tuple[float, ...]) -> tuple[float, ...]:
    if value and not (len(value) == 2 and value[0] < value[1]):  # noqa: PLR2004 (two ends)
        raise ValueError("two rising numbers, from and to, or [] to leave it as it is")
    return value


def _different(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(value)) != len(value):
        raise ValueError("each choice once")
    return value


# From and to; empty: not searched.
Rate = Annotated[Tuple[Annotated[float, Field(gt=0, le=100)]], AfterValidator(_ends)]
Share = Annotated[Tuple[Annotated[float, Field(ge=0, lt=1)]], AfterValidator(_ends)]
# Choices; empty: not searched.
Units = Tuple[Annotated[int, Field(ge=1, le=65536)]]


class Space(Section):
    """Section `tune.space`: a range or choices for each hyperparameter, to which a backbone's own value is added.

    `views` is how many of the augmented views of each image are trained on.
    """

    learning_rate: Rate
    optimizer: Annotated[Tuple[Literal["sgd", "rmsprop", "adam", "adamw"]], AfterValidator(_different)]
    batch_size: Annotated[Tuple[Annotated[int, Field(ge=1, le=65536)]], AfterValidator(_different)]
    units: Annotated[Tuple[Annotated[Units, Field(min_length=1)]], AfterValidator(_different)]
    dropout: Share
    l2: Annotated[Tuple[Annotated[float, Field(ge=0, le=10)]], AfterValidator(_different)]
    label_smoothing: Share
    views: Annotated[Tuple[Annotated[int, Field(ge=0, le=1000)]], AfterValidator(_different)]


class TuneParams(Section):
    """Section `tune`: how many trials, and the search space."""

    trials: int = Field(ge=0, le=100_000)
    startup_trials: int = Field(ge=1, le=100_000)
    pruning: bool
    space: Space


# A backbone's own value of each hyperparameter, given the number of augmented views.
_DEFAULTS: Mapping[str, Callable[[Backbone, int], Any]] = {
    "learning_rate": lambda backbone, _: backbone.optimizer.learning_rate,
    "optimizer": lambda backbone, _: backbone.optimizer.name,
    "batch_size": lambda backbone, _: backbone.batch_size,
    "units": lambda backbone, _: list(backbone.head.units),
    "dropout": lambda backbone, _: backbone.head.dropout,
    "l2": lambda backbone, _: backbone.head.l2,
    "label_smoothing": lambda backbone, _: backbone.label_smoothing,
    "views": lambda _, views: views,
}
# The hyperparameter behind each key of a head, of an optimiser, and of a backbone's line.
_PLACES: tuple[Mapping[str, str], ...] = (
    {"units": "units", "dropout": "dropout", "l2": "l2"},
    {"learning_rate": "learning_rate", "name": "optimizer"},
    {"batch_size": "batch_size", "label_smoothing": "label_smoothing"},
)


def varied(space: Space, views: int) -> list[str]:
    """Return the hyperparameters that a search varies, given the number of augmented views."""
    return [name for name in _DEFAULTS if getattr(space, name) and not (name == "views" and views == 0)]


def searched(space: Space, backbone: Backbone, views: int) -> dict[str, Any]:
    """Return the hyperparameters that a search varies, each with the backbone's own value.

    A backbone that declares no dense head starts with the first of `units`.
    """
    found = {name: _DEFAULTS[name](backbone, views) for name in varied(space, views)}
    return found | ({"units": list(space.units[0])} if space.units and not backbone.head.units else {})


def changed(backbone: Backbone, values: Mapping[str, Any]) -> Backbone:
    """Return the backbone with `values` of hyperparameters instead of its own; its line has no key for `views`."""
    head, optimizer, own = ({key: values[name] for key, name in names.items() if name in values} for names in _PLACES)
    if "units" in head:
        head["units"] = tuple(head["units"])
    return backbone.model_copy(
        update=own
        | {"head": backbone.head.model_copy(update=head), "optimizer": backbone.optimizer.model_copy(update=optimizer)}
    )
