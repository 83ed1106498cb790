"""Ending a program by a signal as if by an error: what it has fetched and unpacked is removed."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# By these a scheduler, a container or a closed terminal ends a program. Ctrl-C is an exception anyway.
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Raise SystemExit in the block when a signal ends this program, with the status that a shell reports for it.

    A second signal ends it at once. One that the program was started to ignore, as by nohup, is still ignored.
    """
    ours = [number for number in _ENDINGS if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> None:
    for ending in _ENDINGS:
        if signal.getsignal(ending) == _exit:
            signal.signal(ending, signal.SIG_DFL)
    sys.exit(128 + number)
