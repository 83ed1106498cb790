"""Stage `check`: validate all of params.yaml and the names of the source's files, and report every fault at once.

Imports the typed parameters of every stage and of the gate, and no heavy libraries. `data/checked.txt` always has the
same content: other stages depend on it, but rerun only when their own parameters change. So does
`data/rankings/all.json`, which replaces a ranking if all backbones are trained further. `data/recipes/B/` has the
parameters of each backbone (see stages/core/settings/recipes.py), and the checksum of its file of weights or ONNX file
if it has one on this machine: DVC runs this stage again when a file in `weights.folder` changes, and then stage
weights. What stages made of other backbones is removed. The log names what a preset overrides.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from stages.core.errors import GroupedUserError, ParameterError, UserError, run
from stages.core.files import remove, replacing_folder, write_json, write_text
from stages.core.params import FILE, as_written, common, lookup, nearest, parse, preset, shown, with_preset
from stages.core.presets import FULL, at_most
from stages.core.presets import SECTIONS as PRESET_SECTIONS
from stages.core.settings.audit import AuditParams
from stages.core.settings.backbones import preset_values, resolve
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
from stages.core.settings.report import COST, ReportParams
from stages.core.settings.split import SplitParams
from stages.core.settings.tune import TuneParams, varied
from stages.core.settings.weights import WeightsParams
from stages.sources import own_weights
from stages.sources.presence import source_faults

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
# Where each backbone has a folder or a file of its own; there are stages that depend on all of such a folder.
OF_BACKBONES = (
    "weights", "features", "probes", "views", "unfrozen", "models", "explanations", "benchmarks", "timings/unfreeze",
    "timings/finetune",
)  # fmt: skip
TOP = ("preset", "seed", "threads", *SECTIONS, "backbones")

_log = logging.getLogger(__name__)


def faults(params: Mapping[str, Any]) -> list[UserError]:
    """Return every fault in `params`, in the order of the file's sections."""
    found: list[UserError] = [
        ParameterError(
            f"unknown section {shown(key)}", f"one of {', '.join(TOP)}", nearest(str(key), list(TOP)) or "remove it"
        )
        for key in params
        if key not in TOP
    ]
    found += _faults_of(partial(preset, params)) + _faults_of(partial(common, params))
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
            f"a backbone named '{WINNER}'",
            f"another name ('{WINNER}' has a special meaning in export.backbones)",
            "rename it and set its 'builder'",
            f"backbones.{WINNER}",
        )
        for name in declared
        if name == WINNER
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
        # What a preset would replace has to be right as well.
        "preset": FULL,
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


def overridden(params: Mapping[str, Any]) -> list[str]:
    """Return what the preset of checked `params` sets in place of other values, such as `tune.trials: 0 for 50`."""
    values = at_most(PRESET_SECTIONS[params["preset"]], params)
    found = [
        f"{section}.{key}: {shown(value)} for {shown(params[section][key])}"
        for section, keys in values.items()
        for key, value in keys.items()
        if params[section][key] != value
    ]
    of_backbones: dict[str, list[str]] = {}
    for name in params["backbones"]:
        full, effective = resolve(name, {**params, "preset": FULL}), resolve(name, params)
        for key in _leaves(preset_values(full.builder, params)):
            if (value := attrgetter(key)(effective)) != attrgetter(key)(full):
                of_backbones.setdefault(f"{key}: {shown(value)}", []).append(name)
    return found + [f"{setting} ({', '.join(names)})" for setting, names in of_backbones.items()]


def _leaves(values: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}"


def forget_others(declared: Collection[str]) -> None:
    """Remove what stages made of backbones that are not declared any more; DVC's cache keeps it.

    Stages that depend on the results of all backbones would depend on these too: DVC would not find them as recorded in
    a clone that never had such a backbone.
    """
    for folder in OF_BACKBONES:
        for place in Path("data", folder).glob("[!.]*"):
            if place.stem not in declared:
                _log.info("%s is of no declared backbone: removed, and kept in DVC's cache", place)
                remove(place)


def without_effect(params: Mapping[str, Any]) -> str:
    """Return the hint that costs are set while another measure decides; nothing otherwise."""
    report = params["report"]
    if not report["costs"] or report["measure"] == COST:
        return ""
    return (
        f"report.costs has no effect, since report.measure is {report['measure']}: set that to {COST} to decide by it"
    )


def main() -> None:
    """Check params.yaml; if it is valid, write the recipes and the files that other stages depend on."""
    params = as_written()
    found = unquoted_faults(FILE.read_text(encoding="utf-8")) + faults(params)
    found += source_faults(params) + ([] if found else own_weights.faults(params))
    if found:
        raise GroupedUserError(found)
    with replacing_folder(RECIPES) as folder:
        write_recipes(with_preset(params), folder, own_weights.digests(params))
    forget_others(params["backbones"])
    if replaced := overridden(params):
        _log.info("preset %s sets %s", params["preset"], "; ".join(replaced))
    if hint := without_effect(params):
        _log.warning("%s", hint)
    write_text(Path("data/checked.txt"), "params.yaml is valid\n")
    write_json(Path("data/rankings/all.json"), {"finetune": ALL})


if __name__ == "__main__":
    run(main)
