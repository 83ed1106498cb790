"""Section `explain` of params.yaml."""

from pydantic import Field

from stages.core.params import Section


class ExplainParams(Section):
    """Section `explain`: how many test pictures to explain, and to place on the map."""

    examples: int = Field(ge=0, le=100)
    map_pictures: int = Field(ge=1, le=100_000)
