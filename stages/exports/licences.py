"""The licences of the weights that Keras publishes, by builder of `keras.applications`.

Keras states those of older networks in `docs/templates/applications.md` of Keras 2.3 ("License" of each network). For
newer ones it states none; the licence is that of the repository that the weights came from.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A licence: its SPDX name (https://spdx.org/licenses/), the origin of the weights, whether Keras states it."""

    name: str
    origin: str
    stated: bool


_TENSORFLOW = "https://github.com/tensorflow/models"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/research/very_deep/"
# By regular expressions for the builder's name.
_LICENCES: Mapping[str, Licence] = {
    r"ConvNeXt\w+": Licence("MIT", "https://github.com/facebookresearch/ConvNeXt", stated=False),
    r"DenseNet\d+": Licence("BSD-3-Clause", "https://github.com/liuzhuang13/DenseNet", stated=True),
    r"EfficientNetB\d": Licence("Apache-2.0", "https://github.com/tensorflow/tpu", stated=False),
    r"EfficientNetV2\w+": Licence("Apache-2.0", "https://github.com/google/automl", stated=False),
    r"Inception(ResNetV2|V3)": Licence("Apache-2.0", _TENSORFLOW, stated=True),
    r"MobileNet(V2)?": Licence("Apache-2.0", _TENSORFLOW, stated=True),
    r"MobileNetV3\w+": Licence("Apache-2.0", _TENSORFLOW, stated=False),
    r"NASNet\w+": Licence("Apache-2.0", _TENSORFLOW, stated=True),
    r"ResNet\d+": Licence("MIT", "https://github.com/KaimingHe/deep-residual-networks", stated=True),
    r"ResNet\d+V2": Licence("BSD-3-Clause", "https://github.com/facebook/fb.resnet.torch", stated=True),
    r"VGG1[69]": Licence("CC-BY-4.0", _OXFORD, stated=True),
    "Xception": Licence("MIT", "https://github.com/fchollet/deep-learning-models", stated=True),
}


def licence_of(builder: str, source: str) -> Licence | None:
    """Return the licence of the weights of `source` in provenance.json; None without published weights.

    For weights of an earlier run the licence is in its own model card, which is not available here: also None.
    """
    found = (licence for pattern, licence in _LICENCES.items() if re.fullmatch(pattern, builder))
    return next(found, None) if source == "imagenet" else None
