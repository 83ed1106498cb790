"""The builders of `keras.applications`, and the images that their networks expect.

Imports no Keras, whose import takes seconds: `tests/core/builders/test_families.py` compares the table with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stages.core.builders import hub
from stages.core.builders.onnx_files import ONNX

# The small CNN that has no weights before it is trained.
SCRATCH = "scratch"


@dataclass(frozen=True)
class Family:
    """The images that the networks of one module of `keras.applications` expect.

    `inputs` is the pixel format that the networks were trained on: "caffe" (BGR, ImageNet's mean
    subtracted), "tf" (-1 to 1), "torch" (ImageNet's mean and deviation), or "raw" (0 to 255: the network
    rescales them itself). Source: `preprocess_input` of each module of
    https://github.com/keras-team/keras/tree/v3.15.1/keras/src/applications.
    """

    module: str
    inputs: Literal["caffe", "tf", "torch", "raw"]
    smallest: int
    native: Mapping[str, int]


FAMILIES = (
    Family("convnext", "raw", 32, {f"ConvNeXt{size}": 224 for size in ("Tiny", "Small", "Base", "Large", "XLarge")}),
    Family("densenet", "torch", 32, {f"DenseNet{depth}": 224 for depth in (121, 169, 201)}),
    Family(
        "efficientnet",
        "raw",
        32,
        {f"EfficientNetB{n}": size for n, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))},
    ),
    Family(
        "efficientnet_v2",
        "raw",
        32,
        {
            f"EfficientNetV2{n}": size
            for n, size in (("B0", 224), ("B1", 240), ("B2", 260), ("B3", 300), ("S", 384), ("M", 480), ("L", 480))
        },
    ),
    Family("inception_resnet_v2", "tf", 75, {"InceptionResNetV2": 299}),
    Family("inception_v3", "tf", 75, {"InceptionV3": 299}),
    Family("mobilenet", "tf", 32, {"MobileNet": 224}),
    Family("mobilenet_v2", "tf", 32, {"MobileNetV2": 224}),
    Family("mobilenet_v3", "raw", 32, {"MobileNetV3Small": 224, "MobileNetV3Large": 224}),
    Family("nasnet", "tf", 32, {"NASNetMobile": 224, "NASNetLarge": 331}),
    Family("resnet", "caffe", 32, {f"ResNet{depth}": 224 for depth in (50, 101, 152)}),
    Family("resnet_v2", "tf", 32, {f"ResNet{depth}V2": 224 for depth in (50, 101, 152)}),
    Family("vgg16", "caffe", 32, {"VGG16": 224}),
    Family("vgg19", "caffe", 32, {"VGG19": 224}),
    Family("xception", "tf", 71, {"Xception": 299}),
    # The small CNN trained from scratch; see stages/networks/architectures.py.
    Family(SCRATCH, "raw", 32, {SCRATCH: 96}),
)
FAMILY_OF = {builder: family for family in FAMILIES for builder in family.native}


def family_of(builder: str) -> Family:
    """Return the family of a known builder; KerasHub's presets say themselves what images they expect."""
    if hub.is_hub(builder):
        return Family("keras_hub", "raw", 32, {builder: hub.native_size(builder)})
    if builder == ONNX:
        return Family(ONNX, "raw", 32, {ONNX: 224})
    return FAMILY_OF[builder]
