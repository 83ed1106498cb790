"""Section `preprocess` of params.yaml: how images are prepared, and the augmented views of them."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.core.params import Section, Tuple


class AugmentationParams(Section):
    """Section `preprocess.augmentation`: how far a view may differ from its image; 0 and false: not at all."""

    rotation: float = Field(ge=0, le=180)
    flip_horizontal: bool
    flip_vertical: bool
    zoom: float = Field(ge=0, lt=1)
    translation: float = Field(ge=0, le=1)
    contrast: float = Field(ge=0, le=1)
    fill: Literal["reflect", "nearest", "constant"]


class ViewParams(Section):
    """Of section `preprocess`: how many augmented views each training image has, and how they are drawn."""

    views: int = Field(ge=0, le=100)
    augmentation: AugmentationParams


class SquareParams(Section):
    """Of section `preprocess`: the sizes to prepare, and how an image becomes square."""

    sizes: Tuple[Annotated[int, Field(ge=32, le=1024)]] = Field(min_length=1)
    fit: Literal["stretch", "crop", "pad"]

    @field_validator("sizes")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each size once")
        return value


class PreprocessParams(ViewParams, SquareParams):
    """Section `preprocess`: how images are prepared, and the augmented views for training."""
