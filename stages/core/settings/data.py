"""Section `data` of params.yaml: where the images are, and which are left out."""

import re
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from stages.core.addresses import holds_secret
from stages.core.params import Section, Tuple

# Bits of a perceptual hash, a square number.
HASH_BITS = 16**2


class DataParams(Section):
    """Section `data`: where the images are, and the limits on their sizes."""

    source: str = Field(min_length=1)
    exclude: Tuple[Annotated[str, Field(min_length=1)]]
    near_duplicates: int | None = Field(ge=0, le=HASH_BITS // 4)
    min_pixels: int = Field(ge=1, le=4096)
    max_megapixels: float = Field(gt=0, le=1000, allow_inf_nan=False)
    max_megabytes: float = Field(gt=0, le=10_000, allow_inf_nan=False)
    # Loading the libraries that describe an image counts as well.
    max_seconds: float = Field(ge=1, le=100_000, allow_inf_nan=False)
    max_memory_gigabytes: float = Field(ge=0.5, le=100_000, allow_inf_nan=False)
    max_unpacked_gigabytes: float = Field(gt=0, le=100_000, allow_inf_nan=False)
    max_unpack_minutes: float = Field(gt=0, le=100_000, allow_inf_nan=False)
    max_unpack_memory_gigabytes: float = Field(ge=0.1, le=100_000, allow_inf_nan=False)
    max_fetch_minutes: float = Field(gt=0, le=100_000, allow_inf_nan=False)
    checksum: str | None

    @field_validator("source")
    @classmethod
    def _without_a_secret(cls, value: str) -> str:
        if holds_secret(value):
            raise ValueError("an address without a password or token, which git would keep; put it into ~/.netrc")
        return value

    @field_validator("max_megapixels")
    @classmethod
    def _room_for_the_smallest(cls, value: float, info: ValidationInfo) -> float:
        smallest = info.data.get("min_pixels", 0) ** 2 / 1e6
        if value < smallest:
            raise ValueError(f"at least {smallest:g}, a square of min_pixels")
        return value

    @field_validator("checksum")
    @classmethod
    def _of_a_known_kind(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}|md5:[0-9a-fA-F]{32}", value):
            raise ValueError("null, sha256: and 64 hexadecimal digits, or md5: and 32")
        return value
