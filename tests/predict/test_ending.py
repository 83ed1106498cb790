"""A signal that ends predict removes what was fetched and unpacked."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stages.predict.ending import ending_cleanly
from tests.predict.test_program import Command, arrays, command, exported, png, project
from tests.support.archives import zipped
from tests.support.clone import ROOT

__all__ = ["command", "exported", "project"]
PROGRAM = """
import os, signal, sys, time
from tempfile import TemporaryDirectory
from stages.predict.ending import ending_cleanly
if "ignored" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
with ending_cleanly(), TemporaryDirectory(dir=sys.argv[1]):
    os.kill(os.getpid(), int(sys.argv[2]))
    time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("how", ["", "ignored"])
def test_whatever_ends_the_program_leaves_nothing(tmp_path: Path, number: signal.Signals, how: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(int(number)), how]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    is_ignored = how == "ignored" and number == signal.SIGHUP
    assert (ended.returncode, ended.stderr) == (0 if is_ignored else 128 + number, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_afterwards_as_before(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    with ending_cleanly():
        assert signal.getsignal(number) != signal.SIG_DFL
    assert signal.getsignal(number) == signal.SIG_DFL


def test_predict_ended_between_unpacking_and_predicting_leaves_nothing(
    command: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped(project / "a.zip", {"1.png": png(arrays(1, seed=3)[0])})
    (project / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(project / "scratch"))
    seen = []

    def end(*_: object) -> None:
        seen.extend(path for path in (project / "scratch").rglob("*") if path.is_file())
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("stages.predict.__main__.predict", end)
    assert command("a.zip")[0] == 128 + signal.SIGTERM
    assert len(seen) == 1
    assert list((project / "scratch").iterdir()) == []
