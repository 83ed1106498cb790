"""Section `split` of params.yaml."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from stages.core.params import Section


class SplitParams(Section):
    """Section `split`: the fractions of validation and test (the rest trains), the source's own split, folds."""

    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    use_folders: bool
    on_leak: Literal["regroup", "drop", "stop"]
    folds: int = Field(ge=0, le=100)

    @field_validator("test")
    @classmethod
    def _room_for_training(cls, value: float, info: ValidationInfo) -> float:
        if value + info.data.get("validation", 0.0) >= 1:
            raise ValueError("validation and test below 1 together: the rest is for training")
        return value

    @field_validator("folds")
    @classmethod
    def _three_parts(cls, value: int) -> int:
        if value in {1, 2}:
            raise ValueError("0, or 3 and more: each fold has training, validation and test images")
        return value
