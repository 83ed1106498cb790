import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import FlowRunSort

from flows.compare import compare, level, main

ROOT = Path(__file__).parents[2]
COVERAGE = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}

pytestmark = pytest.mark.usefixtures("prefect_server")


def run(*targets: str, jobs: int = 1) -> State[Any]:
    state: State[Any] = compare(targets, jobs, return_state=True)
    return state


def last_state() -> State[Any]:
    with get_client(sync_client=True) as client:
        (latest,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    assert latest.state is not None
    # A state that comes with its run does not name it.
    latest.state.state_details.flow_run_id = latest.id
    return latest.state


def flow_run(state: State[Any]) -> uuid.UUID:
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    return run_id


def task_states(state: State[Any], count: int) -> dict[str, str]:
    """Return the states of the flow's task runs by name, once the server knows `count` final ones."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run(state)]))
    deadline = time.monotonic() + 30
    while True:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=chosen)
        states = {run.name: run.state_name or "" for run in runs if run.state and run.state.is_final()}
        if len(states) >= count or time.monotonic() > deadline:
            return states
        time.sleep(0.2)


def log_lines(state: State[Any], awaited: str) -> dict[str, int]:
    """Return the lines in the flow's log with their levels, once `awaited` is among them."""
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run(state)]))
    deadline = time.monotonic() + 30
    while True:
        with get_client(sync_client=True) as client:
            lines = {log.message: log.level for log in client.read_logs(chosen, limit=200)}
        if awaited in lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.2)


def artifacts(state: State[Any]) -> dict[str, object]:
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run(state)]))
    with get_client(sync_client=True) as client:
        return {artifact.key or "": artifact.data for artifact in client.read_artifacts(artifact_filter=chosen)}


def marked(mark: str) -> list[str]:
    """Return the commands of the living processes whose environment holds `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


@pytest.fixture
def signals() -> Iterator[None]:
    """Take SIGINT as Python does, and give the handlers back; shells start background jobs with SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_each_stage_is_a_task_with_its_log_and_a_second_run_finds_all_cached(
    project: Path, ran: Callable[[Path], list[str]]
) -> None:
    (project / "data/report").mkdir(parents=True)
    (project / "data/report/comparison.md").write_text("# The ranking")
    state = run(jobs=2)
    assert state.is_completed(), state.message
    assert state.message == "4 stages are up to date, 0 were unchanged"
    assert task_states(state, 4) == dict.fromkeys(["first", "train@a", "train@b", "compare"], "Completed")
    lines = log_lines(state, "hello from the first stage")
    assert lines["hello from the first stage"] == level("INFO x")
    assert lines["WARNING red"] == level("WARNING x")
    assert lines["100%|####|"]
    assert artifacts(state) == {"comparison": "# The ranking"}
    assert ran(project) == ["compare", "first", "train@a", "train@b"]

    again = run()
    assert again.message == "4 stages are up to date, 4 were unchanged"
    assert task_states(again, 4) == dict.fromkeys(["first", "train@a", "train@b", "compare"], "Cached")
    assert ran(project) == ["compare", "first", "train@a", "train@b"]


def test_a_failed_stage_fails_the_flow_after_the_others_have_finished(
    project: Path, ran: Callable[[Path], list[str]], capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    (project / "fail-a").touch()
    assert main([]) == 1
    assert ran(project) == ["first", "train@a", "train@b"]
    assert (project / "train-b.txt").read_text() == "b"
    assert capsys.readouterr().err.splitlines()[-1] == "flow: failed: train@a; not run because of that: compare"

    state = last_state()
    assert state.is_failed()
    assert task_states(state, 3) == {"first": "Completed", "train@a": "Failed", "train@b": "Completed"}
    lines = log_lines(state, "data: a is broken")
    assert "data: a is broken" in lines
    assert not [line for line in lines if "Traceback" in line or "NoneType" in line]
    assert artifacts(state) == {}


def test_an_unknown_target_costs_one_line_and_no_run(
    project: Path, ran: Callable[[Path], list[str]], capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    assert main(["trian@a"]) == 1
    printed = capsys.readouterr().err
    assert printed == "flow: unknown target 'trian@a'; expected a stage of dvc.yaml; did you mean 'train@a'?\n"
    assert ran(project) == []


def test_a_deployed_run_with_an_unknown_target_fails_with_the_same_line(project: Path) -> None:
    state = run("trian")
    assert state.is_failed()
    assert state.message == "unknown target 'trian'; expected a stage of dvc.yaml; did you mean 'train'?"


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_a_wrong_number_of_jobs_is_refused(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--jobs", jobs])
    assert f"received '{jobs}', expected a whole number, 1 or more" in capsys.readouterr().err


def test_the_flow_fails_when_dvc_still_finds_work(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {restless: {cmd: echo x > x, outs: [x], always_changed: true}}")
    state = run()
    assert state.is_failed()
    assert state.message == "every stage has run, but DVC still finds changes in restless"


def test_ctrl_c_ends_the_running_stage(project: Path, capsys: pytest.CaptureFixture[str], signals: None) -> None:
    program = "import os,time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    (project / "long.py").write_text(program)
    (project / "dvc.yaml").write_text("stages: {long: {cmd: python long.py, outs: [x]}}")

    def interrupt() -> None:
        while not (project / "pid").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert main([]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "flow: stopped"
    assert not Path(f"/proc/{(project / 'pid').read_text()}").exists()


def test_sigterm_leaves_no_process_behind_and_nothing_has_left_the_machine(project: Path, tmp_path: Path) -> None:
    # The whole program with a server of its own. Every Python process in it writes down whom it calls.
    (tmp_path / "sitecustomize.py").write_text(
        f"""\
import os, sys
os.environ.pop("COVERAGE_PROCESS_CONFIG", None)  # It is measured itself by now; what it starts is not.
def watch(event, arguments):
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "127.0.0.1", "localhost"):
        with open({str(tmp_path / "called.log")!r}, "a") as log:
            log.write(f"{{arguments[0]}}\\n")
sys.addaudithook(watch)
"""
    )
    program = "import os; open('pid', 'w').write(str(os.getpid())); os.execlp('sleep', 'sleep', '600')"
    (project / "long.py").write_text(program)
    (project / "dvc.yaml").write_text("stages: {long: {cmd: sleep 600 & python long.py, outs: [x]}}")
    mark = f"FLOW_TEST_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    own = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PREFECT_HOME": str(tmp_path / "prefect"), name: value}
    clean = {key: text for key, text in os.environ.items() if key != "PREFECT_API_URL"}
    with (tmp_path / "printed.txt").open("w+") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.compare"],
            env=clean | own | COVERAGE,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 300
        while not (project / "pid").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        before = marked(mark)
        process.terminate()
        code = process.wait(timeout=60)
        printed.seek(0)
        text = printed.read()
    assert code == 128 + signal.SIGTERM, text
    assert sum("sleep 600" in command for command in before) >= 2, text
    assert any("prefect server start" in command for command in before)
    assert marked(mark) == []
    assert "Crashed" in text
    assert "Error logging to API" not in text
    assert not (tmp_path / "called.log").exists(), (tmp_path / "called.log").read_text()
