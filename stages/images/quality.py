"""How fit for use a picture looks: cleanvision's scores, 0 to 1, low where something is wrong.

The definitions are those of https://github.com/cleanlab/cleanvision: `dark` is the 99th percentile of the
brightness, `light` 1 minus its 5th percentile, `low_information` the entropy, `blurry` the spread of the
edges together with that of the grey levels, `odd_aspect_ratio` the shorter side by the longer.
"""

from typing import Any

import pandas as pd
from cleanvision.issue_managers.image_property import (
    AspectRatioProperty,
    BlurrinessProperty,
    BrightnessProperty,
    EntropyProperty,
    ImageProperty,
)
from PIL import Image

# Longer side at which a picture is measured, pixels: its look does not depend on more, the time does.
_SIDE = 128
# Each score's property, and the options with which cleanvision itself turns the measure into the score
# (`ImagePropertyIssueManager.get_default_params`).
_SCORES: dict[str, tuple[ImageProperty, dict[str, float]]] = {
    "dark": (BrightnessProperty("dark"), {}),
    "light": (BrightnessProperty("light"), {}),
    "blurry": (BlurrinessProperty(), {"normalizing_factor": 0.01, "color_threshold": 0.18}),
    "low_information": (EntropyProperty(), {"normalizing_factor": 0.1}),
    "odd_aspect_ratio": (AspectRatioProperty(), {}),
}
SCORES = tuple(_SCORES)
MEASURES = tuple(column for measure, _ in _SCORES.values() for column in measure.score_columns)


def measure(image: Image.Image) -> tuple[float, ...]:
    """Return the values of `MEASURES` for an RGB picture."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    # The shape is that of the picture itself: a thumbnail has at least one pixel on the shorter side.
    found: dict[str, Any] = {"aspect_ratio": min(image.size) / max(image.size)}
    for name in ("dark", "blurry", "low_information"):
        found |= _SCORES[name][0].calculate(small)
    return tuple(float(found[column]) for column in MEASURES)


def scores(measures: pd.DataFrame) -> pd.DataFrame:
    """Return the columns `SCORES` for the columns `MEASURES` of each picture."""
    columns = {
        name: score.get_scores(measures, name, **options)[f"{name}_score"] for name, (score, options) in _SCORES.items()
    }
    return pd.DataFrame(columns)
