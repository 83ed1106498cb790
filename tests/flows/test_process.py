import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import process
from flows.process import ProcessGroups, StoppedError, clean, environment

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


def lives(process_id: int) -> bool:
    """Tell whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


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


def test_a_stop_ends_a_stubborn_tree_and_lets_nothing_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "_STOP_SIGNALS", ((signal.SIGINT, 0.2), (signal.SIGTERM, 0.2)))
    groups, ends = ProcessGroups(), []

    def run() -> None:
        try:
            groups.run([sys.executable, "-c", STUBBORN], print)
        except StoppedError as end:
            ends.append(end)

    thread = threading.Thread(target=run)
    thread.start()
    pids = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
    assert all(map(lives, pids))
    groups.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert len(ends) == 1
    assert not any(map(lives, pids))
    with pytest.raises(StoppedError):
        groups.run([sys.executable, "-c", "open('started', 'w')"], print)
    assert not (tmp_path / "started").exists()


def test_a_command_whose_log_cannot_be_written_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    heard: list[int] = []

    def refuse(line: str) -> None:
        heard.append(int(line))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ProcessGroups().run([sys.executable, "-c", program], refuse)
    assert not lives(heard[0])
