"""Section `benchmark` of params.yaml."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from stages.core.params import Section, Tuple, conflict


class BenchmarkParams(Section):
    """Section `benchmark`: how often to measure."""

    warmup: int = Field(ge=0, le=100_000)
    repeats: int = Field(ge=1, le=100_000)
    batch_sizes: Tuple[Annotated[int, Field(ge=2, le=65536)]]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise conflict("batch_sizes", self.batch_sizes, "each number once, the smallest first", "sort them")
        return self
