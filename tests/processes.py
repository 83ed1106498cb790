"""Processes as the kernel lists them (proc(5))."""

import time
from collections.abc import Iterable
from pathlib import Path


def alive(pid: int) -> bool:
    """Say whether a process is at work; one that has ended may be listed until its parent takes note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """Return the processes that the main thread of `pid` has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def await_end(pids: Iterable[int]) -> None:
    """Wait until none of these processes is at work."""
    for pid in pids:
        while alive(pid):
            time.sleep(0.01)
