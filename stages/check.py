"""Stage `check`: validate all of params.yaml before anything runs, and report every fault at once.

Imports the typed parameters of every stage, and none of the heavy libraries. `data/checked.txt` always
holds the same line: the other stages wait for it, and rerun only for what they read themselves.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.benchmark import BenchmarkParams
from stages.errors import GroupedUserError, ParameterError, UserError, run
from stages.evaluate import EvaluateParams
from stages.files import write_text
from stages.ingest import DataParams
from stages.models.backbones import resolve
from stages.models.download import WeightsParams
from stages.models.engine import EngineParams
from stages.models.recipe import Recipe
from stages.params import common, lookup, nearest, parse, read
from stages.preprocess import PreprocessParams
from stages.split import SplitParams

SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataParams,
    "split": SplitParams,
    "preprocess": PreprocessParams,
    "weights": WeightsParams,
    "features": EngineParams,
    "finetune": Recipe,
    "evaluate": EvaluateParams,
    "benchmark": BenchmarkParams,
}
TOP = ("seed", "threads", *SECTIONS, "backbones")


def faults(params: Mapping[str, Any]) -> list[UserError]:
    """Return every fault in `params`, in the order of the file's sections."""
    found: list[UserError] = [
        ParameterError(
            f"unknown section '{key}'", f"one of {', '.join(TOP)}", nearest(str(key), list(TOP)) or "remove it"
        )
        for key in params
        if key not in TOP
    ]
    found += _faults_of(partial(common, params))
    for key, cls in SECTIONS.items():
        found += _faults_of(partial(_section, params, key, cls))
    return found + _backbone_faults(params, {str(fault) for fault in found})


def _section(params: Mapping[str, Any], key: str, cls: type[BaseModel]) -> BaseModel:
    return parse(cls, lookup(params, key), key)


def _faults_of(read_section: Callable[[], object]) -> list[UserError]:
    try:
        read_section()
    except GroupedUserError as group:
        return group.faults
    except UserError as fault:
        return [fault]
    return []


def _backbone_faults(params: Mapping[str, Any], known: set[str]) -> list[UserError]:
    """Return the faults of the backbones' lines, without those of section `finetune` said over again."""
    lines = params.get("backbones")
    if not isinstance(lines, Mapping) or not lines:
        return [ParameterError(f"backbones = {lines!r}", "at least one line, such as 'resnet50: {}'", "add one")]
    usable = dict(params) | {"preprocess": {"sizes": _sizes(params)}, "weights": {"source": _source(params)}}
    if not isinstance(params.get("finetune"), Mapping):
        return []
    found: list[UserError] = [fault for name in lines for fault in _faults_of(partial(resolve, str(name), usable))]
    prefixes = [f"backbones.{name}." for name in lines]
    return [fault for fault in found if not any(str(fault).replace(p, "finetune.") in known for p in prefixes)]


def _sizes(params: Mapping[str, Any]) -> list[int]:
    """Return the sizes that can be used, so that one fault there does not hide those of the backbones."""
    section = params.get("preprocess")
    sizes = section.get("sizes") if isinstance(section, Mapping) else None
    usable = [size for size in sizes if type(size) is int] if isinstance(sizes, list) else []
    return usable or [224]


def _source(params: Mapping[str, Any]) -> str:
    section = params.get("weights")
    source = section.get("source") if isinstance(section, Mapping) else None
    return source if isinstance(source, str) and source else "imagenet"


def main() -> None:
    """Check params.yaml; write `data/checked.txt` when it is valid."""
    found = faults(read())
    if found:
        raise GroupedUserError(found)
    write_text(Path("data/checked.txt"), "params.yaml is valid\n")


if __name__ == "__main__":
    run(main)
