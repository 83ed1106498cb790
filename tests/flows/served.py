"""Prefect as its users start it: a server with a database of its own, workers, and what prefect.yaml declares."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterStartTime
from prefect.client.schemas.objects import FlowRun

from tests.support.processes import marked

ROOT = Path(__file__).parents[2]
# On a busy machine everything takes long; a test ends much sooner than this, or not at all.
PATIENCE = 240


def wait_for(what: str, happened: Callable[[], Any], log: Path) -> Any:
    """Return what `happened` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what}\n{log.read_text()}"
        time.sleep(0.2)
    return found


@dataclass
class Worker:
    """A worker at work in a folder, and the mark that all it starts bears."""

    process: subprocess.Popen[bytes]
    mark: str
    log: Path

    def left(self) -> list[str]:
        """Return the commands that the worker has started and that live."""
        return [command for command in marked(self.mark) if "prefect worker start" not in command]

    def kill(self) -> None:
        """End the worker as nothing can prevent."""
        self.process.kill()
        self.process.wait()


class Prefect:
    """A server on loopback, and commands of Prefect's that know where it is."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        modules = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        own = {"PREFECT_HOME": str(home), "PREFECT_API_URL": self.url, "PYTHONPATH": modules}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        self._home, self._environment, self._processes = home, inherited | own, list[subprocess.Popen[bytes]]()
        self.log = home / "server.log"
        self.start(["prefect", "server", "start", "--port", str(port), "--no-ui"], ROOT, self.log)

    def start(self, module: list[str], folder: Path, log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Start a module with its arguments as a program in `folder`."""
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=folder,
                env=self._environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def run(self, *arguments: str) -> None:
        """Run a command of Prefect's where prefect.yaml is."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        subprocess.run(command, cwd=ROOT, env=self._environment, check=True, stdout=subprocess.DEVNULL)

    def deploy(self) -> None:
        """Do what `make deploy` does, in the environment that is there."""
        command = ["make", "--old-file=.venv/.synced", "deploy", f"PREFECT_API_URL={self.url}"]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def worker(self, folder: Path, pool: str) -> Worker:
        """Start a worker for `pool` in `folder`, and return when the server knows it."""
        mark, log = str(uuid.uuid4()), self._home / f"{folder.name}.log"
        arguments = ["worker", "start", "--pool", pool, "--name", folder.name, "--limit", "1"]
        process = self.start(["prefect", *arguments], folder, log, FLOW_TEST_MARK=mark)
        wait_for("a worker has not started", lambda: "started!" in log.read_text(), log)
        return Worker(process, f"FLOW_TEST_MARK={mark}", log)

    def close(self) -> None:
        """End all that was started."""
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def start_run(deployment: str, **parameters: Any) -> FlowRun:
    """Ask the server for a run of a deployment."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        return client.create_flow_run_from_deployment(found.id, parameters=parameters)


def started_runs(deployment: str) -> list[FlowRun]:
    """Return the runs of a deployment that have begun."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        chosen = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[found.id]), start_time=FlowRunFilterStartTime(is_null_=False)
        )
        return client.read_flow_runs(flow_run_filter=chosen)


def ended(run: FlowRun, log: Path) -> FlowRun:
    """Return `run` when it has ended."""

    def read() -> FlowRun | None:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(run.id)
        return found if found.state and found.state.is_final() else None

    result: FlowRun = wait_for(f"{run.name} has not ended", read, log)
    assert result.state
    # A state that comes with its run does not name it.
    result.state.state_details.flow_run_id = result.id
    return result
