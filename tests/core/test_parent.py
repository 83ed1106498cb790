"""A stage does not outlive the DVC that started it, however that ended."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import alive, await_end

ROOT = Path(__file__).parents[2]
BEGINS = """
from stages.core import parent
parent._CLEAN_UP_SECONDS = 0.5
parent.end_with_parent()
print("begun", flush=True)
"""
SLEEPS = """
import time
try:
    time.sleep(60)
finally:
    print("cleaned up", flush=True)
"""
# As what is busy in a library written in C.
HEEDS_NOTHING = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
time.sleep(60)
"""
STARTS = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", sys.argv[1]]).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
@pytest.mark.parametrize(("stage", "output"), [(SLEEPS, "cleaned up\n"), (HEEDS_NOTHING, "")], ids=["sleeps", "busy"])
def test_a_stage_ends_with_the_dvc_that_was_killed_alone(number: signal.Signals, stage: str, output: str) -> None:
    command = [sys.executable, "-c", STARTS, BEGINS + stage]

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as dvc:
        assert dvc.stdout
        child = int(dvc.stdout.readline())
        assert dvc.stdout.readline() == "begun\n"
        assert alive(child)
        dvc.send_signal(number)
        dvc.wait()
        await_end([child])
        assert dvc.stdout.read() == output
