"""Strict reading of params.yaml.

Each section is described by a frozen pydantic class in stages/core/settings. Unknown keys, wrong types
and values out of range are all reported at once, each with the key, the value, what is allowed and the
nearest match.

YAML is read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), as DVC
reads it: `1e-3` is a number, `on` is text, `010` is ten. PyYAML's own rules are those of YAML 1.1. Dates
stay text.
"""

import difflib
import re
import reprlib
import sys
from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from stages.core import presets
from stages.core.errors import GroupedUserError, ParameterError

FILE = Path("params.yaml")
# What to do about a key that is gone.
REPLACED = {"tune.measure": "'report.measure' decides here, too: remove this key"}
# Today's key by its earlier name.
RENAMED = {
    "explain.map_pictures": "explain.map_images",
    "export.calibration_pictures": "export.calibration_images",
    "export.test_pictures": "export.test_images",
}


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, types are not coerced, numbers finite, values final."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)


def _list_to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


# YAML has lists only; a frozen section wants tuples.
Tuple = Annotated[tuple[T, ...], BeforeValidator(_list_to_tuple)]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalar rules of YAML 1.2 and duplicate keys as errors."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a mapping or a list where a key belongs", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise ParameterError(
                    f"key '{key.value}' stands twice (line {key.start_mark.line + 1})",
                    "each key once in its section",
                    "remove one of them",
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Read '010' as ten and '0o10' as eight; YAML 1.1 has it the other way round."""
        text = node.value.replace("_", "")
        return int(text, 0 if text.lstrip("+-")[:2] in ("0b", "0o", "0x") else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
# Underscores and binary numbers are not part of the core schema; DVC reads them, so they are numbers here too.
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


@cache
def read(path: Path = FILE) -> dict[str, Any]:
    """Return params.yaml as a mapping of sections, with what its preset sets in them.

    Raises ParameterError when it cannot be read as one.
    """
    return with_preset(as_written(path))


def with_preset(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return `params` with what their preset leaves of the sections; stage check reports an unknown preset."""
    return merge(params, presets.at_most(presets.SECTIONS.get(str(params.get("preset")), {}), params))


def as_written(path: Path = FILE) -> dict[str, Any]:
    """Return params.yaml as it stands, whatever its preset. Raise ParameterError when it is no mapping of sections."""
    try:
        # The loader is a subclass of SafeLoader: it builds plain values only.
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"'{path}' cannot be read ({error})", "a UTF-8 file", "restore it, for instance from git"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParameterError(f"'{path}' is not YAML: {_where(error)}", "valid YAML", "fix that line") from error
    if not isinstance(loaded, dict):
        raise ParameterError(
            f"'{path}' holds {shown(loaded)}", "a mapping of sections", "see the README for the sections"
        )
    return loaded


def _where(error: Exception) -> str:
    """Return the problem and its line from an error of the YAML reader."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} (line {error.problem_mark.line + 1})"
    return re.sub(r"\s+", " ", str(error))


def load(cls: type[S], key: str, path: Path = FILE) -> S:
    """Return the section under the dotted `key` as `cls`. Raise GroupedUserError with all its faults."""
    return parse(cls, lookup(read(path), key), key)


def load_part(cls: type[S], key: str, path: Path = FILE) -> S:
    """Return the keys that `cls` declares of the section under the dotted `key`; ignore the others."""
    return part(cls, read(path), key)


def part(cls: type[S], params: Mapping[str, Any], key: str) -> S:
    """Return the keys that `cls` declares of the section of `params` under the dotted `key`; ignore the others."""
    return parse(cls, {name: lookup(params, f"{key}.{name}") for name in cls.model_fields}, key)


def lookup(params: Mapping[str, Any], key: str) -> Any:
    """Return the value under the dotted `key`; raise ParameterError when a part of it is missing."""
    value: Any = params
    for depth, part in enumerate(key.split(".")):
        if not isinstance(value, Mapping) or part not in value:
            raise _missing(".".join(key.split(".")[: depth + 1]))
        value = value[part]
    return value


class Preset(Section):
    """The key `preset` at the top level of params.yaml: what stages/core/presets.py sets."""

    preset: Literal["full", "quick"]


class Common(Section):
    """The numbers at the top level of params.yaml that belong to no section."""

    seed: int = Field(ge=0, lt=2**31)
    threads: int = Field(ge=1, le=1024)


def seed(path: Path = FILE) -> int:
    """Return the seed of everything random."""
    return common(read(path)).seed


def threads(path: Path = FILE) -> int:
    """Return the number of CPU threads that a computing stage uses."""
    return common(read(path)).threads


def declared_backbones(path: Path = FILE) -> list[str]:
    """Return the backbones of params.yaml, in its order. Raise ParameterError when there are none."""
    backbones = lookup(read(path), "backbones")
    if not isinstance(backbones, Mapping) or not backbones:
        raise ParameterError(f"backbones = {shown(backbones)}", "a mapping with at least one backbone", "add one")
    return [str(backbone) for backbone in backbones]


def named_backbone(path: Path = FILE) -> str:
    """Return the backbone named on the command line. Raise ParameterError unless it is declared."""
    declared = list(map(str, read(path).get("backbones") or {}))
    given = sys.argv[1:]
    if len(given) != 1 or given[0] not in declared:
        raise ParameterError(
            f"{Path(sys.argv[0]).stem} of backbone '{' '.join(given)}'",
            f"the name of one backbone ({', '.join(declared) or 'none is declared'})",
            (nearest(given[0], declared) if given else "") or "add it to 'backbones', or name one of these",
        )
    return given[0]


def common(params: Mapping[str, Any]) -> "Common":
    """Return the top-level numbers of `params`; raise all their faults together."""
    return parse(Common, {key: params[key] for key in Common.model_fields if key in params}, "")


def preset(params: Mapping[str, Any]) -> str:
    """Return the preset of `params`; raise its fault."""
    return parse(Preset, {key: params[key] for key in Preset.model_fields if key in params}, "").preset


def parse(cls: type[S], value: object, key: str) -> S:
    """Return `value` as `cls`; raise GroupedUserError with one ParameterError for each fault in it."""
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        details = [dict(detail) for detail in error.errors()]
        raise GroupedUserError([_fault(cls, key, detail) for detail in details if not _echo(detail)]) from error


def conflict(key: str, value: object, expected: str, remedy: str) -> PydanticCustomError:
    """Return the error that a validator raises when `value`, at `key` below its section, conflicts with another."""
    facts = {"key": key, "value": value, "expected": expected, "remedy": remedy}
    return PydanticCustomError("conflict", "{expected}", facts)


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` overridden by `override`, recursively; neither is changed."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def nearest(word: str, choices: list[str]) -> str:
    """Return a hint such as "did you mean 'adam'?" with the choice nearest to `word`, or an empty string.

    Capitals count as small letters: to difflib 'ADAM' and 'adam' have nothing in common.
    """
    named = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), list(named), n=1, cutoff=0.5)
    return f"did you mean '{named[found[0]]}'?" if found else ""


_representation = reprlib.Repr()
_representation.maxstring = _representation.maxother = 120
_representation.maxlevel = 2


def shown(value: object) -> str:
    """Return `value` roughly as YAML writes it, shortened."""
    text = _representation.repr(list(value) if isinstance(value, tuple) else value)
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


_EXPECTED = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}


def _missing(key: str) -> ParameterError:
    return ParameterError(f"'{key}' is missing", "this key", "add it, or restore params.yaml from git", key)


def _echo(detail: dict[str, Any]) -> bool:
    """Return whether a list is reported as too short only because of faulty items, which are reported themselves."""
    return bool(detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"])


def _fault(cls: type[BaseModel], key: str, detail: dict[str, Any]) -> ParameterError:
    """Turn one of pydantic's error details into a one-line ParameterError."""
    parts = [str(part) for part in detail["loc"]]
    full = ".".join([key, *parts]).strip(".")
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields(cls, parts[:-1])
        renamed = f"it is called '{RENAMED[full]}' now: rename it" if full in RENAMED else ""
        remedy = renamed or REPLACED.get(full) or nearest(parts[-1], known) or "remove it"
        expected = f"one of {', '.join(known)}" if known else "no keys there"
        return ParameterError(f"unknown key '{full}'", expected, remedy, full)
    if kind == "missing":
        return _missing(full)
    if kind == "invalid_key" or parts[-1:] == ["[key]"]:
        return ParameterError(
            f"key {full.removesuffix('.[key]')}", "keys that are text", "quote it, or remove it", full
        )
    remedy = "correct it"
    if kind == "conflict":
        full, value = f"{full}.{context['key']}", context["value"]
        expected, remedy = context["expected"], context["remedy"]
    elif kind == "literal_error":
        expected = context["expected"]
        remedy = nearest(str(value), re.findall(r"'([^']*)'", expected)) or "choose one of these"
    elif kind == "value_error":
        expected = str(context["error"])
    else:
        expected = _EXPECTED.get(kind) or _plain(detail["msg"])
    return ParameterError(f"{full} = {shown(value)}", expected, remedy, full)


def _plain(message: str) -> str:
    """Shorten pydantic's message to what was expected."""
    message = re.sub(r"^\w+ should (be|have) ", "", message).replace(" after validation, not 0", "")
    message = message.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return message.replace("greater than", "more than")


def _fields(cls: type[BaseModel], parts: list[str]) -> list[str]:
    """Return the keys allowed at `parts` below `cls`."""
    for part in parts:
        annotation = cls.model_fields[part].annotation
        # Sections hold sections directly, never lists or choices of them.
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        cls = annotation
    return list(cls.model_fields)
