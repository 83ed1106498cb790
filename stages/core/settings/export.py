"""Section `export` of params.yaml."""

from typing import Literal

from pydantic import Field, field_validator

from stages.core.params import Section, Tuple

Format = Literal["keras", "saved_model", "onnx", "openvino", "litert", "litert_int8"]
# In export.backbones: the backbone that the report recommends, or else the best one.
WINNER = "winner"


class ExportParams(Section):
    """Section `export`: what is exported, in which forms, and how far a float32 form may deviate from Keras."""

    backbones: Tuple[str] = Field(min_length=1)
    formats: Tuple[Format] = Field(min_length=1)
    calibration_images: int = Field(ge=1, le=100_000)
    test_images: int = Field(ge=1, le=1_000_000)
    tolerance: float = Field(ge=0, le=1)
    largest_difference: float = Field(ge=0, le=1)
    latency_repeats: int = Field(ge=1, le=100_000)

    @field_validator("backbones", "formats")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each name once")
        return value
