"""What Prefect's server knows about a run: its state, its tasks, its log and its artifacts."""

import time
import uuid
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, State
from prefect.client.schemas.sorting import FlowRunSort


def last_state() -> State[Any]:
    with get_client(sync_client=True) as client:
        (latest,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    assert latest.state is not None
    # A state that comes with its run does not name it.
    latest.state.state_details.flow_run_id = latest.id
    return latest.state


def flow_run(state: State[Any]) -> uuid.UUID:
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    return run_id


def tasks(state: State[Any], count: int) -> dict[str, State[Any]]:
    """Return the final states of the flow's task runs by name, once the server knows `count` of them."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run(state)]))
    deadline = time.monotonic() + 60
    while True:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=chosen)
        states = {run.name: run.state for run in runs if run.state and run.state.is_final()}
        if len(states) >= count:
            return states
        assert time.monotonic() < deadline, f"fewer than {count} tasks have ended: {list(states)}"
        time.sleep(0.1)


def task_states(state: State[Any], count: int) -> dict[str, str]:
    """Return the names of the final states of the flow's task runs, once the server knows `count` of them."""
    return {stage: found.name or "" for stage, found in tasks(state, count).items()}


def log_lines(state: State[Any], awaited: str) -> dict[str, int]:
    """Return the lines in the flow's log with their levels, once `awaited` is among them."""
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run(state)]))
    deadline = time.monotonic() + 30
    while True:
        with get_client(sync_client=True) as client:
            lines = {log.message: log.level for log in client.read_logs(chosen, limit=200)}
        if awaited in lines:
            return lines
        assert time.monotonic() < deadline, f"no line {awaited!r} among {list(lines)}"
        time.sleep(0.1)


def artifacts(state: State[Any]) -> dict[str, Artifact]:
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run(state)]))
    with get_client(sync_client=True) as client:
        return {artifact.key or "": artifact for artifact in client.read_artifacts(artifact_filter=chosen)}
