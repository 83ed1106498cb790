"""What section `report` of params.yaml says. Apart from what draws the report, so that `stages.check` is quick."""

from typing import Literal

from pydantic import Field

from stages.core.params import Section

# What makes a backbone the cheaper one; stands for a figure of data/benchmarks (`verdict.COSTS`).
Prefer = Literal["size", "latency", "flops"]


class ReportParams(Section):
    """Section `report`: in which language, what the cheapest backbone is, how many examples are shown."""

    language: Literal["en", "es"]
    prefer: Prefer
    examples: int = Field(ge=0, le=1000)


# Keys of data/metrics.json beside the backbones' names: what is right most often, and what the report says to use.
BEST, RECOMMENDED = "best", "recommended"
