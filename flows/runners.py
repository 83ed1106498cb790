"""How one stage is run. The flow's waiting loop knows no more of it than what `Runner` says."""

from collections.abc import Callable, Collection
from typing import Protocol

from flows import commands, resources
from flows.commands import Outcome
from flows.process import ProcessGroups


class Runner(Protocol):
    """A way of running stages: `run` is called from many threads, the others from the one that waits for them."""

    def fits(self, stage: str, running: Collection[str]) -> bool:
        """Return whether `stage` may run beside those `running`."""

    def run(self, stage: str, log: Callable[[str], None]) -> Outcome:
        """Run `stage`, whose needs are done, giving each line of its output to `log`.

        Raise StoppedError when `stop` was called before or meanwhile.
        """

    def stop(self) -> None:
        """End every stage that runs, and let no other start."""


class LocalRunner:
    """Runs each stage through DVC in this working directory, in a process of its own."""

    def __init__(self) -> None:
        self._groups = ProcessGroups()

    def fits(self, stage: str, running: Collection[str]) -> bool:
        """Return whether this machine has room for `stage` beside those `running`."""
        return resources.fits(stage, running)

    def run(self, stage: str, log: Callable[[str], None]) -> Outcome:
        """Let DVC run `stage` alone if it has to, with the GPU to itself if it uses one."""
        if not resources.uses_gpu(stage):
            return commands.reproduce(stage, self._groups, log)
        with resources.gpu(self._groups.check, log):
            return commands.reproduce(stage, self._groups, log)

    def stop(self) -> None:
        """End every command with all its children."""
        self._groups.stop()
