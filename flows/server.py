"""A Prefect server for the duration of one run, if the user has none running."""

import atexit
import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from typing import IO, NoReturn
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import get_client
from prefect.logging import get_logger
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)
from prefect.settings.legacy import Setting

from flows import proxies
from flows.graph import FlowError
from flows.process import clean, end, has_worker, start
from flows.redaction import redact

_POLL_SECONDS = 0.1
# A server that does not answer that often in a row, at these intervals, is gone.
_ATTEMPTS, _AGAIN_SECONDS = 3, 2.0
_PATIENCE_SECONDS = 10.0
_gone = threading.Event()


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Have flows report to the configured server, or else to a temporary one on loopback.

    Prefect would start one itself, but in the terminal's process group: Ctrl-C would end it first, and the flow
    would then wait minutes for it, unable to report that it was stopped. Runs are stored in the same database as
    those of Prefect's own temporary server.
    """
    _gone.clear()
    configured, ended = get_current_settings().api.url, threading.Event()
    own = {} if configured else _address_of_temporary()
    url = configured or own[PREFECT_API_URL]
    with proxies.unused_for(url), temporary_settings(own):
        if configured:
            _require_answer(url)
        else:
            _start_temporary(url)
        # Threads do not inherit the settings, and Prefect would start another server for this one.
        threading.Thread(target=copy_context().run, args=(_watch, ended), daemon=True).start()
        # Prefect writes to standard error whenever it cannot send a line of the log.
        logging.raiseExceptions = False
        try:
            yield
        finally:
            logging.raiseExceptions = not is_gone()
            ended.set()


def _address_of_temporary() -> dict[Setting, str]:
    """Return Prefect's settings for a server on a free port, which takes its path and password from the user's."""
    of_server = get_current_settings().server.api
    address = {PREFECT_API_URL: f"http://127.0.0.1:{_free_port()}{of_server.base_path or '/api'}"}
    if of_server.auth_string:
        address[PREFECT_API_AUTH_STRING] = of_server.auth_string.get_secret_value()
    return address


def require_configured() -> None:
    """Raise FlowError when no server is configured: workers could not find a temporary one."""
    if not get_current_settings().api.url:
        raise FlowError("no Prefect server is configured; expected the one that the workers use; set PREFECT_API_URL")


def answers() -> bool:
    """Return whether Prefect's server answers, now or within some seconds; have Prefect give it up otherwise."""
    for attempt in range(1 if is_gone() else _ATTEMPTS):
        if attempt:
            time.sleep(_AGAIN_SECONDS)
        if not _fault():
            _gone.clear()
            return True
    _say_gone()
    _give_up()
    return False


def is_gone() -> bool:
    """Return whether the server was gone when it was last asked, and this process has said so."""
    return _gone.is_set()


def _say_gone() -> None:
    """Log once that the server is gone, and have Prefect be silent about it.

    It would write to standard error for each event and each line of the log. A worker's run leaves that to the worker.
    """
    if is_gone() or has_worker():
        return
    _gone.set()
    settings = get_current_settings()
    settings.logging.to_api.enabled = False
    for name in ("prefect.events.clients", "prefect._internal.concurrency"):
        logging.getLogger(name).disabled = True
    get_logger("flows").warning(
        "Prefect's server at %s is gone; the run goes on without its page", redact(str(settings.api.url))
    )


def _give_up() -> None:
    """Have Prefect ask a server that is gone once only: at the end of a run nothing depends on the answer.

    It would ask six times for each request, which takes a minute, and print a traceback.
    """
    if not has_worker():
        get_current_settings().client.max_retries = 0
        logging.getLogger("prefect.flow_runs").addFilter(_without_engine)


def leave(code: int) -> NoReturn:
    """End this program; at once if the server is gone, for which Prefect would wait seconds with each of its events."""
    if is_gone():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _without_engine(record: logging.LogRecord) -> bool:
    """Drop what Prefect's engine says when it cannot report the end: a traceback, and that the flow is running."""
    of_server = record.exc_info and isinstance(record.exc_info[1], httpx.HTTPError)
    return not (of_server or record.getMessage().startswith("Finished in state"))


def _fault() -> Exception | None:
    """Ask the server once; return why it does not answer, or None."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: _PATIENCE_SECONDS}):
        try:
            with get_client(sync_client=True) as client:
                return client.api_healthcheck()
        # A proxy that cannot be used is an ImportError or a ValueError, a server of another version a RuntimeError.
        except (ImportError, ValueError, RuntimeError) as error:
            return error


def _watch(ended: threading.Event) -> None:
    """Say within seconds when the server is gone."""
    missed = 0
    while missed < _ATTEMPTS and not ended.wait(_AGAIN_SECONDS):
        missed = missed + 1 if isinstance(_fault(), httpx.TransportError) else 0
    if missed == _ATTEMPTS:
        _say_gone()


def _require_answer(url: str) -> None:
    """Raise FlowError when the server at `url` does not answer."""
    if fault := _fault():
        raise FlowError(
            f"no Prefect server answers at {redact(url)} ({redact(str(fault))}); "
            "start it, or unset PREFECT_API_URL for a temporary one"
        )


def _start_temporary(url: str) -> None:
    """Start a server at `url` that ends with this process; return once it answers."""
    print("flow: starting a temporary Prefect server", file=sys.stderr)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = _start(urlsplit(url).port or 0, log)
        # Exit handlers run in reverse: Prefect sends its last log lines in those registered later.
        atexit.register(end, [process])
        _wait_for(url, process, log)


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
            raise FlowError(f"Prefect's server ended with exit code {process.returncode}: {errors[-1]}; {_remedy()}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").is_success:
                return
        time.sleep(_POLL_SECONDS)
    raise FlowError(
        f"Prefect's server did not answer within {seconds} seconds; "
        "set PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or PREFECT_API_URL to a running server"
    )


def _remedy() -> str:
    """Return what helps if the database is of another version, or cannot be written."""
    database = get_current_settings().server.database.connection_url
    where = redact(database.get_secret_value()) if database else "its folder"
    return (
        f"the history of runs, which holds no results, is {where}: "
        "move it away, make room, correct the rights, or set PREFECT_HOME to another folder"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
