"""Processes: as the kernel lists them (proc(5)), and one for what must be measured by itself."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def alone(function: Callable[..., Result], *arguments: object) -> Result:
    """Return what `function` returns in a copy of this process, in which no thread of another test is at work."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(function, *arguments).result()


def alive(pid: int) -> bool:
    """Say whether a process is at work; one that has ended may be listed until its parent takes note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """Return the processes that the main thread of `pid` has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def marked(mark: str) -> list[str]:
    """Return the commands of the living processes whose environment holds `mark`."""
    return list(marked_ids(mark).values())


def marked_ids(mark: str) -> dict[int, str]:
    """Return the commands of these processes by their ids."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


def await_end(pids: Iterable[int]) -> None:
    """Wait until none of these processes is at work."""
    for pid in pids:
        while alive(pid):
            time.sleep(0.01)
