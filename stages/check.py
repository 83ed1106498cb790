"""Stage `check`: validate all of params.yaml and the names of the source's files, and report every fault at once.

Imports the typed parameters of every stage and of the gate, and no heavy libraries. `data/checked.txt` always has the
same content: other stages depend on it, but rerun only when their own parameters change. So does
`data/rankings/all.json`, which replaces a ranking if all backbones are trained further. `data/recipes/B/` has the
parameters of each backbone (see stages/core/settings/recipes.py).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from stages.core.errors import GroupedUserError, ParameterError, UserError, run
from stages.core.files import replacing_folder, write_json, write_text
from stages.core.params import FILE, common, lookup, nearest, parse, read, shown
from stages.core.settings.audit import AuditParams
from stages.core.settings.backbones import resolve
from stages.core.settings.benchmark import BenchmarkParams
from stages.core.settings.data import DataParams
from stages.core.settings.evaluate import EvaluateParams
from stages.core.settings.explain import ExplainParams
from stages.core.settings.export import WINNER, ExportParams
from stages.core.settings.features import EngineParams
from stages.core.settings.finetune import Recipe
from stages.core.settings.gate import GateParams
from stages.core.settings.preprocess import PreprocessParams
from stages.core.settings.rank import ALL, RankParams
from stages.core.settings.recipes import RECIPES, write_recipes
from stages.core.settings.report import RECOMMENDED, ReportParams
from stages.core.settings.split import SplitParams
from stages.core.settings.tune import TuneParams, varied
from stages.core.settings.weights import WeightsParams
from stages.sources.hashing import obstacles

SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataParams,
    "split": SplitParams,
    "preprocess": PreprocessParams,
    "weights": WeightsParams,
    "features": EngineParams,
    "tune": TuneParams,
    "finetune": Recipe,
    "audit": AuditParams,
    "rank": RankParams,
    "evaluate": EvaluateParams,
    "explain": ExplainParams,
    "benchmark": BenchmarkParams,
    "report": ReportParams,
    "export": ExportParams,
    "gate": GateParams,
}
TOP = ("seed", "threads", *SECTIONS, "backbones")


def faults(params: Mapping[str, Any]) -> list[UserError]:
    """Return every fault in `params`, in the order of the file's sections."""
    found: list[UserError] = [
        ParameterError(
            f"unknown section {shown(key)}", f"one of {', '.join(TOP)}", nearest(str(key), list(TOP)) or "remove it"
        )
        for key in params
        if key not in TOP
    ]
    found += _faults_of(partial(common, params))
    for key, cls in SECTIONS.items():
        found += _faults_of(partial(_section, params, key, cls))
    known = {fault.key for fault in found}
    across = (_backbone_faults, _rank_faults, _tune_faults, _export_faults)
    return found + [fault for faults in across for fault in faults(params, known)]


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
    """Return the faults of the backbones' lines; `known` are the keys at fault in the sections."""
    if "backbones" not in params:
        return _faults_of(partial(lookup, params, "backbones"))
    lines = params["backbones"]
    if not isinstance(lines, Mapping) or not lines:
        return [ParameterError(f"backbones = {shown(lines)}", "at least one line, such as 'resnet50: {}'", "add one")]
    usable = _usable(params, known)
    found: list[UserError] = []
    for name in lines:
        if isinstance(name, str):
            faults_of_line = _faults_of(partial(resolve, name, usable))
            found += [fault for fault in faults_of_line if not _reported(fault, name, lines[name], known)]
        else:
            found.append(
                ParameterError(f"a backbone named {shown(name)}", "a name that is text", "rename it, or quote it")
            )
    return found


def _rank_faults(params: Mapping[str, Any], known: set[str]) -> list[UserError]:
    """Return the fault of more candidates than there are backbones; `known` are the keys at fault in the sections."""
    lines = params.get("backbones")
    if any(key.startswith("rank") for key in known) or not isinstance(lines, Mapping) or not lines:
        return []
    settings = parse(RankParams, lookup(params, "rank"), "rank")
    if settings.most is None or settings.most <= len(lines):
        return []
    return [
        ParameterError(
            f"rank.candidates = {shown(settings.candidates)}",
            f"at most the {len(lines)} declared backbones",
            f"lower it, or set it to {ALL}",
            "rank.candidates",
        )
    ]


def _tune_faults(params: Mapping[str, Any], known: set[str]) -> list[UserError]:
    """Return the fault of a search without anything to vary; `known` are the keys at fault."""
    if any(key.startswith(("tune", "preprocess")) for key in known):
        return []
    settings = parse(TuneParams, lookup(params, "tune"), "tune")
    views = parse(PreprocessParams, lookup(params, "preprocess"), "preprocess").views
    if settings.trials == 0 or varied(settings.space, views):
        return []
    return [
        ParameterError(
            f"tune.trials = {settings.trials} with nothing in tune.space to vary",
            "a range or choices for a hyperparameter"
            + ("" if views else " (there are no views: preprocess.views = 0)"),
            "give one, or set tune.trials to 0",
            "tune.space",
        )
    ]


def _export_faults(params: Mapping[str, Any], known: set[str]) -> list[UserError]:
    """Return the faults of names of backbones and exports; `known` are the keys at fault in the sections."""
    lines = params.get("backbones")
    declared = [name for name in lines if isinstance(name, str)] if isinstance(lines, Mapping) else []
    found: list[UserError] = [
        ParameterError(
            f"a backbone named '{name}'",
            f"another name ('{name}' has a special meaning in {place})",
            "rename it and set its 'builder'",
            f"backbones.{name}",
        )
        for name, place in ((WINNER, "export.backbones"), (RECOMMENDED, "the metrics"))
        if name in declared
    ]
    if any(key.startswith("export") for key in known) or not declared or "export" not in params:
        return found
    return found + [
        ParameterError(
            f"export.backbones names {shown(name)}",
            f"'{WINNER}' or a declared backbone ({', '.join(declared)})",
            nearest(name, [WINNER, *declared]) or "correct it, or add the backbone",
            "export.backbones",
        )
        for name in params["export"]["backbones"]
        if name != WINNER and name not in declared
    ]


def _usable(params: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return `params` with placeholders for faulty values that the lines refer to."""
    shared = params.get("finetune")
    unknown_sizes = any(key == "preprocess" or key.startswith("preprocess.sizes") for key in known)
    unknown_source = bool(known & {"weights", "weights.source"})
    return dict(params) | {
        "finetune": shared if isinstance(shared, Mapping) else {},
        # Any size of a line may be one of the unreadable sizes.
        "preprocess": {"sizes": list(range(32, 1025))} if unknown_sizes else params["preprocess"],
        "weights": {"source": "imagenet"} if unknown_source else params["weights"],
    }


def _reported(fault: UserError, name: str, line: object, known: set[str]) -> bool:
    """Return whether a backbone's fault, one not in its line, is already reported for section `finetune`."""
    path = fault.key.removeprefix(f"backbones.{name}").split(".")[1:]
    shared = {".".join(["finetune", *path[:depth]]) for depth in range(len(path) + 1)}
    return not _holds(line, path) and not known.isdisjoint(shared)


def _holds(line: object, path: list[str]) -> bool:
    """Return whether a line has its own value at `path`, or one above it that is no mapping."""
    value: Any = {} if line is None else line
    for part in path:
        if not isinstance(value, Mapping):
            return True
        if part not in value:
            return False
        value = value[part]
    return True


def unquoted_faults(text: str) -> list[UserError]:
    """Return the values between braces or brackets with a colon and no quotes, which DVC cannot read.

    It reads YAML by ruamel.yaml in C, which takes such a colon for a mistake; PyYAML takes it for text.
    """
    found: list[UserError] = []
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        depth += isinstance(token, yaml.FlowMappingStartToken | yaml.FlowSequenceStartToken)
        depth -= isinstance(token, yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken)
        if depth and isinstance(token, yaml.ScalarToken) and token.plain and ":" in token.value:
            place = f"{shown(token.value)} in line {token.start_mark.line + 1} between braces without quotes"
            found.append(ParameterError(place, "quotes where a value has a colon", f"write '{token.value}'"))
    return found


def source_faults(params: Mapping[str, Any]) -> list[UserError]:
    """Return what would stop DVC at `data.source`, which it hashes before `ingest` runs, with a less helpful message.

    A source under DVC (`dvc add`, `dvc import-url`) may still be fetched.
    """
    data = params.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    if not isinstance(source, str) or not source or "://" in source:
        return []
    path = Path(source)
    if os.path.lexists(path):
        return [*obstacles(path)]
    return [] if path.with_name(f"{path.name}.dvc").exists() else [_missing(path)]


def _missing(path: Path) -> ParameterError:
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    meant = next((place for place in _elsewhere(path) if place.exists()), None)
    return ParameterError(
        f"data.source = {shown(str(path))} does not exist",
        "a folder, an archive or a table of images",
        (meant and f"write it as '{meant}', or set it so by `-S data.source={meant}`")
        or nearest(path.name, beside)
        or "correct the path",
        "data.source",
    )


def _elsewhere(path: Path) -> Iterator[Path]:
    """Yield the absolute paths that the user may mean by one that leads nowhere from here.

    Neither DVC nor this program expands `~`. A relative path leads elsewhere from DVC's copies of the project, in which
    `dvc exp run` works with `--queue` or `--temp`, and from git's worktrees.
    """
    with suppress(RuntimeError):  # Without a home folder.
        yield path.expanduser()
    here = Path.cwd()
    for folder in here.parents:
        if folder.match(".dvc/tmp/exps"):
            yield (folder.parents[2] / path).resolve()
    if (link := here / ".git").is_file():
        # gitdir: PROJECT/.git/worktrees/NAME (gitrepository-layout(5))
        for project in Path(link.read_text(encoding="utf-8").partition(" ")[2].strip()).parents[2:3]:
            yield (project / path).resolve()


def main() -> None:
    """Check params.yaml; if it is valid, write the recipes and the files that other stages depend on."""
    params = read()
    found = unquoted_faults(FILE.read_text(encoding="utf-8")) + faults(params) + source_faults(params)
    if found:
        raise GroupedUserError(found)
    with replacing_folder(RECIPES) as folder:
        write_recipes(params, folder)
    write_text(Path("data/checked.txt"), "params.yaml is valid\n")
    write_json(Path("data/rankings/all.json"), {"finetune": ALL})


if __name__ == "__main__":
    run(main)
