"""Stages on several machines: each is a deployment run on a free worker of a Prefect work pool."""

import threading
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    WorkerFilter,
    WorkerFilterStatus,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.deployments import run_deployment

from flows import changes, git, remotes
from flows.canceller import Canceller
from flows.dvc import Outcome
from flows.graph import FlowError, Graph
from flows.process import ProcessGroups, StoppedError
from flows.runners import LocalRunner

# Prefect's name of the flow in `flows.stage`.
FLOW = "stage"
_POLL_SECONDS = 1.0


class PoolRunner:
    """Runs each stage on a worker of a pool, in the worker's clone, and restores its outputs here.

    Stages that DVC's run cache cannot store run here, since their outputs could not be restored.
    """

    def __init__(self, pool: str, graph: Graph, changed: Collection[str], log: Callable[[str], None]) -> None:
        """Prepare in the working directory; `changed` are the stages of `graph` that have to run."""
        self._pool, self._deployment = pool, _deployment(pool)
        if not _is_served(pool):
            log(f"No worker of work pool '{pool}' is online, so the stages wait: `prefect worker start --pool {pool}`")
        remotes.require_run_cache()
        changes.require_committed("workers run what is committed")
        self._commit = git.head()
        self._here = remotes.not_restorable(graph)
        self._local, self._groups = LocalRunner(), ProcessGroups()
        self._stopping, self._submitting = threading.Event(), threading.Lock()
        # Stages on workers read the outputs of unchanged ones.
        if unchanged := sorted(graph.keys() - changed):
            remotes.push(unchanged, self._groups, log)
        self._canceller = Canceller()

    def has_capacity(self, stage: str, running: Collection[str]) -> bool:
        """Return whether this machine has capacity for `stage` if it runs here; workers have their own limits."""
        return stage not in self._here or self._local.has_capacity(stage, self._here.intersection(running))

    def run(self, stage: str, log: Callable[[str], None]) -> Outcome:
        """Have a worker run `stage`, and restore its outputs."""
        if stage in self._here:
            return self._local.run(stage, log)
        try:
            if stage.endswith(".dvc"):
                return self._fetch(stage)
            state = self._await(self._submit(stage, log))
            if not state.is_completed():
                return Outcome("failed", f"on its worker: {state.message or state.name}")
            remotes.restore(stage, self._groups)
        except FlowError as error:
            return Outcome("failed", str(error))
        return Outcome("cached" if state.name == "Cached" else "ran", state.message or "done")

    def stop(self) -> None:
        """Cancel the stages on workers, and stop those that run here."""
        with self._submitting:
            self._stopping.set()
        self._canceller.close()
        self._groups.stop()
        self._local.stop()

    def _fetch(self, data: str) -> Outcome:
        """Restore data under DVC. Raise FlowError when it has uncommitted changes, which workers would not see."""
        remotes.restore(data, self._groups)
        if data in git.changed():
            raise FlowError(f"the data of {data} has changed, and workers use that of the last commit; commit it")
        return Outcome("cached", "unchanged")

    def _submit(self, stage: str, log: Callable[[str], None]) -> UUID:
        with self._submitting:
            if self._stopping.is_set():
                raise StoppedError
            # Waiting inside Prefect could not be interrupted.
            run = run_deployment(
                self._deployment,
                parameters={"stage": stage, "commit": self._commit},
                flow_run_name=stage,
                timeout=0,
            )
            assert isinstance(run, FlowRun)
            self._canceller.watch(run.id)
        log(f"Submitted to work pool '{self._pool}' as flow run '{run.name}' ({run.id}), which has the log.")
        return run.id

    def _await(self, run: UUID) -> State[Any]:
        """Return the final state of `run`, waiting out an outage of the server. Raise StoppedError after a stop."""
        while not self._stopping.wait(_POLL_SECONDS):
            try:
                with get_client(sync_client=True) as client:
                    state = client.read_flow_run(run).state
            except httpx.TransportError:
                continue  # A server that is down for a minute must not cost hours of training.
            if state and state.is_final():
                return state
        raise StoppedError


def _is_served(pool: str) -> bool:
    """Return whether a worker of `pool` has recently polled for work."""
    online = WorkerFilter(status=WorkerFilterStatus(any_=[WorkerStatus.ONLINE.value]))
    with get_client(sync_client=True) as client:
        return bool(client.read_workers_for_work_pool(pool, worker_filter=online))


def _deployment(pool: str) -> UUID:
    """Return the deployment that runs stages in `pool`. Raise FlowError when there is none."""
    with get_client(sync_client=True) as client:
        found = client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )
    if not found:
        raise FlowError(
            f"work pool '{pool}' has no deployment of flow '{FLOW}'; "
            "name the pool in one of prefect.yaml and run `prefect deploy --all`"
        )
    return found[0].id
