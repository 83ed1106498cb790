"""What `arguments` in a backbone's line may hold: the arguments of its builder that are left to the user.

Imports no Keras, whose import takes seconds: `tests/core/builders/test_arguments.py` compares the classes with the
signatures of `keras.applications` (https://github.com/keras-team/keras/tree/v3.15.1/keras/src/applications). A value
that its builder accepts only with random weights is refused by the builder, in stage weights.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from stages.core.errors import GroupedUserError, UserError
from stages.core.params import Section, Tuple, parse

# Arguments of a builder that the stages set themselves; without its preprocessing a network would get raw pixels.
RESERVED = frozenset(
    {"weights", "include_top", "input_shape", "input_tensor", "pooling", "classes", "classifier_activation", "name"}
    | {"include_preprocessing"}
)


class NoArguments(Section):
    """The builders of most families take none."""


class MobileNetArguments(Section):
    """Width and depth of MobileNet; its dropout stands before the classes, which are left out."""

    alpha: float = Field(default=1, gt=0, le=10)
    depth_multiplier: int = Field(default=1, ge=1, le=10)
    dropout: float = Field(default=0.001, ge=0, lt=1)


class MobileNetV2Arguments(Section):
    """Width of MobileNetV2."""

    alpha: float = Field(default=1, gt=0, le=10)


class MobileNetV3Arguments(Section):
    """Width of MobileNetV3, and whether it does without squeeze-and-excite, hard-swish and 5x5 convolutions."""

    alpha: float = Field(default=1, gt=0, le=10)
    minimalistic: bool = False
    dropout_rate: float = Field(default=0.2, ge=0, lt=1)


class ScratchArguments(Section):
    """Widths of the convolutions of `scratch`, each of which halves the image's side."""

    filters: Tuple[Annotated[int, Field(ge=1, le=65536)]] | None = None


# By the module of a family; others take none.
ARGUMENTS: Mapping[str, type[Section]] = {
    "mobilenet": MobileNetArguments,
    "mobilenet_v2": MobileNetV2Arguments,
    "mobilenet_v3": MobileNetV3Arguments,
    "scratch": ScratchArguments,
}


def argument_faults(module: str, arguments: object, key: str) -> list[UserError]:
    """Return the faults of the `arguments` at `key` for a builder of `module`, by their names and values.

    Those that are no mapping, or of which the stages set some themselves, are faults of the line.
    """
    if not isinstance(arguments, Mapping):
        return []
    own = {name: value for name, value in arguments.items() if isinstance(name, str) and name not in RESERVED}
    try:
        parse(ARGUMENTS.get(module, NoArguments), own, key)
    except GroupedUserError as group:
        return group.faults
    return []
