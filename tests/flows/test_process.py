import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from flows.process import ProcessGroups, StoppedError, clean, end, environment, start
from tests.support.processes import alive, await_end, children

ROOT = Path(__file__).parents[2]

# A tree of two that ignores everything but SIGKILL; it writes both process ids down.
STUBBORN = """\
import os, signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    Path("pids.partial").write_text(f"{os.getpid()} {child}")
    Path("pids.partial").rename("pids")
time.sleep(600)
"""


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} has not appeared"
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n", "plain"),
        ("\x1b[1;31mred\x1b[0m text\n", "red text"),
        ("\r  1%|\r 50%|##  |\r100%|####|\n", "100%|####|"),
        ("epoch 1\x08\x08\r\n", "epoch 1"),
        ("\x1b]0;title\x07after\n", "after"),
        ("\x1b[2K\x1b[1A\n", ""),
        ("\ttabs stay: größer\n", "\ttabs stay: größer"),
    ],
)
def test_a_line_is_cleaned_of_what_only_a_terminal_understands(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_a_command_gives_its_lines_as_they_come_and_its_exit_code() -> None:
    program = "import sys; print('out'); print(); sys.stderr.write('\\r1%\\r2%\\n'); sys.exit(3)"
    heard: list[str] = []
    code, lines = ProcessGroups().run([sys.executable, "-c", program], heard.append)
    assert code == 3
    assert heard == lines == ["out", "2%"]


def test_bytes_that_are_no_text_do_not_stop_the_log() -> None:
    program = r"import sys; sys.stdout.buffer.write(b'\xff\xfe end\n')"
    assert ProcessGroups().run([sys.executable, "-c", program], print)[1] == ["�� end"]


def test_commands_find_this_python_first() -> None:
    first = environment()["PATH"].split(os.pathsep)[0]
    assert Path(first) == Path(sys.executable).parent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTHONWARNINGS", "error"),
        ("PYTHONSAFEPATH", "1"),
        ("PYTHONOPTIMIZE", "2"),
        ("PYTHONUTF8", "0"),
        ("PYTHONIOENCODING", "ascii:strict"),
    ],
)
def test_no_setting_of_the_user_s_python_ends_a_command(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text("'''Größe'''; import warnings; warnings.warn('old'); print(__doc__)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv(name, value)
    code, lines = ProcessGroups().run([sys.executable, "-m", "beside"], print)
    assert (code, lines[-1]) == (0, "Größe")


def test_a_stop_ends_a_stubborn_tree_and_lets_nothing_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    groups, ends = ProcessGroups(), []

    def run() -> None:
        try:
            groups.run([sys.executable, "-c", STUBBORN], print)
        except StoppedError as end:
            ends.append(end)

    thread = threading.Thread(target=run)
    thread.start()
    pids = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
    assert all(map(alive, pids))
    groups.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert len(ends) == 1
    assert not any(map(alive, pids))
    with pytest.raises(StoppedError):
        groups.run([sys.executable, "-c", "open('started', 'w')"], print)
    assert not (tmp_path / "started").exists()


def test_a_command_that_a_signal_ends_has_the_exit_code_that_a_shell_gives_it() -> None:
    assert ProcessGroups().run(["sh", "-c", "kill -TERM $$"], print)[0] == 128 + signal.SIGTERM


def test_nothing_survives_a_kill_of_the_process_that_runs_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", STUBBORN]
    program = f"from flows.process import ProcessGroups; ProcessGroups().run({command}, print)"
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        pids = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
        (guard,) = children(process.pid)
        process.kill()
    await_end([*pids, guard])


def test_a_command_that_has_lost_its_guard_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = start([sys.executable, "-c", STUBBORN], subprocess.DEVNULL)
    pids = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
    process.kill()
    process.wait()
    assert all(map(alive, pids))
    end([process])
    await_end(pids)


def test_a_flow_that_a_worker_has_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    flow = "; ".join(
        [
            "import os, time; from pathlib import Path; from flows.process import end_with_worker; end_with_worker()",
            "Path('partial').write_text(str(os.getpid())); Path('partial').rename('pid'); time.sleep(600)",
        ]
    )
    # What Prefect's worker sets for a flow run.
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid.uuid4()))
    worker = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {flow!r}])"
    with subprocess.Popen([sys.executable, "-c", worker]) as process:
        pid = int(wait_for(tmp_path / "pid"))
        assert alive(pid)
        process.kill()
    await_end([pid])


def test_a_command_whose_log_cannot_be_written_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    heard: list[int] = []

    def refuse(line: str) -> None:
        heard.append(int(line))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ProcessGroups().run([sys.executable, "-c", program], refuse)
    assert not alive(heard[0])
