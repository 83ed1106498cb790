"""DVC's commands, called as programs: its Python interface must not be used from threads."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from flows import graph
from flows.graph import FlowError, Graph
from flows.process import ProcessGroups, clean, environment

_LOCK_FAULT = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: it ran, its outputs were there or came out of DVC's cache, or it failed."""

    how: Literal["ran", "cached", "failed"]
    message: str


def read_graph() -> Graph:
    """Return the graph of the DVC project in the working directory. Raise FlowError when there is none."""
    stages = graph.parse(_ask("dag", "--dot"))
    if not stages:
        raise FlowError("dvc.yaml declares no stage; expected at least one; restore it, for instance from git")
    return stages


def outdated(stages: Iterable[str]) -> set[str]:
    """Return those of `stages` that DVC finds changed, without the ones that only depend on such a stage."""
    return set(json.loads(_ask("status", "--json", *stages)))


def reproduce(stage: str, groups: ProcessGroups, log: Callable[[str], None]) -> Outcome:
    """Let DVC run `stage` alone if it has to, giving each line of output to `log`."""
    # Without the flag nine of sixteen stages started at once fail on the repository's lock.
    code, lines = groups.run(_dvc("--wait-for-lock", "repro", "--single-item", stage), log)
    if code == 0:
        return _success(stage, lines)
    if not lock_failed_after_run(stage, lines):
        return Outcome("failed", _fault(lines) or f"DVC ended with exit code {code}")
    # The work is done, only its record is missing. Should the lock's failure hide one of the command, the
    # commit refuses: an output is missing then, because a stage writes completely or not at all.
    log("The stage has finished but DVC could not lock its records: committing its outputs.")
    code, lines = groups.run(_dvc("--wait-for-lock", "commit", "--force", stage), log)
    if code == 0:
        return Outcome("ran", "saved by `dvc commit` after a failed lock")
    return Outcome("failed", _fault(lines) or f"`dvc commit` ended with exit code {code}")


def lock_failed_after_run(stage: str, lines: list[str]) -> bool:
    """Return whether DVC's `lines` say that a lock failed once the command of `stage` had been started.

    DVC takes no lock while the command runs, and reports a command that failed as such.
    """
    started = f"Running stage '{stage}':" in lines
    return started and bool(_LOCK_FAULT.search(_fault(lines)))


def _success(stage: str, lines: list[str]) -> Outcome:
    if f"Stage '{stage}' didn't change, skipping" in lines:
        return Outcome("cached", "unchanged")
    if f"Stage '{stage}' is cached - skipping run, checking out outputs" in lines:
        return Outcome("cached", "restored from DVC's cache")
    return Outcome("ran", "done")


def _fault(lines: list[str]) -> str:
    """Return DVC's own error, or nothing; it is the last one, after any that the stage has printed."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return errors[-1] if errors else ""


def _ask(*arguments: str) -> str:
    """Return what a quick DVC command prints. Raise FlowError when it fails."""
    done = subprocess.run(
        _dvc(*arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        lines = [clean(line) for line in done.stderr.splitlines()]
        fault = _fault(lines) or " ".join(" ".join(lines).split()) or f"exit code {done.returncode}"
        raise FlowError(f"`dvc {arguments[0]}` failed: {fault}")
    return done.stdout


def _dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]
