"""One stage on a worker with its own clone: the flow of each deployment run of `python -m flows.compare --pool`."""

import contextlib
from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows import changes, dvc, git, remotes, resources, workspace
from flows.compare import level
from flows.dvc import Outcome
from flows.faults import FAULTS, sentence
from flows.graph import FlowError
from flows.process import ProcessGroups, end_with_worker


@flow(name="stage", flow_run_name="{stage}", retries=0, persist_result=False)
def run_stage(stage: str, commit: str) -> State[Any]:
    """Check out `commit`, run `stage`, and push its outputs and the record of its run."""
    end_with_worker()
    logger = get_run_logger()

    def log(line: str) -> None:
        logger.log(level(line), "%s", line)

    try:
        _require_own_clone()
        with workspace.exclusive(log):
            _check_out(commit)
            outcome = _reproduce(stage, log)
    except FAULTS as error:
        return Failed(message=sentence(error))
    return outcome.state()


def _reproduce(stage: str, log: Callable[[str], None]) -> Outcome:
    groups = ProcessGroups()
    with resources.gpu(groups.check, log) if resources.uses_gpu(stage) else contextlib.nullcontext():
        return remotes.reproduce(stage, groups, log)


def _require_own_clone() -> None:
    """Raise FlowError when the flow that waits for this one runs in the same folder."""
    if workspace.holder() == runtime.flow_run.parent_flow_run_id:
        raise FlowError("this worker was started in the folder of the flow that waits for it; give it its own clone")


def _check_out(commit: str) -> None:
    """Check out `commit` in the working directory. Raise FlowError when that would lose changes."""
    changes.require_committed("a worker runs what is committed")
    if git.head() != commit:
        changes.reset()
        git.check_out(commit)
    # Data of another commit would count as changed. Without any, DVC's second for the graph is saved.
    if git.dvc_files() and (data := [stage for stage in dvc.read_graph() if stage.endswith(".dvc")]):
        dvc.ask("checkout", "--allow-missing", *data)
