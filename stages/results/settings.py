"""What section `report` of params.yaml says. Apart from what draws the report, so that `stages.check` is quick."""

from typing import Literal

from pydantic import Field

from stages.params import Section

# What makes a backbone the cheaper one; stands for a figure of data/benchmarks (`verdict.COSTS`).
Prefer = Literal["size", "latency", "flops"]


class ReportParams(Section):
    """Section `report`: in which language, what the cheapest backbone is, how many examples are shown."""

    language: Literal["en", "es"]
    prefer: Prefer
    examples: int = Field(ge=0, le=1000)


class ProbeParams(Section):
    """What stage probe reads of section `audit`."""

    folds: int = Field(ge=2, le=100)
