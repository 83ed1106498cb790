"""The whole program with a server of its own, ended by signals while a training is at work that heeds none."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.compare import compare
from tests.support.prefect_home import begin_home
from tests.support.processes import marked

ROOT = Path(__file__).parents[2]
COVERAGE = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
STAGES = """\
stages:
  first:
    cmd: echo first >> ran.log && touch first.txt
    outs: [first.txt]
  train:
    cmd: echo train >> ran.log && sh train.sh && touch model
    deps: [first.txt]
    outs: [model]
"""
STUBBORN = """\
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
open("training", "w").close()
time.sleep(600)
"""
# Every Python process that finds this writes down whom it calls.
WATCH = """\
import os, sys
os.environ.pop("COVERAGE_PROCESS_CONFIG", None)  # The program itself is measured by now; what it starts is not.
def watch(event, arguments):
    hosts = {"socket.getaddrinfo": lambda: arguments[0], "socket.connect": lambda: arguments[1][0]}
    if event in hosts and hosts[event]() not in (None, "127.0.0.1", "localhost"):
        with open("called.log", "a") as log:
            log.write(f"{event} {arguments}\\n")
sys.addaudithook(watch)
"""


@dataclass
class Program:
    """`python -m flows.compare` at work in a project, and a mark by which all that it starts is found."""

    process: subprocess.Popen[bytes]
    mark: str
    printed: Path

    def stop(self, number: signal.Signals) -> int:
        """Send a signal; return the exit code when nothing that was started is left."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while marked(self.mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert marked(self.mark) == []
        return code


def start(project: Path, home: Path) -> Program:
    """Start the program, and return it while the training is at work."""
    (project / "training").unlink(missing_ok=True)
    mark = f"FLOW_TEST_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    own = {"PYTHONPATH": f"{project.parent}{os.pathsep}{ROOT}", "PREFECT_HOME": str(home), name: value}
    inherited = {key: text for key, text in os.environ.items() if key != "PREFECT_API_URL"}
    printed = project.parent / "printed.txt"
    with printed.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.compare"],
            env=inherited | own | COVERAGE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 300
    while not (project / "training").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    before = marked(mark)
    assert sum("train.py" in command for command in before) >= 2, printed.read_text()
    assert any("prefect server start" in command for command in before)
    return Program(process, mark, printed)


@pytest.mark.usefixtures("prefect_server")
def test_a_stopped_run_leaves_no_process_and_no_lock_and_the_next_one_goes_on(
    project: Path, tmp_path_factory: pytest.TempPathFactory, ran: Callable[[Path], list[str]]
) -> None:
    """Each goes on where the one before was stopped, with the database that it left."""
    (project / "dvc.yaml").write_text(STAGES)
    (project / "train.sh").write_text("sleep 600 & exec python train.py")
    (project / "train.py").write_text(STUBBORN)
    (project.parent / "sitecustomize.py").write_text(WATCH)
    home = begin_home(tmp_path_factory, project.parent / "prefect")
    numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        program = start(project, home)
        code = -number if number == signal.SIGKILL else 128 + number
        assert program.stop(number) == code, program.printed.read_text()
        locks = json.loads((project / ".dvc/tmp/rwlock").read_text())
        assert not any(locks.values()), locks
        text = program.printed.read_text()
        assert "Error logging to API" not in text
        # Nobody is left to say so after SIGKILL.
        assert ("Crashed" in text) is (number != signal.SIGKILL)
        assert ("flow: stopped" in text.splitlines()) is (number == signal.SIGINT)
        assert not (project / "called.log").exists(), (project / "called.log").read_text()

    (project / "train.sh").write_text("")
    state = compare(return_state=True)
    assert state.message == "2 stages are up to date (1 ran, 1 cached)"
    assert ran(project) == ["first", *["train"] * (len(numbers) + 1)]
