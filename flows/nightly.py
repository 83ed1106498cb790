"""The nightly run: new data, every stage, the gate and, optionally, a push and a commit."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import yaml
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import answer, changes, dvc, git, remotes, workspace
from flows.compare import run
from flows.faults import FAULTS, sentence
from flows.graph import FlowError
from flows.process import ProcessGroups, end_with_worker

MESSAGE = "Update the comparison: nightly run"
# Run as a program, like the stages.
_GATE = "stages.gate"


@flow(name="nightly", retries=0, persist_result=False)
def nightly(
    jobs: Annotated[int, Field(ge=1)] = 1, pool: str | None = None, *, commit: bool = False, push: bool = False
) -> State[Any]:
    """Fetch new data, run all stages, `jobs` at a time, and apply the gate to the result.

    `push` sends the data to DVC's remote, `commit` commits dvc.lock and the results that git tracks; both only if the
    gate passes. With `pool` the stages run on the workers of that work pool.
    """
    end_with_worker()
    try:
        with workspace.exclusive(get_run_logger().info):
            return _update(jobs, pool, commit=commit, push=push)
    except FAULTS as error:
        return Failed(message=sentence(error))


def _update(jobs: int, pool: str | None, *, commit: bool, push: bool) -> State[Any]:
    groups, log = ProcessGroups(), get_run_logger().info
    before = _ready_to_commit() if commit else None
    if push:
        remotes.require_remote()
    fetched = _fetch(groups, log)
    state = run((), jobs, pool=pool)
    if not state.is_completed():
        return state
    said = [state.message or "done", *_verdict(log), _apply_gate(groups, log)]
    # The data first: no commit may be visible without its data.
    if push:
        dvc.run(["push"], groups, log)
        said.append("pushed to DVC's remote")
    if before:
        said.append(_commit(before, fetched))
    return Completed(message="; ".join(said))


def _verdict(log: Callable[[str], None]) -> list[str]:
    """Log the answer of the comparison, if it has one; return its first line, the verdict."""
    lines = answer.answer()
    for line in lines:
        log(line)
    return [f"verdict: {lines[0].rstrip('.')}"] if lines else []


def _ready_to_commit() -> str:
    """Return the last commit. Raise FlowError, before hours of work, when a new commit would fail."""
    git.branch()
    git.require_author()
    git.require_signature()
    changes.require_committed("a commit of the results would not match their sources")
    return git.head()


def _fetch(groups: ProcessGroups, log: Callable[[str], None]) -> list[str]:
    """Have DVC fetch changes at the source of imported data; return the imports that the graph reads."""
    found = {name for name in git.dvc_files() if _is_import(Path(name))}
    # Without any, DVC's second for the graph is saved.
    imports = [stage for stage in dvc.read_graph() if stage in found] if found else []
    if imports:
        dvc.run(["update", *imports], groups, log)
    return imports


def _is_import(file: Path) -> bool:
    """Return whether a `.dvc` file records a source of its data; those of `dvc add` do not."""
    return "deps" in yaml.safe_load(file.read_text(encoding="utf-8"))


def _apply_gate(groups: ProcessGroups, log: Callable[[str], None]) -> str:
    """Return the message of the gate if it passes. Raise FlowError with its findings otherwise."""
    code, lines = groups.run([sys.executable, "-m", _GATE, "--against", "HEAD"], log)
    if code == 0:
        return lines[-1]
    if any(line.startswith("Traceback") for line in lines):
        raise FlowError(f"gate: it crashed: {lines[-1]}")
    raise FlowError(f"gate: {'; '.join(line.removeprefix('gate: ') for line in lines)}")


def _commit(before: str, fetched: list[str]) -> str:
    """Commit the results and the `.dvc` files of `fetched` data, unless anything else changed here meanwhile."""
    found = changes.since_commit()
    imports = [name for name in found.others if name in fetched]
    if git.head() != before or len(imports) < len(found.others):
        raise FlowError("commits or files have changed here since the run began, so it commits nothing; run it again")
    if not (files := [*found.results, *imports]):
        return "nothing to commit"
    return f"committed as {git.commit(files, MESSAGE)[:9]} on {git.branch()}"
