"""What the machine or Prefect's server lacks ends a flow with one line, whichever flow it is."""

import errno
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, FailedRun

from flows import stage, workspace
from flows.compare import compare
from flows.faults import FAULTS, sentence, without_traceback
from flows.graph import FlowError
from flows.nightly import nightly
from flows.on_demand import on_demand
from flows.score import score

LACKS = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EROFS, os.strerror(errno.EROFS), ".dvc/tmp/flow.lock"),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES), ".dvc/tmp"),
    BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    MemoryError(),
    sqlite3.OperationalError("database or disk is full"),
]


@pytest.mark.parametrize("error", LACKS)
def test_what_the_machine_lacks_is_one_line_with_what_to_do(error: Exception) -> None:
    assert isinstance(error, FAULTS)
    said = str(error) or "MemoryError"
    assert sentence(error) == (
        f"this machine failed ({said}); free room, correct the rights or raise the limit, and run again"
    )


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[Errno 111] Connection refused"),
        httpx.ReadTimeout("timed\nout"),
        httpx.RemoteProtocolError("closed"),
        httpx.HTTPStatusError("401", request=httpx.Request("GET", "http://x"), response=httpx.Response(401)),
    ],
)
def test_a_server_that_fails_is_one_line_with_what_to_do(error: Exception) -> None:
    assert isinstance(error, FAULTS)
    said = " ".join(str(error).split())
    assert sentence(error) == (
        f"Prefect's server failed ({said}); start it, and run again: stages that are done stay done"
    )


def test_a_fault_of_the_flow_s_own_stays_as_it_is() -> None:
    assert sentence(FlowError("no such stage")) == "no such stage"


@pytest.mark.parametrize(
    ("error", "shown"),
    [(FailedRun("failed: a"), False), (CancelledRun("stopped"), False), (KeyError("a"), True), (None, True)],
)
def test_what_the_engine_shows_is_a_traceback_for_a_fault_of_the_program_alone(
    error: Exception | None, *, shown: bool
) -> None:
    about = (type(error), error, None) if error else None
    record = logging.LogRecord("prefect.engine", logging.ERROR, "", 0, "Execution of flow run exited", None, about)
    assert without_traceback(record) is shown


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("flow", "place"),
    [
        (compare, "exclusive"),
        (nightly, "exclusive"),
        (on_demand, "trial"),
        (score, "exclusive"),
        (lambda **options: stage.run_stage("first", "HEAD", **options), "exclusive"),
    ],
)
def test_no_flow_ends_in_a_traceback_for_want_of_room(
    project: Path, monkeypatch: pytest.MonkeyPatch, flow: Callable[..., State[Any]], place: str
) -> None:
    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), ".dvc/tmp/flow.lock")

    monkeypatch.setattr(workspace, place, full)
    monkeypatch.setattr(stage, "_require_own_clone", lambda: None)
    state = flow(return_state=True)
    assert state.is_failed()
    assert (state.message or "").startswith("this machine failed ([Errno 28] No space left on device: '.dvc/tmp/")
