"""What reading one image or archive may cost. Small files can ask for any amount of time and memory."""

import mmap
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path


class ExceededError(Exception):
    """More memory was asked for than is allowed, although the machine has it."""


@dataclass(frozen=True)
class Cost:
    """The most processor time, seconds, and memory beyond what the process has already, bytes."""

    seconds: float = inf
    memory: float = inf


UNLIMITED = Cost()


@contextmanager
def limited_memory(memory: float) -> Iterator[None]:
    """Raise ExceededError when the block needs `memory` bytes more than the process has already.

    Raises MemoryError, or OSError (ENOMEM), when the machine does not allow as many. Only Linux keeps such a limit.
    """
    if sys.platform != "linux" or memory == inf:
        yield
        return
    given = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + int(memory)
    if given[0] != resource.RLIM_INFINITY and given[0] < limit:
        raise MemoryError(f"{limit / 1e9:.1f} GB may be needed, `ulimit -v` allows {given[0] / 1e9:.1f}")
    resource.setrlimit(resource.RLIMIT_AS, (limit, given[1]))
    try:
        yield
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_AS, given)
        # What the machine lacks must not pass for a fault of the file.
        mmap.mmap(-1, int(memory)).close()
        raise ExceededError from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, given)


def _address_space() -> int:
    """Return the size of this process's address space, bytes (proc(5), /proc/pid/statm)."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
