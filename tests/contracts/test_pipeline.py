"""The contracts between dvc.yaml, params.yaml and the code: what a stage uses is what it lists, and nothing else."""

import ast
import re
import subprocess
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from flows.resources import ALONE, ON_GPU
from stages import views  # noqa: F401 (its sections)
from stages.check import OF_BACKBONES, SECTIONS, TOP
from stages.core import presets
from stages.core.params import Section, read
from stages.core.settings.backbones import Network
from stages.core.settings.recipes import FeaturesRecipe, StageRecipe, WeightsRecipe
from tests.contracts.closure import ROOT, closure

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
# A stage's own entry: for those that run once for each backbone, what stands under `do`.
STAGES: dict[str, dict[str, Any]] = {name: entry.get("do", entry) for name, entry in GRAPH["stages"].items()}
PARAMS = read(ROOT / "params.yaml")
PER_BACKBONE = ("weights", "features", "probe", "views", "unfreeze", "finetune", "explain", "benchmark")
ARTEFACTS = {
    "check": ["data/checked.txt", "data/recipes", "data/rankings/all.json"],
    "ingest": ["data/raw", "data/quarantine", "data/manifest.csv", "data/rejects.csv"],
    "split": ["data/splits.csv", "data/leaks.csv"],
    "preprocess": ["data/prepared"],
    "weights": ["data/weights/${key}"],
    "features": ["data/features/${key}"],
    "probe": ["data/probes/${key}"],
    "rank": ["data/ranking.csv", "data/rankings/best", "data/rankings/contenders.json"],
    "candidates": ["data/candidates"],
    "audit": ["data/audit.json", "data/suspects.csv", "data/report/audit.html"],
    "views": ["data/views/${key}"],
    "tune": ["data/tuning"],
    "unfreeze": ["data/unfrozen/${key}", "data/timings/unfreeze/${key}.json"],
    "finetune": ["data/models/${key}", "data/timings/finetune/${key}.json"],
    "evaluate": ["data/evaluations"],
    "explain": ["data/explanations/${key}"],
    "benchmark": ["data/benchmarks/${key}.json"],
    "compare": [
        "data/metrics.json",
        "data/summary",
        "data/plots",
        "data/report/comparison.html",
        "data/report/comparison.md",
    ],
    "export": ["data/exports/${item}", "data/latencies/${item}.csv"],
}
# Of what each of these stages runs for everything, and how its command calls it.
EACH = dict.fromkeys(PER_BACKBONE, ("${backbones}", " ${key}")) | {"export": ("${export.backbones}", " ${item}")}
# What lies beside the code: templates, catalogues of languages, the shipped parameters.
TEXTS = {str(path.relative_to(ROOT)) for kind in ("j2", "po", "yaml") for path in (ROOT / "stages").rglob(f"*.{kind}")}
each_stage = pytest.mark.parametrize("stage", STAGES)


def paths(entries: list[Any]) -> list[str]:
    """Return the paths of a list of dependencies or outputs, with or without options."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def module(stage: str) -> str:
    return re.findall(r"python -m (stages\.\w+)", STAGES[stage]["cmd"])[0]


# What runs: the stages, and the programs beside the graph.
PROGRAMS = ("stages.gate.__main__", "stages.predict.__main__", "stages.use.__main__", *map(module, STAGES))


def source(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def related(one: str, other: str) -> bool:
    """Return whether one path is the other, or lies in it."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


# Names and paths ----------------------------------------------------------------------------------------


def test_stages_and_artefacts_have_the_names_that_others_rely_on() -> None:
    assert {stage: paths(entry["outs"]) for stage, entry in STAGES.items()} == ARTEFACTS


def test_the_stages_of_a_backbone_run_for_each_declared_one_and_export_for_each_that_is_named() -> None:
    assert {name: entry.get("foreach") for name, entry in GRAPH["stages"].items()} == {
        stage: EACH.get(stage, (None,))[0] for stage in ARTEFACTS
    }


@each_stage
def test_a_command_runs_one_module_and_names_no_place_host_or_device(stage: str) -> None:
    command = f"python -m stages.{stage}" + EACH.get(stage, ("", ""))[1]
    if stage == "views":
        # Where there are no views, not even a Python for each backbone.
        command = "if [ ${preprocess.views} = 0 ]; then mkdir -p data/views/${key}; else " + command + "; fi"
    assert STAGES[stage]["cmd"] == command
    assert (ROOT / "stages" / f"{stage}.py").is_file()


def test_every_module_beside_the_rooms_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == {*STAGES, "__init__"}


def test_what_is_made_of_each_backbone_is_removed_with_its_line() -> None:
    outs = [out for entry in STAGES.values() for out in paths(entry["outs"]) if "${key}" in out]
    assert {out.removeprefix("data/").partition("/${key}")[0] for out in outs} == set(OF_BACKBONES)


def test_no_room_holds_more_than_twenty_modules() -> None:
    rooms = {path.parent for path in (ROOT / "stages").rglob("*.py")} - {ROOT / "stages"}
    sizes = {str(room.relative_to(ROOT)): len([*room.glob("[a-z]*.py")]) for room in rooms}
    assert {room: size for room, size in sizes.items() if size > 20} == {}


def test_the_flow_lends_the_gpu_to_the_stages_that_run_tensorflow() -> None:
    assert {stage for stage in STAGES if "stages/networks/keras_engine.py" in closure(f"stages.{stage}")} == ON_GPU
    assert ALONE.issubset(STAGES)


@each_stage
def test_paths_stay_inside_the_repository(stage: str) -> None:
    assert "wdir" not in STAGES[stage]
    for path in paths(STAGES[stage]["deps"] + STAGES[stage]["outs"]):
        assert re.fullmatch(
            r"params\.yaml|(data|stages)/[a-z0-9_/.]*(\$\{(key|item|rank\.candidates)\}[a-z_/.]*)?"
            r"|\$\{(data\.source|weights\.folder)\}",
            path,
        )


def test_git_keeps_metrics_plots_and_the_report_in_short_and_dvc_the_pages() -> None:
    options = {
        path: settings
        for entry in STAGES.values()
        for out in entry["outs"]
        if isinstance(out, dict)
        for path, settings in out.items()
    }
    kept = [path for path in ("data/audit.json", *ARTEFACTS["compare"]) if not path.endswith(".html")]
    assert options == {path: {"cache": False} for path in kept}


def test_git_holds_no_large_file() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert files
    assert [path for path in files if path.is_file() and path.stat().st_size > 1_000_000] == []


@each_stage
def test_no_stage_is_kept_out_of_the_run_cache(stage: str) -> None:
    assert set(STAGES[stage]) - {"params"} == {"desc", "cmd", "deps", "outs"}


@each_stage
def test_what_a_stage_reads_is_written_by_an_earlier_one(stage: str) -> None:
    earlier = [out for name in list(STAGES)[: list(STAGES).index(stage)] for out in ARTEFACTS[name]]
    for path, candidates in product(paths(STAGES[stage]["deps"]), ("all", "best/3", "contenders")):
        found = path.replace("${rank.candidates}", candidates)
        assert found.startswith(("stages/", "params.yaml", "${data.source}", "${weights.folder}")) or any(
            related(found, out) for out in earlier
        )


@each_stage
def test_every_stage_waits_for_the_check_of_params(stage: str) -> None:
    waiting, seen = [stage], set()
    while waiting:
        seen.add(name := waiting.pop())
        read_paths = paths(STAGES[name]["deps"])
        waiting += [
            other
            for other, outs in ARTEFACTS.items()
            if other not in seen and any(related(out, path) for out in outs for path in read_paths)
        ]
    assert "check" in seen


def upstream(stage: str, candidates: str) -> set[str]:
    """Return all stages that a stage waits for while `rank.candidates` has this value."""
    waiting, seen = [stage], set()
    while waiting:
        read_paths = [path.replace("${rank.candidates}", candidates) for path in paths(STAGES[waiting.pop()]["deps"])]
        found = {
            other for other, outs in ARTEFACTS.items() if any(related(out, path) for out in outs for path in read_paths)
        }
        waiting += found - seen
        seen |= found
    return seen


def test_training_waits_for_a_ranking_only_where_candidates_come_from_it() -> None:
    assert "rank" not in upstream("finetune", "all")
    assert "rank" in upstream("finetune", "best/3")
    assert "rank" in upstream("finetune", PARAMS["rank"]["candidates"])


def test_the_ranking_waits_for_no_view_and_no_training() -> None:
    assert upstream("rank", PARAMS["rank"]["candidates"]) == {
        "check", "ingest", "split", "preprocess", "weights", "features", "probe"
    }  # fmt: skip


# Code ---------------------------------------------------------------------------------------------------


def room(file: str) -> str:
    """Return the folder of `stages` that a file lies in, or a stage's module itself."""
    return "/".join(file.split("/")[:2])


def texts(files: set[str]) -> set[str]:
    """Return the templates and other texts that code reads: it names them, and these others that they include."""
    used: set[str] = set()
    waiting = files
    while waiting:
        text = "".join((ROOT / file).read_text(encoding="utf-8") for file in waiting)
        waiting = {path for path in TEXTS - used if f'"{Path(path).name}"' in text}
        used |= waiting
    return used


@each_stage
def test_a_stage_lists_its_module_and_the_rooms_that_it_runs_and_no_other(stage: str) -> None:
    listed = [path for path in paths(STAGES[stage]["deps"]) if path.startswith("stages/")]
    code = closure(module(stage))
    assert len(listed) <= 5
    assert sorted(listed) == sorted({room(file) for file in code | texts(code)})


def test_no_template_or_other_text_is_left_unused() -> None:
    assert set().union(*(texts(closure(program)) for program in PROGRAMS)) == TEXTS


@pytest.mark.parametrize("stage", ["weights", "features", "views", "probe", "tune", "unfreeze", "finetune"])
def test_no_edit_of_the_reports_trains_anything_or_computes_features(stage: str) -> None:
    assert not {"stages/report", "stages/pages", "stages/exports"} & set(paths(STAGES[stage]["deps"]))


def test_rooms_hold_nothing_but_code_and_templates() -> None:
    kinds = {path.suffix for path in (ROOT / "stages").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert kinds == {".py", ".j2", ".po", ".yaml"}


def test_no_module_is_left_unused() -> None:
    used = set().union(*map(closure, PROGRAMS))
    written = {str(path.relative_to(ROOT)) for path in (ROOT / "stages").rglob("*.py") if path.stem != "__init__"}
    assert used == written


def constants(stage: str) -> set[str]:
    """Return the paths under data/ that a stage's module, the selection and the recipes name, but for docstrings."""
    shared = {"stages/core/selection.py", "stages/core/settings/recipes.py"}
    files = {f"stages/{stage}.py"} | closure(module(stage)) & shared
    nodes = chain.from_iterable(ast.walk(source(file)) for file in files)
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {text for text in texts if re.fullmatch(r"data/[a-z_./]+", text)}


@each_stage
def test_a_stage_lists_the_artefacts_that_its_module_names(stage: str) -> None:
    listed = [path for path in paths(STAGES[stage]["deps"] + STAGES[stage]["outs"]) if path.startswith("data/")]
    for constant in constants(stage):
        assert any(related(constant, path) for path in listed), f"{constant} is not listed"
    for path in listed:
        order_only = path == "data/checked.txt" and stage != "check"
        assert order_only or any(related(path, constant) for constant in constants(stage)), f"{path} is not used"


# Parameters ---------------------------------------------------------------------------------------------


def calls(stage: str) -> Iterator[tuple[str, list[ast.expr]]]:
    """Yield name and arguments of each call, with or without the module in front, in all that the stage runs."""
    # Recipes are made of params.yaml by check alone.
    for file in closure(module(stage)) - {
        "stages/core/params.py",
        "stages/check.py",
        "stages/core/settings/backbones.py",
        "stages/core/settings/recipes.py",
    }:
        for node in ast.walk(source(file)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
                yield name, node.args


def kinds(cls: type[BaseModel]) -> set[type[BaseModel]]:
    return set(cls.__subclasses__()).union(*map(kinds, cls.__subclasses__()))


def needed(stage: str) -> set[str]:
    """Return the keys of params.yaml that the stage's code loads or looks up."""
    found = set()
    for name, arguments in calls(stage):
        second = arguments[1] if len(arguments) > 1 else None
        if name in {"load", "lookup"} and isinstance(second, ast.Constant) and isinstance(second.value, str):
            found.add(second.value)
        if name == "load_part" and isinstance(second, ast.Constant):
            (cls,) = (kind for kind in kinds(Section) if kind.__name__ == ast.unparse(arguments[0]))
            found |= {f"{second.value}.{key}" for key in cls.model_fields}
        if name in {"seed", "threads"} and not arguments:
            found.add(name)
    # What a preset sets depends on it.
    return found | ({"preset"} if any(key.split(".")[0] in presets.SECTIONS["quick"] for key in found) else set())


def covers(listed: str, key: str) -> bool:
    return key == listed or key.startswith(f"{listed}.")


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"check", "compare", *PER_BACKBONE}))
def test_a_stage_lists_the_parameters_that_it_reads_and_no_other(stage: str) -> None:
    listed, keys = set(STAGES[stage].get("params", [])), needed(stage)
    assert keys
    assert all(any(covers(key, wanted) for key in listed) for wanted in keys)
    assert all(any(covers(key, wanted) for wanted in keys) for key in listed)


@pytest.mark.parametrize("stage", PER_BACKBONE)
def test_a_stage_of_one_backbone_reads_its_recipe_and_no_other_parameters(stage: str) -> None:
    assert "params" not in STAGES[stage]
    assert needed(stage) == set()
    read_by = {ast.unparse(arguments[0]) for name, arguments in calls(stage) if name == "read_recipe"}
    assert {cls.stage for cls in kinds(StageRecipe) if cls.__name__ in read_by} == {stage}
    recipes = {path for path in paths(STAGES[stage]["deps"]) if path.startswith("data/recipes")}
    assert recipes == {f"data/recipes/${{key}}/{stage}.json"}


def test_the_gate_and_its_parameters_rerun_nothing_but_the_check() -> None:
    for stage in set(STAGES) - {"check"}:
        assert "stages/gate" not in paths(STAGES[stage]["deps"])
        assert not any(covers(key, "gate") for key in STAGES[stage].get("params", []))


def test_predicting_reruns_nothing() -> None:
    for entry in STAGES.values():
        assert "stages/predict" not in paths(entry["deps"])


@pytest.mark.parametrize("stage", ["check", "compare"])
def test_what_reads_all_of_params_depends_on_the_file(stage: str) -> None:
    assert "params" not in STAGES[stage]
    assert "params.yaml" in STAGES[stage]["deps"]


def test_what_is_trained_recomputes_no_features() -> None:
    assert set(FeaturesRecipe.model_fields) == {"seed", "threads", "features"}
    assert set(WeightsRecipe.model_fields) == {"seed", "threads", "weights", "network", "digest"}
    assert set(Network.model_fields) == {
        "name", "builder", "input_size", "pooling", "weights", "checksum", "inputs", "arguments", "output"
    }  # fmt: skip


def keys_of(value: dict[str, Any], place: str = "") -> set[str]:
    found = set()
    for key, below in value.items():
        found |= keys_of(below, f"{place}{key}.") if isinstance(below, dict) and below else {f"{place}{key}"}
    return found


def fields_of(cls: type[BaseModel], place: str) -> set[str]:
    found = set()
    for name, field in cls.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        found |= fields_of(kind, f"{place}{name}.") if nested else {f"{place}{name}"}
    return found


def test_the_keys_of_params_are_those_of_the_classes() -> None:
    classes = set().union(*(fields_of(cls, f"{section}.") for section, cls in SECTIONS.items()))
    shipped = {key for key in keys_of(PARAMS) if not key.startswith("backbones.")}
    assert shipped == classes | {"preset", "seed", "threads"}


def test_check_knows_every_section() -> None:
    assert set(PARAMS) == set(TOP)


def test_every_key_has_a_comment() -> None:
    bare = []
    section = ""
    for line in (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            section = line.split(":")[0]
        key, value = re.fullmatch(r"\s*(\w+):([^#]*)(?:#.*)?", line).groups()
        header = not value.strip() and line.startswith(" ")
        one_backbone = section == "backbones" and line.startswith(" ")
        if not (header or one_backbone or re.search(r" # \S", line)):
            bare.append(key)
    assert not bare
