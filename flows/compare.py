"""The whole comparison as a Prefect flow: `python -m flows.compare [--jobs N] [TARGETS...]`.

DVC decides which stages have to run and caches their outputs; Prefect starts each stage as soon as its
dependencies are done, and shows its state, duration and log.
"""

import argparse
import logging
import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import httpx
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed, wait
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows import answer, dvc, publish, workspace
from flows.faults import FAULTS, sentence
from flows.graph import End, Graph, Schedule, select, with_descendants
from flows.pool import PoolRunner
from flows.process import ProcessGroups, StoppedError, end_with_worker
from flows.progress import Progress
from flows.runners import LocalRunner, Runner
from flows.server import answers, leave, require_configured, server

# The most names in a sentence: a fault in params.yaml stops every stage.
_LONGEST_LIST = 12
# Failed stages that are named with their reason: of more they are mostly the same.
_REASONS = 3
# The stage that writes what the answer is read from.
_COMPARE = "compare"
# What Prefect calls the state of a stage that could not run.
_NOT_RUN = "NotRun"
# What the flow came to: Prefect returns nothing when it cannot tell its server.
_reached: list[State[Any]] = []
# What DVC puts before the last line of a stage that failed.
_DVC_SAYS = re.compile(r"failed to reproduce '[^']+': (failed to run: .*?, exited with -?\d+: )?")
_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")


# DVC is the only cache, and a stage that failed would fail again: no caching, no retries.
@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, retries=0, persist_result=False)
def run_stage(stage: str, runner: Runner) -> State[Any]:
    """Run one stage; return its final state."""
    logger = get_run_logger()
    try:
        outcome = runner.run(stage, lambda line: logger.log(level(line), "%s", line))
    except StoppedError:
        return Cancelled(message="stopped before it ended")
    except FAULTS as error:
        return Failed(message=sentence(error))
    return outcome.state()


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, retries=0, persist_result=False)
def settle_stage(stage: str, fault: str = "") -> State[Any]:  # noqa: ARG001 (its name)
    """Show a stage that does not run: it is unchanged, or `fault` prevents it."""
    if fault:
        return Cancelled(name=_NOT_RUN, message=fault)
    return Completed(name="Cached", message="unchanged")


@flow(name="compare", retries=0, persist_result=False)
def compare(
    targets: tuple[str, ...] = (),
    jobs: Annotated[int, Field(ge=1)] = 1,
    fail_fast: bool = False,  # noqa: FBT001, FBT002 (a deployment's parameter)
    pool: str | None = None,
) -> State[Any]:
    """Run `targets` and their dependencies (everything without targets), `jobs` at a time.

    A failed stage stops only those that depend on it, unless `fail_fast`; the flow then fails at its end. With
    `pool` the stages run on the workers of that work pool.
    """
    end_with_worker()
    try:
        with workspace.exclusive(get_run_logger().info):
            state = run(targets, jobs, fail_fast=fail_fast, pool=pool)
    except FAULTS as error:
        state = Failed(message=sentence(error))
    _reached.append(state)
    # Prefect would ask a server that is gone for minutes.
    answers()
    return state


def run(targets: Sequence[str], jobs: int, *, fail_fast: bool = False, pool: str | None = None) -> State[Any]:
    """Run the graph in the working directory, as `compare` does; return the final state of the flow."""
    try:
        graph = select(dvc.read_graph(), targets)
    except FAULTS as error:
        return Failed(message=sentence(error))
    return run_graph(graph, jobs, fail_fast=fail_fast, pool=pool)


def run_graph(graph: Graph, jobs: int, *, fail_fast: bool = False, pool: str | None = None) -> State[Any]:
    """Run all of `graph`; return the final state of the flow."""
    try:
        dvc.require_checked(graph, ProcessGroups(), get_run_logger().info)
        changed = with_descendants(graph, dvc.outdated(graph))
        runner = PoolRunner(pool, graph, changed, get_run_logger().info) if pool else LocalRunner()
        schedule = Schedule(graph, changed, jobs, runner.has_capacity, fail_fast=fail_fast)
        ran = run_stages(schedule, runner)
        if not schedule.complete:
            return Failed(message=failure(schedule))
        left = sorted(dvc.outdated(graph)) if changed else []
    except FAULTS as error:
        return Failed(message=sentence(error))
    if left:
        return Failed(message=f"every stage has run, but DVC still reports changes in {', '.join(left)}")
    publish.results(graph)
    return Completed(message=f"{len(graph)} stages are up to date ({ran} ran, {len(graph) - ran} cached)")


def run_stages(schedule: Schedule, runner: Runner) -> int:
    """Run the stages of `schedule`; return how many of them ran and did not come from DVC's cache.

    An exception while waiting also ends all that were started.
    """
    logging.getLogger("prefect.task_runs").addFilter(_in_short)
    settled = [settle_stage.submit(stage) for stage in schedule.done]
    progress = Progress(schedule, get_run_logger().info)
    try:
        with progress.shown():
            _run_changed(schedule, runner, progress)
    finally:
        # A signal ends neither the threads nor their commands by itself.
        runner.stop()
    settled += [settle_stage.submit(stage, missing(schedule, stage)) for stage in schedule.left]
    if schedule.left:
        get_run_logger().error("not run: %s", ", ".join(schedule.left))
    wait(settled)
    if progress.ended:
        publish.durations(progress.ended)
    return sum(how == dvc.COMPLETED for how, _ in progress.ended.values())


def _run_changed(schedule: Schedule, runner: Runner, progress: Progress) -> None:
    running: dict[PrefectFuture[State[Any]], str] = {}
    while True:
        for stage in schedule.start():
            running[run_stage.submit(stage, runner)] = stage
            progress.start(stage)
        if not running:
            return
        future = next(as_completed(list(running)))
        future.wait()
        stage = running.pop(future)
        schedule.finish(stage, end_of(future.state), future.state.message or "")
        progress.finish(stage, future.state.name or "")
        if schedule.failed and schedule.fail_fast:
            runner.stop()


def end_of(state: State[Any]) -> End:
    """Return how a stage ended, for those that depend on it."""
    if state.is_completed():
        return "done"
    return "stopped" if state.is_cancelled() else "failed"


def missing(schedule: Schedule, stage: str) -> str:
    """Return a sentence with the missing dependencies of a stage that did not run."""
    needs = [needed for needed in schedule.graph if needed in schedule.graph[stage] and needed not in schedule.done]
    return f"missing: {', '.join(needs)}" if needs else "nothing was started after the first failure"


def failure(schedule: Schedule) -> str:
    """Return a sentence with the stages that are not done, why they failed, and the backbones that are thus missing."""
    parts = {
        "failed": [_with_reason(stage, schedule) for stage in schedule.failed[:_REASONS]] + schedule.failed[_REASONS:],
        "stopped": schedule.stopped,
        "not run because of that": schedule.left,
        "missing from the comparison": missing_backbones(schedule),
    }
    said = [f"{what}: {_listed(names)}" for what, names in parts.items() if names]
    return "; ".join([*said, "earlier results are kept"])


def _with_reason(stage: str, schedule: Schedule) -> str:
    """Return a failed stage with what it said itself, without DVC's words around that."""
    lines = _DVC_SAYS.sub("", schedule.reasons[stage]).splitlines()
    return f"{stage} ({lines[0]})" if lines else stage


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LONGEST_LIST
    return ", ".join(names[:_LONGEST_LIST]) + (f" and {more} more" if more > 0 else "")


def missing_backbones(schedule: Schedule) -> list[str]:
    """Return the backbones with a stage that the comparison needs and that is not done; exports come after it."""
    needed = select(schedule.graph, [_COMPARE]) if _COMPARE in schedule.graph else {}
    undone = [stage.partition("@")[2] for stage in needed if stage not in schedule.done]
    return list(dict.fromkeys(filter(None, undone)))


def level(line: str) -> int:
    """Return the logging level that a line of output starts with, or INFO."""
    found = _LEVEL.match(line)
    return logging.getLevelNamesMapping()[found[1]] if found else logging.INFO


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.compare", description="Run the comparison as a flow.")
    parser.add_argument("--jobs", type=_at_least_one, default=1, metavar="N", help="stages at the same time (1)")
    parser.add_argument("--fail-fast", action="store_true", help="stop everything at the first failure (others go on)")
    parser.add_argument("--pool", metavar="NAME", help="run the stages on the workers of this Prefect work pool")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages to run with their dependencies (all)")
    options = parser.parse_args(arguments)
    # By default SIGTERM would end this process before it could stop the server; shells start background jobs
    # with SIGINT ignored.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # Before Prefect's server starts, so that a typo is reported at once.
        chosen = select(dvc.read_graph(), options.targets) if options.targets else None
        if options.pool:
            require_configured()
        with server():
            state = _run_flow(options)
    except FAULTS as error:
        return _refuse(sentence(error))
    except KeyboardInterrupt:
        print("flow: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    if not state.is_completed():
        return _refuse(state.message or state.name or "failed")
    if chosen is None or _COMPARE in chosen:
        for line in answer.answer():
            print(line)
    return 0


def _run_flow(options: argparse.Namespace) -> State[Any]:
    """Run the flow; return the state that it came to, whether or not Prefect's server is there to be told."""
    _reached.clear()
    try:
        state: State[Any] = compare(
            tuple(options.targets), options.jobs, options.fail_fast, options.pool, return_state=True
        )
    except httpx.HTTPError:
        if not _reached:
            raise
        (state,) = _reached
        if state.is_completed():
            # Prefect's engine would have said so.
            print(f"flow: {state.message}", file=sys.stderr)
    return state


def _in_short(record: logging.LogRecord) -> bool:
    """Drop the line for each stage that was not run: one names them all.

    Of a task that returns a failure Prefect logs the traceback "NoneType: None" as well, which goes.
    """
    if record.exc_info == (None, None, None):
        record.exc_info = None
    return not record.getMessage().startswith(f"Finished in state {_NOT_RUN}(")


def _refuse(message: str) -> int:
    print(f"flow: {message}", file=sys.stderr)
    return 1


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"received '{text}', expected a whole number, 1 or more")
    return int(text)


def _exit_on_signal(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    leave(main())
