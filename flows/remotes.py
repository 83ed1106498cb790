"""Sharing results between clones: outputs through DVC's remote, and the record of their runs through its run cache."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows import dvc
from flows.dvc import Outcome
from flows.graph import FlowError, Graph, with_descendants
from flows.process import ProcessGroups


def require_remote() -> None:
    """Raise FlowError when DVC has no default remote."""
    _default(dvc.settings())


def require_run_cache() -> None:
    """Raise FlowError when DVC's default remote cannot store a run cache."""
    settings = dvc.settings()
    name = _default(settings)
    if str(settings["remote"].get(name, {}).get("url", "")).startswith("http"):
        raise FlowError(f"DVC's remote '{name}' uses HTTP, which cannot store a run cache; choose another kind")


def push(stages: Sequence[str], groups: ProcessGroups, log: Callable[[str], None]) -> None:
    """Push the outputs of `stages`, and the run cache."""
    dvc.run(["push", "--run-cache", *stages], groups, log)


def reproduce(stage: str, groups: ProcessGroups, log: Callable[[str], None]) -> Outcome:
    """Pull the dependencies of `stage` from the remote, run it unless it is cached, and push its outputs.

    Raises FlowError when a dependency would have to run as well.
    """
    command = dvc.command_line("repro", "--pull", "--allow-missing", stage)
    code, lines = groups.run(command, _only({stage}, dvc.without_advice(log)))
    if code:
        return Outcome("failed", dvc.complaint(code, lines))
    push([stage], groups, log)
    return dvc.success(stage, lines)


def restore(stage: str, groups: ProcessGroups) -> None:
    """Pull the outputs of `stage` from the remote. Raise FlowError when it would have to run."""
    dvc.run(["repro", "--single-item", "--pull", stage], groups, _only(set(), lambda _line: None))


def not_restorable(graph: Graph) -> set[str]:
    """Return the stages of `graph` that a run cache cannot store, and their descendants.

    It stores no stage with an uncached output, or without dependencies.
    """
    declared = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    kinds = {stage: declared.get(stage.partition("@")[0]) for stage in graph}
    return with_descendants(graph, [stage for stage, kind in kinds.items() if kind and not _is_restorable(kind)])


def _is_restorable(declared: dict[str, Any]) -> bool:
    stage = declared.get("do", declared)
    settings = [
        setting
        for output in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        if isinstance(output, dict)
        for setting in output.values()
    ]
    cached = all(setting.get("cache", True) and not setting.get("persist", False) for setting in settings)
    return cached and not stage.get("always_changed", False) and bool(stage.get("deps") or stage.get("params"))


def _default(settings: Mapping[str, Any]) -> str:
    name = settings["core"].get("remote")
    if not name:
        raise FlowError("DVC has no default remote; run `dvc remote add --default NAME URL`")
    return str(name)


def _only(stages: set[str], log: Callable[[str], None]) -> Callable[[str], None]:
    """Return a `log` that raises FlowError as soon as DVC runs the command of a stage not in `stages`."""

    def checked(line: str) -> None:
        log(line)
        for stage in set(dvc.started([line])) - stages:
            raise FlowError(
                f"DVC's remote has no record of the run of '{stage}', so it would have to run again here; "
                f"run `dvc repro {stage}` where the flow was started, and commit dvc.lock"
            )

    return checked
