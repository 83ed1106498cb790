"""What is known of a backbone before a single image is looked at: the figures that Keras publishes of its weights."""

from pathlib import Path

from pydantic import Field

from stages.core.params import Section, parse, read
from stages.report.runs import Run

_TABLE = Path(__file__).with_name("published.yaml")


class Published(Section):
    """Published figures of a builder with ImageNet's weights; sources in published.yaml.

    `parameters`, millions, are those with the classifier of 1,000 classes; `accuracy` is top-1, per cent.
    """

    parameters: float = Field(gt=0)
    accuracy: float = Field(gt=0, lt=100)
    trained_on: str


def published(run: Run) -> Published | None:
    """Return what is published of the weights of a backbone; None for other weights, or other arguments."""
    found = read(_TABLE).get(run.provenance["builder"])
    if found is None or run.provenance["weights"]["source"] != "imagenet" or run.provenance["arguments"]:
        return None
    return parse(Published, found, run.provenance["builder"])
