"""Prefect's server goes while the program runs, and stays away: the work is done, and says so within seconds."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.support.prefect_home import begin_home
from tests.support.processes import marked_ids

ROOT = Path(__file__).parents[2]
STAGES = """\
stages:
  first:
    cmd: touch started && until test -e go; do sleep 0.1; done && touch first.txt
    outs: [first.txt]
  second:
    cmd: %s
    deps: [first.txt]
    outs: [second.txt]
"""


def run_without_server(project: Path, home: Path, last: str, *, at_once: bool) -> "subprocess.CompletedProcess[str]":
    """Run the program; kill its server while the first stage runs, and let that end at once or once it is noticed."""
    (project / "dvc.yaml").write_text(STAGES % last)
    mark = f"FLOW_TEST_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    apart = {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home), name: value}
    inherited = {key: text for key, text in os.environ.items() if not key.startswith(("PREFECT_API", "COVERAGE_"))}
    printed = project.parent / "printed.txt"
    with printed.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.compare"], env=inherited | apart, stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 240
    while not (project / "started").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    for number, command in marked_ids(mark).items():
        if "prefect server start" in command:
            os.kill(number, signal.SIGKILL)
    while not at_once and " is gone; " not in printed.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    (project / "go").touch()
    # Prefect alone needs minutes, and a quarter of an hour with twenty stages.
    code = process.wait(timeout=60)
    return subprocess.CompletedProcess([], code, printed.read_text())


@pytest.mark.parametrize(
    ("last", "end", "code", "said"),
    [
        ("touch second.txt", "at once", 0, "flow: 2 stages are up to date (2 ran, 0 cached)"),
        ("exit 3", "later", 1, "flow: failed: second (failed to run: exit 3, exited with 3); earlier results are kept"),
    ],
)
def test_a_run_ends_as_its_work_does_and_the_lost_server_is_one_line(
    project: Path, tmp_path_factory: pytest.TempPathFactory, last: str, end: str, code: int, said: str
) -> None:
    home = begin_home(tmp_path_factory, project.parent / "prefect")
    done = run_without_server(project, home, last, at_once=end == "at once")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-1]) == (code, said), done.stdout
    assert len([line for line in lines if "Prefect's server" in line]) == 1, done.stdout
    assert not [line for line in lines if "Traceback" in line or "Error logging to API" in line or "Running()" in line]
