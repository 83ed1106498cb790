import io
import logging

import pytest
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console

from flows.graph import Schedule
from flows.process import clean
from flows.progress import Progress

GRAPH = {"first": frozenset[str](), "train@a": frozenset({"first"}), "train@b": frozenset({"first"})}


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> PrefectConsoleHandler:
    """Prefect's console handler, which keeps what it writes and takes it for a terminal."""
    handler = PrefectConsoleHandler(stream=io.StringIO())
    handler.console = Console(file=handler.stream, force_terminal=True, width=60)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    return handler


def plan() -> Schedule:
    schedule = Schedule(GRAPH, ["train@a", "train@b"], 1, lambda _stage, _running: True)
    assert schedule.start() == ["train@a"]
    return schedule


def test_each_event_is_a_line_that_says_what_runs_what_is_done_and_what_is_left() -> None:
    schedule, heard = plan(), list[str]()
    progress = Progress(schedule, heard.append)
    progress.start("train@a")
    schedule.finish("train@a", "failed")
    progress.finish("train@a", "Failed")
    assert heard == [
        "train@a starts; 1 of 3 done, 1 left; running: train@a",
        "train@a: failed after 0:00:00; 1 of 3 done, 1 failed, 1 left",
    ]
    how, seconds = progress.ended["train@a"]
    assert (how, seconds < 60) == ("Failed", True)


def test_the_foot_of_a_terminal_shows_what_runs_and_leaves_the_log_whole(handler: PrefectConsoleHandler) -> None:
    progress = Progress(plan(), print)
    progress.start("train@a")
    with progress.shown():
        logging.getLogger("prefect").warning(
            "a line of the log that is longer than the terminal is wide, by some words"
        )
    lines = [clean(line) for line in handler.stream.getvalue().splitlines()]
    assert "1 of 3 done, 1 left 0:00:00" in lines
    assert "  train@a  0:00:00" in lines
    assert "a line of the log that is longer than the terminal is wide, by some words" in lines


def test_nothing_is_drawn_where_there_is_no_terminal(handler: PrefectConsoleHandler) -> None:
    handler.console = Console(file=handler.stream, width=60)
    with Progress(plan(), print).shown():
        logging.getLogger("prefect").warning("a line")
    assert handler.stream.getvalue() == "a line\n"
