"""Section `audit` of params.yaml: what stages probe and audit read."""

from pydantic import Field

from stages.core.params import Section


class ProbeParams(Section):
    """What stage probe reads of section `audit`."""

    folds: int = Field(ge=2, le=100)


class Outliers(Section):
    """The scores below which an image is an outlier; they are cleanvision's, 0 to 1."""

    dark: float = Field(ge=0, le=1)
    light: float = Field(ge=0, le=1)
    blurry: float = Field(ge=0, le=1)
    low_information: float = Field(ge=0, le=1)
    odd_aspect_ratio: float = Field(ge=0, le=1)


class AuditParams(ProbeParams):
    """Section `audit`: the folds of stage probe, and what the audit shows and counts as an outlier."""

    thumbnails: int = Field(ge=1, le=10_000)
    outliers: Outliers
