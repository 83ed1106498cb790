"""Section `gate` of params.yaml: how far results may regress."""

from pydantic import Field

from stages.core.params import Section


class GateParams(Section):
    """Section `gate`: how far results may regress from those of an earlier comparison."""

    max_fall: float = Field(ge=0, le=1)
    significance: float = Field(gt=0, lt=1)
    keep_backbones: bool
    keep_weights: bool
    max_leaks: int = Field(ge=0)
