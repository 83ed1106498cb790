"""The end of a stage whose DVC is gone: nobody would record its results, and the next run would start it once more."""

import os
import signal
import threading
import time

_POLL_SECONDS = 0.5
# The stage removes its temporary files within this time, or never.
_CLEAN_UP_SECONDS = 5.0


def end_with_parent() -> None:
    """Interrupt this process, as Ctrl-C would, when the one that started it is gone, and end it if that has no effect.

    Signals to DVC alone do not reach its stage. The thread that watches takes no lock, so forks are safe.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_CLEAN_UP_SECONDS)
    os._exit(128 + signal.SIGINT)
