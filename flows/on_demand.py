"""A run on demand: any stages, with other values of parameters, kept as an experiment of DVC's."""

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import commands, experiments, workspace
from flows.compare import run
from flows.graph import FlowError, select
from flows.process import ProcessGroups, end_with_worker


@flow(name="on-demand", persist_result=False)
def on_demand(
    targets: tuple[str, ...] = (),
    jobs: Annotated[int, Field(ge=1)] = 1,
    overrides: tuple[str, ...] = (),
    name: str | None = None,
) -> State[Any]:
    """Run `targets` and all they need (everything without targets) on the last commit, in a folder of their own.

    `overrides` are written as for `dvc exp run -S`: `finetune.head.dropout=0.3`. The result is kept as the
    experiment `name`, or one that DVC names; `dvc exp show` compares, `dvc exp apply` brings it here.
    """
    end_with_worker()
    log = get_run_logger().info
    try:
        if name:
            experiments.require_free(name)
        with workspace.trial(log):
            experiments.override(overrides)
            state = run(targets, jobs)
            if not state.is_completed():
                return state
            # With a name for each stage DVC commits no other, which may be out of date.
            stages = list(select(commands.read_graph(), targets)) if targets else []
            saved = experiments.save(name, stages, ProcessGroups(), log)
    except FlowError as error:
        return Failed(message=str(error))
    return Completed(message=f"{state.message}; kept as experiment {saved}: `dvc exp apply {saved}`")
