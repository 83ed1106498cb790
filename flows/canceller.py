"""Cancels deployment runs when the program that waits for them ends, for any reason.

    python -m flows.canceller

Standard input is a pipe that the caller keeps open and writes the ids of the runs to, one per line. The system closes
it when the caller ends, even by SIGKILL; runs that have not ended by then are cancelled.
"""

import subprocess
import sys
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.states import Cancelling

from flows.process import environment


class Canceller:
    """The caller's handle to the program above."""

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
        """Cancel the runs that have not ended; return once the server knows."""
        self._process.communicate()


def main() -> None:
    """Wait until the caller ends, and cancel the runs that it leaves."""
    runs = [UUID(line.strip()) for line in sys.stdin]
    with get_client(sync_client=True) as client:
        for run in runs:
            state = client.read_flow_run(run).state
            if not (state and state.is_final()):
                client.set_flow_run_state(run, Cancelling())


if __name__ == "__main__":
    main()
