"""Running commands so that their output is read line by line and none of their processes is left behind."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# CSI, OSC and two-character escape sequences (ECMA-48, 5th edition, 5.3 to 5.6).
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# SIGINT is the stop that DVC and Python clean up after; each stronger signal follows when the seconds
# are over. A stage is gone after 8 seconds at the latest.
_STOP_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0))
_POLL_SECONDS = 0.05


class StoppedError(Exception):
    """A command was not started, or was ended, because a stop was asked for."""


class ProcessGroups:
    """Commands that run at the same time, each in a session of its own, and can all be ended together.

    A signal to a command alone would leave its children running (DVC's do), so the whole process group
    is signalled. `run` is called from many threads, `stop` from the one that waits for them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def run(self, command: Sequence[str], log: Callable[[str], None]) -> tuple[int, list[str]]:
        """Run `command` to its end, giving each line of its output to `log`; return its exit code and lines.

        Raise StoppedError when `stop` was called before or meanwhile.
        """
        process = self._start(command)
        assert isinstance(process.stdout, io.BufferedReader)
        lines: list[str] = []
        try:
            # Lines end in a line feed only: a carriage return redraws a progress bar within its line.
            with io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline="\n") as output:
                for raw in output:
                    if line := clean(raw):
                        lines.append(line)
                        log(line)
            code = process.wait()
        except BaseException:
            end([process])
            raise
        finally:
            stopped = self._forget(process)
        if stopped:
            raise StoppedError
        return code, lines

    def stop(self) -> None:
        """End every command with all its children, and let no other start."""
        with self._lock:
            self._stopping = True
            processes = list(self._processes)
        end(processes)

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopping:
                raise StoppedError
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment(),
            )
            self._processes.add(process)
        return process

    def _forget(self, process: subprocess.Popen[bytes]) -> bool:
        """Note that `process` has ended; return whether that was because of `stop`."""
        with self._lock:
            self._processes.discard(process)
            return self._stopping


def environment() -> dict[str, str]:
    """Return this process's environment with this Python's programs first in PATH and unbuffered output.

    Stage commands say `python`, and a worker or cron has no activated environment.
    """
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def clean(line: str) -> str:
    """Return `line` as a terminal would show it in the end: the last redrawing of a bar, without colours."""
    text = _ESCAPE.sub("", line).rstrip()
    return _CONTROL.sub("", text.rpartition("\r")[2])


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Signal the groups of `processes`, more and more strongly, until nothing of them is left."""
    living = list(processes)
    try:
        for number, seconds in _STOP_SIGNALS:
            _signal(living, number)
            living = _survivors(living, seconds)
    finally:
        # Reached at once when a second Ctrl-C interrupts the waiting.
        _signal(living, signal.SIGKILL)


def _survivors(processes: list[subprocess.Popen[bytes]], seconds: float) -> list[subprocess.Popen[bytes]]:
    """Wait `seconds` for the groups of `processes` to end; return those that have not."""
    deadline = time.monotonic() + seconds
    while (processes := [process for process in processes if _group_lives(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return processes


def _signal(processes: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # It may end at any moment.
            os.killpg(process.pid, number)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # Reap the leader: a dead process that nobody has waited for counts as a member.
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
