"""Which backbones there are, and what a line of `backbones` in params.yaml means.

Imports no Keras: names, sizes and ranges are checked before anything heavy is loaded.
`tests/models/test_backbones.py` compares the table with `keras.applications`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from stages.errors import GroupedUserError, ParameterError, UserError
from stages.models.recipe import Recipe
from stages.params import merge, nearest, parse

SCRATCH = "scratch"
# Arguments of a builder that the graph sets itself.
_RESERVED = frozenset(
    {"weights", "include_top", "input_shape", "input_tensor", "pooling", "classes", "classifier_activation", "name"}
)


@dataclass(frozen=True)
class Family:
    """What one module of `keras.applications` wants of its pictures.

    `inputs` names the numbers that the networks were trained on: "caffe" (BGR, ImageNet's mean
    subtracted), "tf" (-1 to 1), "torch" (ImageNet's mean and deviation), or "raw" (0 to 255: the network
    rescales by itself). Source: `preprocess_input` of each module of
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
    # The small CNN trained from nothing; see stages/models/networks.py.
    Family(SCRATCH, "raw", 32, {SCRATCH: 96}),
)
FAMILY_OF = {builder: family for family in FAMILIES for builder in family.native}


class Backbone(Recipe):
    """One backbone with all that its line and section `finetune` say."""

    name: str
    builder: str
    input_size: int = Field(ge=32, le=1024)
    weights: str = Field(min_length=1)
    arguments: dict[str, Any]

    @model_validator(mode="after")
    def _input_is_large_enough(self) -> Self:
        smallest = FAMILY_OF[self.builder].smallest
        if self.input_size < smallest:
            raise ValueError(f"input_size of at least {smallest} pixels for {self.builder}")
        taken = sorted(_RESERVED & self.arguments.keys())
        if taken:
            raise ValueError(f"arguments without {', '.join(taken)} (the graph sets them)")
        return self

    @property
    def family(self) -> Family:
        """What this backbone's module wants of its pictures."""
        return FAMILY_OF[self.builder]


def resolve(name: str, params: Mapping[str, Any]) -> Backbone:
    """Return the backbone `name` of `params`, its line laid over section `finetune`.

    Raise ParameterError or GroupedUserError when the line, or what it is laid over, cannot be used.
    """
    lines = params.get("backbones")
    if not isinstance(lines, Mapping) or name not in lines:
        declared = list(map(str, lines)) if isinstance(lines, Mapping) else []
        raise ParameterError(
            f"backbone '{name}'",
            f"one of {', '.join(declared) or 'none declared'}",
            nearest(name, declared) or "add it to 'backbones'",
        )
    line = lines[name] if lines[name] is not None else {}
    key = f"backbones.{name}"
    if not isinstance(line, Mapping):
        raise ParameterError(f"{key} = {line!r}", "a mapping, {} for the defaults", "write {}")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ParameterError(f"{key}", "a name of letters, digits, '-' and '_'", "rename it and set its 'builder'")
    faults: list[UserError] = []
    try:
        builder = _builder(name, line.get("builder", name), key)
    except ParameterError as fault:
        # Go on with any builder, so that the line's other faults are found as well.
        faults, builder = [fault], "ResNet50"
    sizes = params["preprocess"]["sizes"]
    own = {"weights": params["weights"]["source"], "arguments": {}, "input_size": _default_size(builder, sizes)}
    whole = merge(merge(params["finetune"], own), line) | {"name": name, "builder": builder}
    try:
        backbone = parse(Backbone, whole, key)
        _check_prepared(backbone, sizes)
    except GroupedUserError as group:
        faults += group.faults
    except ParameterError as fault:
        faults.append(fault)
    if faults:
        raise GroupedUserError(faults)
    return backbone


def _check_prepared(backbone: Backbone, sizes: list[int]) -> None:
    if backbone.input_size not in sizes:
        raise ParameterError(
            f"backbones.{backbone.name}.input_size = {backbone.input_size}",
            f"one of preprocess.sizes ({', '.join(map(str, sizes))})",
            "add it there, or choose one of these",
        )


def _builder(name: str, builder: object, key: str) -> str:
    """Return the builder meant by `builder`, which may be in another case or with underscores."""
    by_plain = {_plain(known): known for known in FAMILY_OF}
    found = by_plain.get(_plain(str(builder)))
    if found is None:
        guess = nearest(_plain(str(builder)), list(by_plain))
        for plain, known in by_plain.items():
            guess = guess.replace(f"'{plain}'", f"'{known}'")
        what = key if builder == name else f"{key}.builder = {builder!r}"
        raise ParameterError(
            f"{what} names no builder",
            f"'{SCRATCH}' or a builder of keras.applications ({', '.join(sorted(FAMILY_OF))})",
            guess or "see https://keras.io/api/applications/",
        )
    return found


def _plain(builder: str) -> str:
    return re.sub(r"[^a-z0-9]", "", builder.lower())


def _default_size(builder: str, sizes: list[int]) -> int:
    """Return the largest prepared size up to the network's native one, or the smallest there is."""
    native = FAMILY_OF[builder].native[builder]
    return max((size for size in sizes if size <= native), default=min(sizes))
