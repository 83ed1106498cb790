"""What `make` sets up, and says at its end."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
# What `flows/answer.py` prints, for which Python stands in.
DONE = "data/report/comparison.html"
# How `python -m stages.check`, `dvc repro` and `dvc status --quiet` end. DVC ends with 0 although its cache is full.
FAILURES = {"the check": (1, 0, 0), "a stage": (0, 255, 0), "DVC's cache": (0, 0, 1)}


def make(folder: Path, check: int, repro: int, status: int) -> "subprocess.CompletedProcess[str]":
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(
        f"#!/bin/sh\n[ $1 = -m ] && exit {check}\n[ $2 = flows/answer.py ] && echo {DONE}\nexit 0\n"
    )
    (programs / "dvc").write_text(f"#!/bin/sh\n[ $1 = repro ] && exit {repro}\nexit {status}\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    # The environment counts as set up.
    (folder / ".venv/.synced").touch()
    return called(folder, "--assume-old", ".venv/.synced", "repro")


def called(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # As if no other make had called this one.
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--file", str(MAKEFILE), *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_run_of_which_anything_failed_is_not_done(tmp_path: Path, kind: str) -> None:
    done = make(tmp_path, *FAILURES[kind])
    assert done.returncode
    assert DONE not in done.stdout


def test_a_run_that_fails_says_at_its_end_that_it_goes_on_from_there(tmp_path: Path) -> None:
    done = make(tmp_path, *FAILURES["a stage"])
    *_, said, _ = done.stderr.splitlines()
    assert said == "Not done: mend what is said above, then `make repro` again: what is done is kept."


def test_a_run_that_succeeds_names_the_report(tmp_path: Path) -> None:
    done = make(tmp_path, 0, 0, 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == DONE


def run_tests(folder: Path, **programs: str) -> "subprocess.CompletedProcess[str]":
    """Run `make test`; `programs` are what some of its programs do instead of nothing."""
    shutil.copy(MAKEFILE, folder)
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports", "pytest"):
        program = folder / ".venv/bin" / name
        program.write_text(f"#!/bin/sh\n{programs.get(name, '')}\n")
        program.chmod(0o755)
    for name in ("uv.lock", "pyproject.toml", ".venv/.synced"):
        (folder / name).touch()
    return called(folder, "test")


def test_types_are_checked_while_the_tests_run(tmp_path: Path) -> None:
    # Each waits for the other, half a minute at most.
    wait = "touch {0}; for _ in $(seq 300); do [ -e {1} ] && exit 0; sleep 0.1; done; exit 1"
    done = run_tests(tmp_path, mypy=wait.format("types", "tests"), pytest=wait.format("tests", "types"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("program", "target"), [("mypy", "lint"), ("lint-imports", "lint"), ("pytest", "tested")])
def test_either_failing_fails_the_test_and_the_other_is_done(tmp_path: Path, program: str, target: str) -> None:
    programs = {"lint-imports": "echo imports", "pytest": "sleep 0.5; echo passed"} | {program: "exit 1"}
    done = run_tests(tmp_path, **programs)
    assert done.returncode
    assert f": {target}] Error 1" in done.stderr
    assert "Not passed: the lines with *** above say whether that is lint, or tested." in done.stderr.splitlines()
    assert ("passed" if target == "lint" else "imports") in done.stdout.splitlines()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A project whose environment has a program that pip wrote, and does not need to be set up."""
    folder = tmp_path / "made"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=folder, check=True)
    program = folder / ".venv/bin/dvc"
    program.write_text(f"#!{folder}/.venv/bin/python\nimport sys; print(sys.prefix)\n")
    program.chmod(0o755)
    for name in ("uv.lock", "pyproject.toml", ".venv/.synced"):
        (folder / name).touch()
    return folder


def test_programs_of_an_environment_that_was_moved_are_mended(environment: Path, tmp_path: Path) -> None:
    moved = environment.rename(tmp_path / "moved")
    done = called(moved, "moved")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"This folder was moved from {environment}: the programs in .venv are told so.\n"
    assert str(environment) not in (moved / ".venv/bin/activate").read_text()
    ran = subprocess.run([moved / ".venv/bin/dvc"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{moved}/.venv\n"
    # Only once.
    assert "moved" not in called(moved, "--dry-run", "setup").stdout


def test_an_environment_that_was_moved_is_mended_before_anything_else(environment: Path, tmp_path: Path) -> None:
    assert "moved" not in called(environment, "--dry-run", "setup").stdout
    moved = environment.rename(tmp_path / "moved")
    for target in ("setup", "repro", "lint"):
        assert "This folder was moved from" in called(moved, "--dry-run", target).stdout


def test_an_environment_that_is_linked_from_another_folder_is_left_alone(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "linking").mkdir()
    (tmp_path / "linking/.venv").symlink_to(environment / ".venv")
    assert "This folder was moved" not in called(tmp_path / "linking", "--dry-run", "setup").stdout


def test_an_environment_that_is_not_there_says_what_it_costs_before_it_is_made(tmp_path: Path) -> None:
    for name in ("uv.lock", "pyproject.toml"):
        shutil.copy(MAKEFILE.with_name(name), tmp_path)
    done = called(tmp_path, "setup", "PYTHON=false")
    assert done.returncode
    assert not (tmp_path / ".venv").exists()
    lines = called(tmp_path, "--dry-run", "setup").stdout.splitlines()
    told = next(number for number, line in enumerate(lines) if "Setting up .venv: 4 GB of disk" in line)
    assert told < next(number for number, line in enumerate(lines) if "-m venv" in line)


def test_another_python_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    other = tmp_path / "python3.13"
    other.write_text("#!/bin/sh\necho 'Python 3.11 is needed, this is 3.13: set PYTHON=...' >&2\nexit 1\n")
    other.chmod(0o755)
    done = called(tmp_path, "setup", f"PYTHON={other}")
    assert done.returncode
    assert done.stderr.splitlines()[0] == "Python 3.11 is needed, this is 3.13: set PYTHON=..."
    assert not (tmp_path / ".venv").exists()


def test_a_machine_without_python_says_so_in_one_line(tmp_path: Path) -> None:
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    make_itself = shutil.which("make")
    assert make_itself
    done = subprocess.run(
        [make_itself, "--file", str(MAKEFILE), "setup"],
        cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode
    assert "Python 3.11 is needed, and there is no python3: install it, or set PYTHON=..." in done.stderr.splitlines()
