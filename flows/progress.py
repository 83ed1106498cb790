"""The progress of a run: a log line for each event, and the running stages at the bottom of a terminal."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.live import Live
from rich.text import Text

from flows.graph import Schedule


class Progress:
    """The running, finished and remaining stages of a schedule, and how long each took."""

    def __init__(self, schedule: Schedule, log: Callable[[str], None]) -> None:
        self._schedule, self._log = schedule, log
        self._begin = time.monotonic()
        self._starts: dict[str, float] = {}
        # How each finished stage ended, in words, and its seconds.
        self.ended: dict[str, tuple[str, float]] = {}

    def start(self, stage: str) -> None:
        """Record that `stage` starts."""
        self._starts[stage] = time.monotonic()
        self._log(f"{stage} starts; {self._state()}")

    def finish(self, stage: str, how: str) -> None:
        """Record how `stage` ended."""
        seconds = time.monotonic() - self._starts[stage]
        self.ended[stage] = (how, seconds)
        self._log(f"{stage}: {how.lower()} after {_clock(seconds)}; {self._state()}")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the running stages below all other output, if Prefect prints to a terminal."""
        console = terminal()
        if console is None:
            yield
            return
        # Shares Prefect's console, which prints above; a second one would garble its lines.
        with Live(console=console, get_renderable=self.foot, refresh_per_second=2, transient=True):
            yield

    def foot(self) -> Text:
        """Return the lines at the bottom of the terminal."""
        now = time.monotonic()
        lines = [f"{self._counts()} {_clock(now - self._begin)}"]
        running = list(self._schedule.running)
        width = max(map(len, running), default=0)
        lines += [f"  {stage:<{width}}  {_clock(now - self._starts.get(stage, now))}" for stage in running]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def _state(self) -> str:
        running = self._schedule.running
        return f"{self._counts()}; running: {', '.join(running)}" if running else self._counts()

    def _counts(self) -> str:
        schedule = self._schedule
        faults = f"{len(schedule.failed)} failed, " if schedule.failed else ""
        return f"{len(schedule.done)} of {len(schedule.graph)} done, {faults}{len(schedule.left)} left"


def terminal() -> Console | None:
    """Return the console that Prefect logs to, if it is a terminal."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler) and handler.console.is_terminal:
            return handler.console
    return None


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
