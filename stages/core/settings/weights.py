"""Section `weights` of params.yaml."""

from typing import Literal

from pydantic import Field, field_validator

from stages.core.addresses import holds_secret
from stages.core.builders.source import known_source
from stages.core.params import Section

# The folder of one's own files of weights that the project comes with.
OWN_WEIGHTS = "data/own_weights"


class FetchParams(Section):
    """How published weights are fetched, and what to do when they are unavailable."""

    mirror: str | None = Field(min_length=1)
    if_unreachable: Literal["stop", "random"]
    connect_timeout: float = Field(gt=0, le=600)

    @field_validator("mirror")
    @classmethod
    def _without_a_secret(cls, value: str | None) -> str | None:
        if value and holds_secret(value):
            raise ValueError("an address without a password or token, which git would keep; fetch the files yourself")
        return value


class WeightsParams(FetchParams):
    """Section `weights`: where weights come from unless a line says so, and how they are fetched."""

    source: str = Field(min_length=1)
    folder: str = Field(min_length=1)

    @field_validator("source")
    @classmethod
    def _a_known_source(cls, value: str) -> str:
        return known_source(value)
