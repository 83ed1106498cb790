"""Ways of running one stage. The flow's loop only knows the interface `Runner`."""

from collections.abc import Callable, Collection
from typing import Protocol

from flows import dvc, resources
from flows.dvc import Outcome
from flows.process import ProcessGroups


class Runner(Protocol):
    """A way of running stages: `run` is called from many threads, other methods from the one that waits for them."""

    def has_capacity(self, stage: str, running: Collection[str]) -> bool:
        """Return whether `stage` may run beside those `running`."""

    def run(self, stage: str, log: Callable[[str], None]) -> Outcome:
        """Run `stage`, whose dependencies are done, passing each line of its output to `log`.

        Raises StoppedError when `stop` was called before or meanwhile.
        """

    def stop(self) -> None:
        """End every running stage, and prevent new ones."""


class LocalRunner:
    """Runs each stage through DVC in this working directory, in a separate process."""

    def __init__(self) -> None:
        self._groups = ProcessGroups()

    def has_capacity(self, stage: str, running: Collection[str]) -> bool:
        """Return whether this machine has capacity for `stage` beside those `running`."""
        return resources.has_capacity(stage, running)

    def run(self, stage: str, log: Callable[[str], None]) -> Outcome:
        """Have DVC run only `stage`, if it changed, with exclusive use of the GPU if it needs one."""
        if not resources.uses_gpu(stage):
            return dvc.reproduce(stage, self._groups, log)
        with resources.gpu(self._groups.check, log):
            return dvc.reproduce(stage, self._groups, log)

    def stop(self) -> None:
        """End every command with all its children."""
        self._groups.stop()
