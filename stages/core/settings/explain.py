"""Section `explain` of params.yaml."""

from pydantic import Field

from stages.core.params import Section


class ExplainParams(Section):
    """Section `explain`: how many test images to explain, and to place on the map."""

    examples: int = Field(ge=0, le=100)
    map_images: int = Field(ge=1, le=100_000)
