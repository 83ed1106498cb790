"""`make repro` says that the report is there only when DVC has it."""

import os
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
DONE = "The report: data/report/comparison.html"
# How `python -m stages.check`, `dvc repro` and `dvc status --quiet` end. DVC ends with 0 although its cache is full.
FAILURES = {"the check": (1, 0, 0), "a stage": (0, 255, 0), "DVC's cache": (0, 0, 1)}


def make(folder: Path, check: int, repro: int, status: int) -> "subprocess.CompletedProcess[str]":
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f"#!/bin/sh\n[ $1 = -m ] && exit {check}\nexit 0\n")
    (programs / "dvc").write_text(f"#!/bin/sh\n[ $1 = repro ] && exit {repro}\nexit {status}\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    # The environment counts as set up.
    command = ["make", "--file", str(MAKEFILE), "--assume-old", ".venv/.synced", "repro"]
    (folder / ".venv/.synced").touch()
    # As if no other make had called this one.
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_run_of_which_anything_failed_is_not_done(tmp_path: Path, kind: str) -> None:
    done = make(tmp_path, *FAILURES[kind])
    assert done.returncode
    assert DONE not in done.stdout


def test_a_run_that_succeeds_names_the_report(tmp_path: Path) -> None:
    done = make(tmp_path, 0, 0, 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == DONE
