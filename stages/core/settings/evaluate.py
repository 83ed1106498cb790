"""Section `evaluate` of params.yaml."""

from pydantic import Field

from stages.core.params import Section


class EvaluateParams(Section):
    """Section `evaluate` of params.yaml."""

    confidence: float = Field(gt=0, lt=1)
    top_k: int = Field(ge=1)
    calibration_bins: int = Field(ge=1, le=1000)
    resamples: int = Field(ge=100, le=100_000)
