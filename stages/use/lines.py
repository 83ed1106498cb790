"""Replacing the lines of `backbones` in the text of params.yaml: all else, comments included, stays byte for byte."""

import io
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import yaml

from stages.core.errors import ParameterError
from stages.core.params import shown

_KEY = "backbones"


def replaced(text: str, lines: Mapping[str, Any], *, keep: bool = False) -> str:
    """Return the text of a params.yaml in which `backbones` has these lines.

    A line of the same name stays as it is written, since it may have values of the user's own; with `keep` all others
    stay as well. Raises ParameterError when `backbones` is not one line or more for each.
    """
    rows = text.splitlines(keepends=True)
    own = dict(_own(text))
    written = {name: "".join(rows[first:last]) for name, (first, last) in own.items()}
    names = [*(own if keep else ()), *(name for name in lines if not keep or name not in own)]
    made = "".join(written.get(name) or _line(name, lines[name]) for name in names)
    begin, end = next(iter(own.values()))[0], list(own.values())[-1][1]
    return "".join(rows[:begin]) + made + "".join(rows[end:])


def _own(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the name of each backbone, with the first of its lines and the one behind its last."""
    node = _section(text)
    starts = [key.start_mark.line for key, _ in node.value]
    for (key, _), (first, last) in zip(node.value, pairwise([*starts, _end(text, starts[-1])]), strict=True):
        yield key.value, (first, last)


def _section(text: str) -> yaml.MappingNode:
    try:
        root = yaml.compose(io.StringIO(text), yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ParameterError(
            f"params.yaml is no YAML ({' '.join(str(error).split())})", "valid YAML", "see 'python -m stages.check'"
        ) from error
    sections = root.value if isinstance(root, yaml.MappingNode) else []
    found = next((value for key, value in sections if key.value == _KEY), None)
    if not isinstance(found, yaml.MappingNode) or found.flow_style or not found.value:
        raise ParameterError(
            f"{_KEY} = {shown(getattr(found, 'value', None) or '')}",
            "a line of its own for each backbone",
            "write them below 'backbones:', or restore params.yaml from git",
            _KEY,
        )
    return found


def _end(text: str, last: int) -> int:
    """Return the line behind the last one of the section: what is blank or not indented follows it."""
    rows = text.splitlines()
    return next((number for number in range(last + 1, len(rows)) if not rows[number].startswith(" ")), len(rows))


def _line(name: str, line: Mapping[str, Any]) -> str:
    value = yaml.safe_dump(dict(line), default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"  {name}: {value}\n"
