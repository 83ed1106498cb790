"""Section `report` of params.yaml, and keys of data/metrics.json that several stages read."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from stages.core.params import Section

# The cost by which a backbone is cheaper; each is a figure of data/benchmarks (`verdict.COSTS`).
Prefer = Literal["size", "latency", "flops"]


# Measures by their names, that of one class's recall without its class.
ACCURACY, COST, RECALL = "accuracy", "cost", "recall:"
MEASURES = (ACCURACY, "balanced_accuracy", "macro_f1", "log_loss", COST)


def _known(value: str) -> str:
    if value not in MEASURES and not (value.startswith(RECALL) and value > RECALL):
        raise ValueError(f"{', '.join(MEASURES)}, or {RECALL} and the name of a class")
    return value


# By actual class, by predicted class.
Costs = dict[str, dict[str, Annotated[float, Field(ge=0)]]]


class MeasureParams(Section):
    """The keys of section `report` that say by which measure everything is decided."""

    measure: Annotated[str, AfterValidator(_known)]
    costs: Costs


class ReportParams(MeasureParams):
    """Section `report`: the measure, the language, what a cheaper backbone may lose, how costs are compared."""

    language: Literal["en", "es"]
    # Hundredths of the measure: percentage points where it is a share.
    margin: float = Field(ge=0, le=100)
    prefer: Prefer
    examples: int = Field(ge=0, le=1000)


# Keys of data/metrics.json beside the backbones, none of which may have such a name: the best backbone, the recommended
# one, by which measure, `report.costs` where that is the cost, and the preset unless it is `full`.
BEST, RECOMMENDED, MEASURE, COSTS, PRESET = "best", "recommended", "measure", "costs", "preset"
TAKEN = (BEST, RECOMMENDED, MEASURE, COSTS, PRESET)


def backbones_of(metrics: Mapping[str, Any]) -> list[str]:
    """Return the backbones of data/metrics.json."""
    return [name for name in metrics if name not in TAKEN]


def winner(metrics: Mapping[str, Any]) -> str:
    """Return the backbone of data/metrics.json that ships: the recommended one, or else the best."""
    return str(metrics.get(RECOMMENDED) or metrics[BEST])
