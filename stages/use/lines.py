"""Replacing the lines of `backbones` in the text of params.yaml: all else, comments included, stays line for line."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import yaml

from stages.core.errors import ParameterError
from stages.core.params import shown

_KEY = "backbones"


def replaced(text: str, lines: Mapping[str, Any], *, keep: bool = False) -> str:
    """Return the text of a params.yaml in which `backbones` has these lines.

    A line of the same name stays as it is written, with the comments above it, since it may have values of the user's
    own; with `keep` all others stay as well. Raises ParameterError when `backbones` is not one line or more for each,
    or when these lines mean something else between the others.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    node, rows = _section(text), text.splitlines(keepends=True)
    own = dict(_own(node, rows))
    written = {name: "".join(rows[first:last]) for name, (first, last) in own.items()}
    names = [*(own if keep else ()), *(name for name in lines if not keep or name not in own)]
    indent = " " * node.value[0][0].start_mark.column
    made = "".join(written.get(name) or _line(indent, name, lines[name]) for name in names)
    begin, end = next(iter(own.values()))[0], list(own.values())[-1][1]
    found = "".join(rows[:begin]) + made + "".join(rows[end:])
    before = yaml.safe_load(text)
    _require(found, before | {_KEY: {name: before[_KEY].get(name) if name in own else lines[name] for name in names}})
    return found


def _require(text: str, params: Mapping[str, Any]) -> None:
    """Raise ParameterError unless `text` has these values: a line may refer to an anchor in one that is gone."""
    try:
        same = yaml.safe_load(text) == params
    except yaml.YAMLError:
        same = False
    if not same:
        raise ParameterError(
            f"{_KEY} whose lines depend on each other",
            "lines that can be replaced one by one",
            "write them yourself",
            _KEY,
        )


def _own(node: yaml.MappingNode, rows: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the name of each backbone, with the first of its lines and the one behind its last.

    Comments above a backbone are its own; those above the first are of the section.
    """
    first, *others = (key.start_mark.line for key, _ in node.value)
    bounds = pairwise([first, *(_behind(rows, line) for line in (*others, node.end_mark.line))])
    for (key, _), (start, end) in zip(node.value, bounds, strict=True):
        yield key.value, (start, end)


def _behind(rows: Sequence[str], line: int) -> int:
    """Return the line behind the last one before `line` that is more than a comment or blank."""
    while rows[line - 1].lstrip(" ").startswith(("#", "\n")):
        line -= 1
    return line


def _section(text: str) -> yaml.MappingNode:
    try:
        root = yaml.compose(text, yaml.SafeLoader)
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


def _line(indent: str, name: str, line: Mapping[str, Any]) -> str:
    value = yaml.safe_dump(dict(line), default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"{indent}{name}: {value}\n"
