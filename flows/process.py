"""Running commands whose output is read line by line, and none of whose processes survives."""

import contextlib
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from flows import guard, proxies
from flows.faults import without_traceback
from flows.guard import CLEAN_UP_SECONDS, HEED_SECONDS
from flows.redaction import redact

# CSI, OSC and two-character escape sequences (ECMA-48, 5th edition, 5.3 to 5.6).
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# A guard ends its command within this time, gracefully or not.
_STOP_SECONDS = HEED_SECONDS + CLEAN_UP_SECONDS + 1.0
_POLL_SECONDS = 0.05
# With these each warning of a library ends a command, `python -m` finds no stage, and OpenVINO misses docstrings.
_FATAL = {"PYTHONWARNINGS", "PYTHONSAFEPATH", "PYTHONOPTIMIZE"}
_WORKER_SECONDS = 0.5


class StoppedError(Exception):
    """A command was not started, or was ended, because of a stop."""


class ProcessGroups:
    """Concurrent commands, each with a guard, that can all be stopped together.

    `run` is called from many threads, `stop` from the one that waits for them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def run(self, command: Sequence[str], log: Callable[[str], None]) -> tuple[int, list[str]]:
        """Run `command`, passing each line of its output to `log`; return its exit code and lines.

        Secrets in the lines are redacted. Raises StoppedError when `stop` was called before or meanwhile.
        """
        process = self._start(command)
        assert isinstance(process.stdout, io.BufferedReader)
        assert process.stdin
        lines: list[str] = []
        try:
            # Only a line feed ends a line: a carriage return redraws a progress bar within its line.
            with io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline="\n") as output:
                for raw in output:
                    if line := redact(clean(raw)):
                        lines.append(line)
                        log(line)
            code = process.wait()
        except BaseException:
            end([process])
            raise
        finally:
            process.stdin.close()
            stopped = self._forget(process)
        if stopped:
            raise StoppedError
        return code, lines

    def check(self) -> None:
        """Raise StoppedError when `stop` was called."""
        if self._stopping:
            raise StoppedError

    def stop(self) -> None:
        """End every command with all its children, and prevent new ones."""
        with self._lock:
            self._stopping = True
            processes = list(self._processes)
        end(processes)

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            self.check()
            process = start(command, subprocess.PIPE)
            self._processes.add(process)
        return process

    def _forget(self, process: subprocess.Popen[bytes]) -> bool:
        """Remove `process`, which has ended; return whether `stop` was called."""
        with self._lock:
            self._processes.discard(process)
            return self._stopping


def end_with_worker() -> None:
    """Send this process SIGTERM when the Prefect worker that started it, if any, is gone.

    Without its worker the run could not be cancelled any more. What the worker shows of a failure is its sentence.
    """
    if not has_worker():
        return
    for name in ("prefect.engine", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(without_traceback)
    worker = os.getppid()

    def watch() -> None:
        while os.getppid() == worker:
            time.sleep(_WORKER_SECONDS)
        # The worker read this output: Prefect would fail on the broken pipe before it reports the end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for output in (sys.stdout, sys.stderr):
            os.dup2(nowhere, output.fileno())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def has_worker() -> bool:
    """Return whether a Prefect worker started this process, to run a deployment."""
    return "PREFECT__FLOW_RUN_ID" in os.environ


def environment() -> dict[str, str]:
    """Return the environment of commands: the user's, without what would end them.

    Stage commands call `python`, and a worker or cron has no activated environment; their names of files and output
    are UTF-8, whatever the locale.
    """
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    kept = {name: value for name, value in proxies.given().items() if name not in _FATAL}
    return kept | {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}


def clean(line: str) -> str:
    """Return `line` as a terminal would finally show it: the last state of a progress bar, without colours."""
    text = _ESCAPE.sub("", line).rstrip()
    return _CONTROL.sub("", text.rpartition("\r")[2])


def start(command: Sequence[str], output: int | IO[str]) -> subprocess.Popen[bytes]:
    """Start `command` in a new session, with a guard that ends it and its children when this process ends."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment(),
    )


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Have the guards of `processes` end them; return once all their children have ended too."""
    living = list(processes)
    try:
        for process in living:
            if process.stdin:
                process.stdin.close()
        living = _survivors(living, _STOP_SECONDS)
    finally:
        # Also reached at once when a second Ctrl-C interrupts the waiting.
        for process in living:
            with contextlib.suppress(ProcessLookupError):  # It may end at any moment.
                os.killpg(process.pid, signal.SIGKILL)


def _survivors(processes: list[subprocess.Popen[bytes]], seconds: float) -> list[subprocess.Popen[bytes]]:
    """Wait `seconds` for the groups of `processes` to end; return those that have not."""
    deadline = time.monotonic() + seconds
    while (processes := [process for process in processes if _group_lives(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return processes


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # Reap the leader: a zombie still counts as a member.
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
