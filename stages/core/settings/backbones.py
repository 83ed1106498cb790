"""What a line of `backbones` in params.yaml means.

Imports no Keras: names, sizes and ranges are checked before anything heavy is loaded.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from stages.core import presets
from stages.core.builders import hub
from stages.core.builders.arguments import RESERVED, argument_faults
from stages.core.builders.families import FAMILY_OF, SCRATCH, Family, family_of
from stages.core.builders.inputs import PRESET, Inputs
from stages.core.builders.onnx_files import ONNX, Tokens, known_file
from stages.core.builders.source import PUBLISHED, known_source
from stages.core.errors import GroupedUserError, ParameterError, UserError
from stages.core.params import Section, lookup, merge, nearest, parse, shown
from stages.core.settings.finetune import Pooling, Recipe
from stages.core.settings.report import TAKEN

# The builders of which phase 2 trains a fixed part, how much, and why.
_BLOCKS: Mapping[str, tuple[int | str, str]] = {
    SCRATCH: ("all", f"{SCRATCH} has no learned layers to keep frozen"),
    ONNX: (0, "a network from an ONNX file is run as it is, and not trained"),
}
# A backbone's name is a folder, a part of a stage's name and a key of data/metrics.json.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class BackboneConfig(Recipe):
    """A line of `backbones`, which overrides section `finetune`.

    One with an ONNX `file` names no builder and no weights: they are ONNX and the file. `output` is that of the file,
    `pooling` what becomes of its tokens.
    """

    builder: str
    file: str | None
    output: Annotated[str, Field(min_length=1)] | None
    pooling: Tokens | None
    input_size: int = Field(ge=32, le=1024)
    weights: str = Field(min_length=1)
    checksum: str | None
    inputs: Inputs
    arguments: dict[str, Any]

    @field_validator("input_size")
    @classmethod
    def _large_enough(cls, value: int, info: ValidationInfo) -> int:
        builder = info.data["builder"]
        if value < family_of(builder).smallest:
            raise ValueError(f"at least {family_of(builder).smallest} pixels for {builder}")
        return value

    @field_validator("file")
    @classmethod
    def _a_known_file(cls, value: str | None) -> str | None:
        return None if value is None else known_file(value)

    @field_validator("output", "pooling")
    @classmethod
    def _of_onnx(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data["builder"] != ONNX:
            raise ValueError("null without 'file', an ONNX file (of other backbones head.pooling decides)")
        return value

    @field_validator("weights")
    @classmethod
    def _a_known_source(cls, value: str, info: ValidationInfo) -> str:
        builder = info.data["builder"]
        if builder == ONNX:
            return value
        return hub.source(value, builder) if hub.is_hub(builder) else known_source(value)

    @field_validator("checksum")
    @classmethod
    def _of_a_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", value):
            raise ValueError("null, or sha256: and 64 hexadecimal digits")
        builder, weights = info.data["builder"], info.data.get("weights")
        if weights == "random" or (weights == "imagenet" and not hub.of_preset(builder, weights)):
            raise ValueError(f"null with weights: {info.data['weights']}, which is no file of your own")
        return value.lower()

    @field_validator("inputs")
    @classmethod
    def _applied_once(cls, value: Inputs, info: ValidationInfo) -> Inputs:
        if info.data.get("builder") == SCRATCH and value != "raw":
            raise ValueError(f"raw: {SCRATCH} rescales its images itself")
        if value == PRESET and not hub.of_preset(info.data["builder"], info.data.get("weights", "")):
            raise ValueError("raw, tf, torch, caffe, or mean and deviation: only a preset of KerasHub states its own")
        return value

    @field_validator("arguments")
    @classmethod
    def _left_to_the_user(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        reserved = hub.RESERVED if hub.is_hub(info.data["builder"]) else RESERVED
        taken = sorted(reserved & value.keys())
        if taken:
            raise ValueError(f"arguments without {', '.join(taken)}: the graph sets them")
        return value


class Network(Section):
    """The parameters that determine the frozen network of a backbone; `output` is that of an ONNX file."""

    name: str
    builder: str
    input_size: int
    pooling: Pooling | Tokens
    output: str | None = None
    weights: str
    checksum: str | None
    inputs: Inputs
    arguments: dict[str, Any]

    @property
    def family(self) -> Family:
        """What this backbone's module expects of its images."""
        return family_of(self.builder)


class Backbone(BackboneConfig):
    """One backbone with all parameters of its line and of section `finetune`."""

    name: str

    @property
    def network(self) -> Network:
        """The parameters that determine the frozen network."""
        own = {key: getattr(self, key) for key in Network.model_fields if key != "pooling"}
        return Network(pooling=self.pooling or self.head.pooling, **own)

    @property
    def with_unchecked_weights(self) -> "Backbone":
        """The same without the checksum of its weights, which stage weights compares: another has no effect on heads.

        Other weights have, and reach the stages after it as its output.
        """
        return self.model_copy(update={"checksum": None})

    @property
    def head_recipe(self) -> "Backbone":
        """The parameters that determine its dense head and the choice between heads."""
        found = self.model_copy(update={"unfreeze": _UNUSED.unfreeze}).effective()
        head = found.head.model_copy(update={"choose": self.head.choose if self._chooses else _UNUSED.head.choose})
        return found.model_copy(update={"head": head})

    @property
    def unfreeze_recipe(self) -> "Backbone":
        """The parameters that determine phase 2; those of a dense head do not where a linear one exists."""
        dense = {"units": self.head.units if self._whole else (), "choose": _UNUSED.head.choose}
        return self.model_copy(update={"head": self.head.model_copy(update=dense)}).effective()

    def effective(self) -> "Backbone":
        """Return the backbone with fixed values for all keys without effect, so that changing these reruns nothing.

        Dropout has no effect without a dense layer, nor the optimiser where nothing is trained.
        """
        found = self.with_unchecked_weights.model_copy(update={key: getattr(_UNUSED, key) for key in self._idle})
        head = {key: getattr(self.head, key) for key in self._used_of_head}
        update: dict[str, Section] = {"head": _UNUSED.head.model_copy(update=head)}
        if not self._trains_dense:
            # Phase 2 has its own learning rate.
            rate = _UNUSED.optimizer.learning_rate
            update["optimizer"] = found.optimizer.model_copy(update={"learning_rate": rate})
        return found.model_copy(update=update)

    @property
    def _whole(self) -> bool:
        return self.builder == SCRATCH

    @property
    def _trains_dense(self) -> bool:
        return bool(self.head.units) and not self._whole

    @property
    def _trains_top(self) -> bool:
        return self.unfreeze.blocks != 0

    @property
    def _idle(self) -> set[str]:
        """The keys of section `finetune` that have no effect, but for those of `head`."""
        if not self._trains_dense and not self._trains_top:
            return Recipe.model_fields.keys() - {"head"}
        idle = {"linear", "training_draws"} | (set() if self._whole else {"training_shares"})
        idle |= set() if self._trains_dense else {"refit", "repeats", "epochs", "schedule"}
        # A schedule other than constant leaves nothing to reduce.
        idle |= {"reduce_on_plateau"} if not self._trains_dense and self.unfreeze.schedule != "constant" else set()
        return idle | (set() if self._trains_top else {"unfreeze"})

    @property
    def _used_of_head(self) -> set[str]:
        """The keys of `head` that have an effect."""
        used = {"pooling", "units"} | ({"activation", "dropout", "l2"} if self.head.units else set())
        return used | ({"choose"} if self._chooses else set())

    @property
    def _chooses(self) -> bool:
        """Whether there is more than one head to choose from."""
        return self._trains_dense or (self._trains_top and not self._whole)


# Values of keys without effect. They are arbitrary, except that of `unfreeze.blocks`.
_UNUSED = Recipe.model_validate(
    {
        "linear": {"c": [1]},
        "head": {"pooling": "average", "units": [], "activation": "relu", "dropout": 0, "l2": 0, "choose": "best"},
        "refit": False,
        "epochs": 1,
        "batch_size": 1,
        "optimizer": {"name": "adam", "learning_rate": 1, "momentum": 0, "weight_decay": 0, "clip_norm": None},
        "schedule": {"name": "constant", "warmup": 0, "decay": 1, "boundaries": []},
        "label_smoothing": 0,
        "class_weight": "none",
        "early_stopping": {"monitor": "val_loss", "patience": 0, "min_delta": 0},
        "reduce_on_plateau": {
            "monitor": "val_loss", "patience": 0, "min_delta": 0, "factor": 0.5, "min_learning_rate": 0
        },
        "checkpoint": {"monitor": "val_loss", "keep": "best"},
        "unfreeze": {
            "blocks": 0, "epochs": 1, "learning_rate": 1, "schedule": "constant",
            "warmup": 0, "decay": 1, "minutes": 1, "cache_gb": 0, "repeats": 1
        },
        "repeats": 1,
        "training_shares": [],
        "training_draws": 1,
    }
)  # fmt: skip


def resolve(name: str, params: Mapping[str, Any]) -> Backbone:
    """Return the backbone `name` of `params`: section `finetune`, overridden by its line, and both by the preset.

    Raises ParameterError or GroupedUserError when the line or the section cannot be used.
    """
    key = f"backbones.{name}"
    line = _line(name, params.get("backbones"))
    faults: list[UserError] = []
    try:
        builder = _builder(name, line, key)
        # What a class of KerasHub takes is known once that is imported.
        if builder in FAMILY_OF:
            faults += argument_faults(FAMILY_OF[builder].module, line.get("arguments"), f"{key}.arguments")
    except ParameterError as fault:
        # Continue with any builder, so that the line's other faults are found as well.
        faults, builder = [fault], "ResNet50"
    sizes = _sizes(params)
    weights = _common_source(builder, lookup(params, "weights.source"))
    own = _defaults(builder, str(line.get("weights", weights)), sizes) | {"weights": weights}
    if builder in _BLOCKS:
        own["unfreeze"] = {"blocks": _BLOCKS[builder][0]}
    asked = merge(merge(_shared(params), own), line)
    whole = merge(asked, presets.at_most(preset_values(builder, params), asked)) | {"builder": builder}
    if builder == ONNX:
        whole["weights"] = line["file"] if isinstance(line["file"], str) and line["file"] else "random"
        faults += _onnx_faults(line, key)
    if type(whole["input_size"]) is int and whole["input_size"] not in sizes:
        faults.append(_not_prepared(f"{key}.input_size", whole["input_size"], sizes))
    if builder in _BLOCKS and isinstance(whole.get("unfreeze"), Mapping):
        faults += _block_faults(f"{key}.unfreeze.blocks", builder, whole["unfreeze"].get("blocks"))
    try:
        parsed = parse(BackboneConfig, whole, key)
    except GroupedUserError as group:
        # A size that no network accepts is one fault, whether prepared or not.
        keys = {fault.key for fault in group.faults}
        raise GroupedUserError([fault for fault in faults if fault.key not in keys] + group.faults) from group
    if faults:
        raise GroupedUserError(faults)
    return Backbone(name=name, **dict(parsed))


def preset_values(builder: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the preset of `params` sets for a backbone of this builder."""
    values = presets.FROM_SCRATCH if builder == SCRATCH else presets.BACKBONES
    return values.get(str(params.get("preset")), {})


def _common_source(builder: str, source: object) -> object:
    """Return where weights come from unless the line says so: a file for all is none of scratch's, or of KerasHub's."""
    apart = builder in _BLOCKS or hub.is_hub(builder)
    return "imagenet" if apart and isinstance(source, str) and source not in PUBLISHED else source


def _defaults(builder: str, weights: str, sizes: list[int]) -> dict[str, Any]:
    """Return what a line need not say, but for where its weights come from."""
    inputs = PRESET if hub.of_preset(builder, weights) else family_of(builder).inputs
    unset = dict.fromkeys(("checksum", "file", "output", "pooling"))
    return {"arguments": {}, "inputs": inputs, "input_size": _default_size(builder, sizes), **unset}


def _line(name: str, lines: object) -> Mapping[str, Any]:
    """Return the line of the backbone `name`; an empty line is a mapping without keys."""
    if not isinstance(lines, Mapping) or name not in lines:
        declared = list(map(str, lines)) if isinstance(lines, Mapping) else []
        raise ParameterError(
            f"backbone '{name}'",
            f"one of {', '.join(declared) or 'none declared'}",
            nearest(name, declared) or "add it to 'backbones'",
        )
    key = f"backbones.{name}"
    if name in TAKEN or not _NAME.fullmatch(name):
        raise ParameterError(
            f"a backbone named '{name}'",
            "a name of at most 64 letters, digits, '-' and '_' that starts with one of the first two and is none of "
            f"{', '.join(TAKEN)}",
            "rename it and set its 'builder'",
            key,
        )
    line = {} if lines[name] is None else lines[name]
    if not isinstance(line, Mapping):
        raise ParameterError(f"{key} = {shown(line)}", "a mapping, {} for the defaults", "write {}", key)
    return line


def _sizes(params: Mapping[str, Any]) -> list[int]:
    sizes = lookup(params, "preprocess.sizes")
    if not isinstance(sizes, list) or not sizes or any(type(size) is not int for size in sizes):
        raise ParameterError(f"preprocess.sizes = {shown(sizes)}", "a list of whole numbers", "correct it")
    return sizes


def _shared(params: Mapping[str, Any]) -> Mapping[str, Any]:
    shared = lookup(params, "finetune")
    if not isinstance(shared, Mapping):
        raise ParameterError(f"finetune = {shown(shared)}", "a mapping", "restore it, for instance from git")
    return shared


def _not_prepared(key: str, size: int, sizes: list[int]) -> ParameterError:
    return ParameterError(
        f"{key} = {size}",
        f"one of preprocess.sizes ({', '.join(map(str, sizes))})",
        "add it there, or choose one of these",
        key,
    )


def _block_faults(key: str, builder: str, blocks: object) -> list[UserError]:
    """Return the fault of training other blocks than a builder allows."""
    wanted, why = _BLOCKS[builder]
    if blocks == wanted:
        return []
    return [ParameterError(f"{key} = {shown(blocks)}", f"{shown(wanted)}: {why}", "leave it out", key)]


def _onnx_faults(line: Mapping[str, Any], key: str) -> list[UserError]:
    """Return the faults of a line with an ONNX file: what that makes idle, and what only its author knows."""
    found: list[UserError] = [
        ParameterError(
            f"{key}.{name} = {shown(line[name])} beside file",
            "one of the two: an ONNX file is a network with its weights",
            "remove one",
            f"{key}.{name}",
        )
        for name in ("builder", "weights", "arguments")
        if name in line
    ]
    if "inputs" in line:
        return found
    expected = "the pixels that the file was trained on: raw, tf, torch, caffe, or {mean: [R, G, B], deviation: ...}"
    return [*found, ParameterError(f"{key} without inputs", expected, "add inputs", f"{key}.inputs")]


def _builder(name: str, line: Mapping[str, Any], key: str) -> str:
    """Return the builder meant by a line, which may differ in case and underscores; ONNX for one with a file."""
    if line.get("file") is not None:
        return ONNX
    builder = line.get("builder", name)
    if isinstance(builder, str) and hub.is_hub(builder):
        return hub.known(builder, f"{key}.builder")
    by_plain = {_plain(known): known for known in FAMILY_OF}
    found = by_plain.get(_plain(builder)) if isinstance(builder, str) else None
    if found is None:
        guess = nearest(_plain(str(builder)), list(by_plain))
        for plain, known in by_plain.items():
            guess = guess.replace(f"'{plain}'", f"'{known}'")
        what = key if builder == name else f"{key}.builder = {shown(builder)}"
        raise ParameterError(
            f"{what} names no builder",
            f"'{SCRATCH}', a builder of keras.applications ({', '.join(sorted(FAMILY_OF))}), or '{hub.HUB}NAME'",
            guess or "see https://keras.io/api/applications/",
            key if builder == name else f"{key}.builder",
        )
    return found


def _plain(builder: str) -> str:
    return re.sub(r"[^a-z0-9]", "", builder.lower())


def _default_size(builder: str, sizes: list[int]) -> int:
    """Return the largest prepared size up to the network's native one, or else the smallest."""
    native = family_of(builder).native[builder]
    return max((size for size in sizes if size <= native), default=min(sizes))
