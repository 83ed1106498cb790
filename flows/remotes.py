"""Results that travel between clones: outputs through DVC's remote, the record of what made them as its run cache."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows import commands
from flows.commands import Outcome
from flows.graph import FlowError, Graph, with_descendants
from flows.process import ProcessGroups


def require_remote() -> None:
    """Raise FlowError when DVC has no remote by default."""
    if not _default():
        raise FlowError("DVC has no default remote; run `dvc remote add --default NAME URL`")


def require_run_cache() -> None:
    """Raise FlowError when DVC's default remote cannot keep a run cache."""
    require_remote()
    if commands.ask("config", f"remote.{_default()}.url").startswith("http"):
        raise FlowError(f"DVC's remote '{_default()}' is one over HTTP, which keeps no run cache; choose another kind")


def push(stages: Sequence[str], groups: ProcessGroups, log: Callable[[str], None]) -> None:
    """Push the outputs of `stages`, and the run cache."""
    commands.run(["push", "--run-cache", *stages], groups, log)


def reproduce(stage: str, groups: ProcessGroups, log: Callable[[str], None]) -> Outcome:
    """Bring what `stage` needs from the remote, run it if that has not been done yet, and push its outputs.

    Raise FlowError when a stage that it needs would have to run as well.
    """
    code, lines = groups.run(commands.dvc("repro", "--pull", "--allow-missing", stage), _only({stage}, log))
    if code:
        return Outcome("failed", commands.complaint(code, lines))
    push([stage], groups, log)
    return commands.success(stage, lines)


def restore(stage: str, groups: ProcessGroups) -> None:
    """Bring the outputs of `stage` from the remote. Raise FlowError when it would have to run."""
    commands.run(["repro", "--single-item", "--pull", stage], groups, _only(set(), lambda _line: None))


def not_restorable(graph: Graph) -> set[str]:
    """Return the stages of `graph` that a run cache does not keep, and what needs them.

    It keeps none with an output that DVC does not cache, or with nothing that it depends on.
    """
    declared = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    kinds = {stage: declared.get(stage.partition("@")[0]) for stage in graph}
    return with_descendants(graph, [stage for stage, kind in kinds.items() if kind and not _is_kept(kind)])


def _is_kept(declared: dict[str, Any]) -> bool:
    stage = declared.get("do", declared)
    settings = [
        setting
        for output in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        if isinstance(output, dict)
        for setting in output.values()
    ]
    cached = all(setting.get("cache", True) and not setting.get("persist", False) for setting in settings)
    return cached and not stage.get("always_changed", False) and bool(stage.get("deps") or stage.get("params"))


def _default() -> str:
    return commands.ask("config", "core.remote").strip()


def _only(stages: set[str], log: Callable[[str], None]) -> Callable[[str], None]:
    """Return `log`, made to raise FlowError as soon as DVC runs the command of another stage than `stages`."""

    def watch(line: str) -> None:
        log(line)
        for stage in set(commands.started([line])) - stages:
            raise FlowError(
                f"DVC's remote has no record of the run of '{stage}', so it would have to run again here; "
                f"run `dvc repro {stage}` where the flow was started, and commit dvc.lock"
            )

    return watch
