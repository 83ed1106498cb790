"""Section `weights` of params.yaml."""

from typing import Literal

from pydantic import Field, field_validator

from stages.core.params import Section
from stages.core.settings.backbones import known_source


class WeightsParams(Section):
    """Section `weights`: where weights come from, and what to do when they are unavailable."""

    source: str = Field(min_length=1)
    mirror: str | None = Field(min_length=1)
    if_unreachable: Literal["stop", "random"]
    connect_timeout: float = Field(gt=0, le=600)

    @field_validator("source")
    @classmethod
    def _a_known_source(cls, value: str) -> str:
        return known_source(value)
