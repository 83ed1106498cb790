"""A Prefect server for the duration of one run, if the user has none running."""

import atexit
import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.graph import FlowError
from flows.process import clean, end, start
from flows.redaction import redact

_POLL_SECONDS = 0.1


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Have flows report to the configured server, or else to a temporary one on loopback.

    Prefect would start one itself, but in the terminal's process group: Ctrl-C would end it first, and the flow
    would then wait minutes for it, unable to report that it was stopped. Runs are stored in the same database as
    those of Prefect's own temporary server.
    """
    if url := get_current_settings().api.url:
        _require_answer(url)
        yield
    else:
        with temporary_settings({PREFECT_API_URL: _start_temporary()}):
            yield


def require_configured() -> None:
    """Raise FlowError when no server is configured: workers could not find a temporary one."""
    if not get_current_settings().api.url:
        raise FlowError("no Prefect server is configured; expected the one that the workers use; set PREFECT_API_URL")


def _require_answer(url: str) -> None:
    """Raise FlowError when the server at `url` does not answer."""
    with get_client(sync_client=True) as client:
        if fault := client.api_healthcheck():
            raise FlowError(
                f"no Prefect server answers at {redact(url)} ({redact(str(fault))}); "
                "start it, or unset PREFECT_API_URL for a temporary one"
            )


def _start_temporary() -> str:
    """Start a server that ends with this process; return its URL once it answers."""
    print("flow: starting a temporary Prefect server", file=sys.stderr)
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = _start(port, log)
        # Exit handlers run in reverse: Prefect sends its last log lines in those registered later.
        atexit.register(end, [process])
        _wait_for(url, process, log)
    return url


def _start(port: int, log: IO[str]) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    return start(command, log)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: IO[str]) -> None:
    """Return when the server answers. Raise FlowError when it ends or does not answer in time."""
    seconds = get_current_settings().server.ephemeral.startup_timeout_seconds
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log.seek(0)
            lines = [line for raw in log if (line := redact(clean(raw)))] or ["it printed nothing"]
            # After the exception it only prints that it stops.
            errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)] or lines
            raise FlowError(f"Prefect's server ended with exit code {process.returncode}: {errors[-1]}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").is_success:
                return
        time.sleep(_POLL_SECONDS)
    raise FlowError(
        f"Prefect's server did not answer within {seconds} seconds; "
        "set PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or PREFECT_API_URL to a running server"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
