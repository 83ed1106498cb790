"""A run on demand: any stages, with overridden parameters, saved as a DVC experiment."""

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import dvc, experiments, workspace
from flows.compare import run_graph
from flows.faults import FAULTS, sentence
from flows.graph import select
from flows.process import ProcessGroups, end_with_worker


@flow(name="on-demand", retries=0, persist_result=False)
def on_demand(
    targets: tuple[str, ...] = (),
    jobs: Annotated[int, Field(ge=1)] = 1,
    overrides: tuple[str, ...] = (),
    name: str | None = None,
) -> State[Any]:
    """Run `targets` and their dependencies (everything without targets) on the last commit, in a separate folder.

    `overrides` are written as for `dvc exp run -S`: `finetune.head.dropout=0.3`. The result is saved as the
    experiment `name`, or one that DVC names; `dvc exp show` compares it, `dvc exp apply` applies it here.
    """
    end_with_worker()
    log = get_run_logger().info
    try:
        if name:
            experiments.require_free(name)
        with workspace.trial(log):
            experiments.override(overrides)
            graph = select(dvc.read_graph(), targets)
            state = run_graph(graph, jobs)
            if not state.is_completed():
                return state
            # With its stages named, DVC does not commit others, which may be outdated.
            saved = experiments.save(name, list(graph) if targets else [], ProcessGroups(), log)
    except FAULTS as error:
        return Failed(message=sentence(error))
    return Completed(message=f"{state.message}; saved as experiment {saved}: `dvc exp apply {saved}`")
