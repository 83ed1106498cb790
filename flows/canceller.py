"""Cancels deployment runs when the program that waits for them ends, whatever way that happens.

    python -m flows.canceller

Standard input is the tie: a pipe that the caller keeps open and writes the ids of the runs to, one a line. The
system closes it when the caller ends, SIGKILL included; runs that have not ended by then are cancelled.
"""

import subprocess
import sys
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.states import Cancelling

from flows.process import environment


class Canceller:
    """The program above, as its caller sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.canceller"],
            stdin=subprocess.PIPE,
            # A Ctrl-C in the terminal is meant for the caller.
            start_new_session=True,
            env=environment(),
            text=True,
        )

    def watch(self, run: UUID) -> None:
        """Have `run` cancelled if it has not ended when this process does."""
        assert self._process.stdin
        self._process.stdin.write(f"{run}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Cancel what has not ended, and return when the server has been told."""
        self._process.communicate()


def main() -> None:
    """Wait for the caller's end and cancel what it leaves."""
    runs = [UUID(line.strip()) for line in sys.stdin]
    with get_client(sync_client=True) as client:
        for run in runs:
            state = client.read_flow_run(run).state
            if not (state and state.is_final()):
                client.set_flow_run_state(run, Cancelling())


if __name__ == "__main__":
    main()
