"""Strict reading of params.yaml.

Each section is described by a frozen pydantic class that lives where the section is used. Unknown
keys, wrong types and values out of range are all reported at once, each with the key, the value,
what is allowed and the nearest match.

YAML is read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), as DVC
reads it: `1e-3` is a number, `on` is text. PyYAML's own rules are those of YAML 1.1.
"""

import difflib
import re
from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stages.errors import GroupedUserError, ParameterError

FILE = Path("params.yaml")


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, types are not coerced, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ParameterError(
                    f"key '{key.value}' stands twice (line {line})",
                    "each key once in its section",
                    "remove one of them",
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


@cache
def read(path: Path = FILE) -> dict[str, Any]:
    """Return params.yaml as a mapping of sections. Raise ParameterError when it is not one."""
    try:
        # The loader is a subclass of SafeLoader: it builds plain values only.
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"'{path}' cannot be read ({error})", "a UTF-8 file", "restore it, for instance from git"
        ) from error
    except yaml.YAMLError as error:
        where = re.sub(r"\s+", " ", str(error))
        raise ParameterError(f"'{path}' is not YAML: {where}", "valid YAML", "mend that line") from error
    if not isinstance(loaded, dict):
        raise ParameterError(
            f"'{path}' holds {type(loaded).__name__}", "a mapping of sections", "see the README for the sections"
        )
    return loaded


def load(cls: type[S], key: str, path: Path = FILE) -> S:
    """Return the section under the dotted `key` as `cls`; raise all its faults together."""
    return parse(cls, lookup(read(path), key), key)


def lookup(params: Mapping[str, Any], key: str) -> Any:
    """Return the value under the dotted `key`; raise ParameterError when a part of it is missing."""
    value: Any = params
    for depth, part in enumerate(key.split(".")):
        if not isinstance(value, Mapping) or part not in value:
            missing = ".".join(key.split(".")[: depth + 1])
            present = list(map(str, value)) if isinstance(value, Mapping) else []
            raise ParameterError(f"'{missing}' is missing", "this key", _add(part, present))
        value = value[part]
    return value


class _Common(Section):
    """The keys at the top level of params.yaml that belong to no section."""

    seed: int = Field(ge=0, lt=2**31)
    threads: int = Field(ge=1, le=1024)


def seed(path: Path = FILE) -> int:
    """Return the seed of everything random."""
    return common(read(path)).seed


def threads(path: Path = FILE) -> int:
    """Return the number of CPU threads that a computing stage uses."""
    return common(read(path)).threads


def common(params: Mapping[str, Any]) -> "_Common":
    """Return the top-level numbers of `params`; raise all their faults together."""
    return parse(_Common, {key: params[key] for key in _Common.model_fields if key in params}, "")


def parse(cls: type[S], value: object, key: str) -> S:
    """Return `value` as `cls`; raise GroupedUserError with one ParameterError for each fault in it."""
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        raise GroupedUserError([_fault(cls, key, dict(detail)) for detail in error.errors()]) from error


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `override` laid over it, mapping by mapping; neither is changed."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def nearest(word: str, choices: list[str]) -> str:
    """Return a hint such as "did you mean 'adam'? " for the choice nearest to `word`, or nothing."""
    found = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean '{found[0]}'?" if found else ""


def _add(part: str, present: list[str]) -> str:
    return nearest(part, present) or "add it, or restore params.yaml from git"


def _fault(cls: type[BaseModel], key: str, detail: dict[str, Any]) -> ParameterError:
    """Turn one of pydantic's error details into our one line."""
    # Positions that pydantic adds for the branches of a union are no part of the user's key.
    parts = [str(part) for part in detail["loc"] if not re.search(r"[\[\]()]|^(str|int|float|bool|none)$", str(part))]
    full = ".".join([key, *parts]).strip(".")
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields(cls, parts[:-1])
        return ParameterError(
            f"unknown key '{full}'", f"one of {', '.join(known)}", nearest(parts[-1], known) or "remove it"
        )
    if kind == "missing":
        return ParameterError(f"'{full}' is missing", "this key", "add it, or restore params.yaml from git")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return ParameterError(
            f"{full} = {value!r}", context["expected"], nearest(str(value), choices) or "choose one of these"
        )
    if kind == "value_error":
        return ParameterError(f"{full} = {value!r}", str(context["error"]), "correct it")
    expected = re.sub(r"^Input should be ", "", detail["msg"])
    return ParameterError(f"{full} = {value!r}", expected, "correct it")


def _fields(cls: type[BaseModel], parts: list[str]) -> list[str]:
    """Return the keys allowed at `parts` below `cls`."""
    for part in parts:
        if part not in cls.model_fields:
            return []
        annotation = cls.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        cls = annotation
    return list(cls.model_fields)
