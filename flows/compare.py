"""The whole comparison as a Prefect flow: `python -m flows.compare [--jobs N] [TARGETS...]`.

DVC decides what has to run and keeps what was made; Prefect starts each stage as soon as what it needs
is done, and shows state, duration and log of each.
"""

import argparse
import logging
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows import commands
from flows.graph import FlowError, Graph, Schedule, select, with_descendants
from flows.process import StoppedError
from flows.runners import LocalRunner, Runner
from flows.server import server

REPORT = Path("data/report/comparison.md")

_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")


# DVC is the only cache, and a stage that failed once fails again: no caching, no retries.
@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, retries=0, persist_result=False)
def run_stage(stage: str, runner: Runner, *, changed: bool) -> State[Any]:
    """Run one stage and end in the state that says how it went."""
    if not changed:
        return Completed(name="Cached", message="unchanged")
    logger = get_run_logger()
    try:
        outcome = runner.run(stage, lambda line: logger.log(level(line), "%s", line))
    except StoppedError:
        return Cancelled(message="stopped before its end")
    if outcome.how == "failed":
        return Failed(message=outcome.message)
    return Completed(name="Cached" if outcome.how == "cached" else "Completed", message=outcome.message)


@flow(name="compare", persist_result=False)
def compare(targets: tuple[str, ...] = (), jobs: Annotated[int, Field(ge=1)] = 1) -> State[Any]:
    """Run the stages that `targets` and all they need make up (everything without targets), `jobs` at a time.

    A stage that fails stops only what depends on it; the flow then fails at its end.
    """
    try:
        graph = select(commands.read_graph(), targets)
        changed = with_descendants(graph, commands.outdated(graph))
        schedule = run_stages(graph, changed, jobs, LocalRunner())
        left = [] if schedule.failed or not changed else sorted(commands.outdated(graph))
    except FlowError as error:
        return Failed(message=str(error))
    if schedule.failed:
        return Failed(message=failure(schedule))
    if left:
        return Failed(message=f"every stage has run, but DVC still finds changes in {', '.join(left)}")
    publish_report()
    return Completed(message=f"{len(graph)} stages are up to date, {len(graph) - len(changed)} were unchanged")


def run_stages(graph: Graph, changed: set[str], jobs: int, runner: Runner) -> Schedule:
    """Run every stage of `graph`; whatever ends the waiting also ends all that was started."""
    logging.getLogger("prefect.task_runs").addFilter(_without_empty_traceback)
    schedule = Schedule(graph, jobs)
    running: dict[PrefectFuture[State[Any]], str] = {}
    try:
        while True:
            for stage in schedule.start():
                running[run_stage.submit(stage, runner, changed=stage in changed)] = stage
            if not running:
                return schedule
            future = next(as_completed(list(running)))
            future.wait()
            schedule.finish(running.pop(future), succeeded=future.state.is_completed())
    except BaseException:
        # A signal ends neither the threads nor their commands by itself.
        runner.stop()
        raise


def failure(schedule: Schedule) -> str:
    """Return the sentence that names the failed stages and those that were not run because of them."""
    sentence = f"failed: {', '.join(schedule.failed)}"
    return f"{sentence}; not run because of that: {', '.join(schedule.skipped)}" if schedule.skipped else sentence


def publish_report() -> None:
    """Show the report, where there is one, among the flow's artifacts."""
    if REPORT.is_file():
        create_markdown_artifact(REPORT.read_text(encoding="utf-8"), key="comparison", description="The report")


def level(line: str) -> int:
    """Return the logging level that a line of output begins with, or INFO."""
    found = _LEVEL.match(line)
    return logging.getLevelNamesMapping()[found[1]] if found else logging.INFO


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.compare", description="Run the comparison as a flow.")
    parser.add_argument("--jobs", type=_at_least_one, default=1, metavar="N", help="stages at the same time (1)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages to run with all they need (all)")
    options = parser.parse_args(arguments)
    # By default SIGTERM would end this process before it could stop the server.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        if options.targets:
            # Before Prefect's server starts, so that a typing error is answered at once.
            select(commands.read_graph(), options.targets)
        with server():
            state: State[Any] = compare(tuple(options.targets), options.jobs, return_state=True)
    except FlowError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("flow: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0 if state.is_completed() else _refuse(state.message or state.name or "failed")


def _without_empty_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback "NoneType: None" off the line that Prefect logs for a task that returns a failure."""
    if record.exc_info == (None, None, None):
        record.exc_info = None
    return True


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
    sys.exit(main())
