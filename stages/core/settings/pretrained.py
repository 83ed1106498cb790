"""Where the weights of a backbone come from, and which pixels they were trained on.

Used by the lines of `backbones` and by section `weights` of params.yaml.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError

from stages.core.addresses import holds_secret
from stages.core.params import Section, Tuple, nearest

# Formats of weights that Keras writes: whole models, `.weights.h5` and Keras 2's `.h5`.
WEIGHT_FILES = (".keras", ".h5")
# Sources of weights that are no file of the user's own.
PUBLISHED = frozenset({"imagenet", "random"})
_FORMATS = ("raw", "tf", "torch", "caffe")
# What a preset of KerasHub states itself.
PRESET = "preset"


class Standardised(Section):
    """Pixels as a network expects them: RGB of 0 to 255, less `mean`, divided by `deviation`, channel by channel."""

    mean: Tuple[Annotated[float, Field(ge=-1e6, le=1e6)]] = Field(min_length=3, max_length=3)
    deviation: Tuple[Annotated[float, Field(gt=0, le=1e6)]] = Field(min_length=3, max_length=3)


def _known_inputs(value: object) -> object:
    """Return `inputs` of a line, parsed; raise one ValueError for whatever is wrong with it."""
    if value in (*_FORMATS, PRESET) or isinstance(value, Standardised):
        return value
    try:
        return Standardised.model_validate(value)
    except ValidationError as error:
        hint = nearest(value, list(_FORMATS)) if isinstance(value, str) else ""
        raise ValueError(
            f"{', '.join(_FORMATS)}, or {{mean: [R, G, B], deviation: [R, G, B]}} of images of 0 to 255, with "
            f"deviations above 0{f' ({hint})' if hint else ''}"
        ) from error


Inputs = Annotated[Literal["raw", "tf", "torch", "caffe", "preset"] | Standardised, BeforeValidator(_known_inputs)]


def known_source(value: str) -> str:
    """Return `value` if it is a valid source of weights. Raise ValueError with the nearest match otherwise."""
    if holds_secret(value):
        raise ValueError("an address without a password or token, which git would keep; fetch the file yourself")
    if value in PUBLISHED or (_is_fetchable(value) and urlsplit(value).path.endswith(WEIGHT_FILES)):
        return value
    hint = nearest(value, ["imagenet", "random"])
    raise ValueError(
        "imagenet, random, or a file that Keras wrote (.keras, .weights.h5, .h5), by its path or http(s) URL"
        f"{f' ({hint})' if hint else ''}"
    )


def _is_fetchable(source: str) -> bool:
    return "://" not in source or source.startswith(("http://", "https://"))


def is_local_file(source: str) -> bool:
    """Return whether a known source of weights is a file on this machine."""
    return source not in PUBLISHED and "://" not in source
