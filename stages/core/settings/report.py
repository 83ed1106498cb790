"""Section `report` of params.yaml, and keys of data/metrics.json that several stages read."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from stages.core.params import Section

# The cost by which a backbone is cheaper; each is a figure of data/benchmarks (`verdict.COSTS`).
Prefer = Literal["size", "latency", "flops"]


class ReportParams(Section):
    """Section `report`: its language, what a cheaper backbone may lose, how costs are compared, how many examples."""

    language: Literal["en", "es"]
    # Percentage points of accuracy.
    margin: float = Field(ge=0, le=100)
    prefer: Prefer
    examples: int = Field(ge=0, le=1000)


# Keys of data/metrics.json beside the backbones' names: the most accurate backbone, and the recommended one.
BEST, RECOMMENDED = "best", "recommended"


def winner(metrics: Mapping[str, Any]) -> str:
    """Return the backbone of data/metrics.json that ships: the recommended one, or else the best."""
    return str(metrics.get(RECOMMENDED) or metrics[BEST])
