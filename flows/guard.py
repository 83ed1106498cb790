"""Runs one command, and kills it with all its children when the caller of this program ends.

    python -I -S guard.py COMMAND [ARGUMENT...]

Standard input is a pipe that the caller keeps open and writes nothing to. The system closes it when the caller
ends, even by SIGKILL; closing it is also how the caller requests a stop. (Linux's parent-death signal reaches only
the direct child, and is sent when the thread that started it ends.)

The caller starts this in a new session. It imports no module of this project, and starts in 20 ms.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

# After SIGINT DVC and Python clean up. Processes that ignore it are killed: first the children of the command, so
# that DVC can still release its locks, then everything.
HEED_SECONDS, CLEAN_UP_SECONDS = 5.0, 2.0


class Guard:
    """One command and the thread that watches the caller."""

    def __init__(self, arguments: list[str]) -> None:
        self._command = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        self._stopping, self._ended = threading.Event(), threading.Event()

    def run(self) -> int:
        """Wait for the command; return its exit code as a shell would."""
        watch = threading.Thread(target=self._end_with_caller, daemon=True)
        watch.start()
        code = self._command.wait()
        self._ended.set()
        if self._stopping.is_set():
            watch.join()
        return code if code >= 0 else 128 - code

    def _end_with_caller(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        self._stopping.set()
        os.killpg(0, signal.SIGINT)
        if not self._ended.wait(HEED_SECONDS):
            for process_id in self._started_by_command():
                with contextlib.suppress(ProcessLookupError):  # It may end at any moment.
                    os.kill(process_id, signal.SIGKILL)
            self._ended.wait(CLEAN_UP_SECONDS)
        os.killpg(0, signal.SIGKILL)

    def _started_by_command(self) -> list[int]:
        """Return the group's processes except this one and the command; none without proc(5)."""
        group = {int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _group(entry) == os.getpgrp()}
        return list(group - {os.getpid(), self._command.pid})


def _group(entry: Path) -> int:
    try:
        # After the name, which may contain anything: state, parent, group (proc_pid_stat(5)).
        return int((entry / "stat").read_bytes().rpartition(b")")[2].split()[2])
    except OSError:
        return 0


def main() -> None:
    """Guard the command given by the arguments."""
    # Signals to the group end the command, and then this program ends. Unlike SIG_IGN, a handler is not inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    sys.exit(Guard(sys.argv[1:]).run())


if __name__ == "__main__":
    main()
