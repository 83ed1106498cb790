"""The pixels that a network was trained on, as `inputs` of a line of `backbones` names them."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from stages.core.params import Section, Tuple, nearest

_FORMATS = ("raw", "tf", "torch", "caffe")
# What a preset of KerasHub states itself.
PRESET = "preset"
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The constants of keras.src.applications.imagenet_utils.preprocess_input, for images of 0 to 255; those of "caffe" are
# in the order blue, green, red.
_MEAN_AND_DEVIATION = {
    "tf": ([127.5] * 3, [127.5] * 3),
    "caffe": ([103.939, 116.779, 123.68], [1.0] * 3),
    "torch": ([255 * mean for mean in IMAGENET_MEAN], [255 * deviation for deviation in IMAGENET_DEVIATION]),
}


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


def mean_and_deviation(inputs: Inputs) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of each channel of `inputs` but "raw" and "preset", images of 0 to 255."""
    if isinstance(inputs, str):
        return _MEAN_AND_DEVIATION[inputs]
    return list(inputs.mean), list(inputs.deviation)
