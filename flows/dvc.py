"""DVC's commands, run as programs: its Python API must not be used from threads."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.states import Completed, Failed

from flows import graph, locks
from flows.graph import FlowError, Graph
from flows.process import ProcessGroups, clean, environment
from flows.redaction import redact

if TYPE_CHECKING:
    from dvc.config import Config

# What Prefect calls the state of what has run.
COMPLETED = "Completed"
_STARTED = re.compile(r"Running stage '(.+)':")
# What DVC advises after each command that records something: here the user, or the flow, commits and pushes once.
_ADVICE = re.compile(
    r"To track the changes with git, run:|\tgit add .*|To enable auto staging, run:|\tdvc config core\.autostage true|"
    r"Use `dvc push` to send your updates to remote storage\."
)
_CHECK = "check"
_NOT_KEPT = "ERROR: failed to transfer"
_LOCK_FAULT = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")
# The flag that waits for the repository's lock does not wait for the locks of single paths, which a stage holds while
# it runs, and `dvc status` for a moment. As long as a living DVC holds one, a command waits; otherwise it gives up
# after so many attempts: the lock may belong to a dead process, whose id another one has now.
_BUSY_RETRIES, _BUSY_SECONDS = 30, 2.0
_Done = TypeVar("_Done")


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: it ran, its outputs existed or came from DVC's cache, or it failed."""

    how: Literal["ran", "cached", "failed"]
    message: str

    def state(self) -> State[Any]:
        """Return the final state of what ran the stage, a task or a flow on a worker."""
        if self.how == "failed":
            return Failed(message=self.message)
        return Completed(name="Cached" if self.how == "cached" else COMPLETED, message=self.message)


def read_graph() -> Graph:
    """Return the graph of the DVC project in the working directory. Raise FlowError when there is none."""
    stages = graph.parse(ask("dag", "--dot"))
    if not stages:
        raise FlowError("dvc.yaml declares no stage; expected at least one; restore it, for instance from git")
    return stages


def require_checked(stages: Collection[str], groups: ProcessGroups, log: Callable[[str], None]) -> None:
    """Raise FlowError with what `check`, if it is one of `stages`, finds at fault.

    DVC runs it only when params.yaml has changed, but reads the images for every question, and may stop or hang at
    what the check names.
    """
    if _CHECK in stages:
        code, lines = groups.run([sys.executable, "-m", f"stages.{_CHECK}"], log)
        if code:
            raise FlowError(f"{_CHECK}: {'; '.join(lines) or f'it ended with exit code {code}'}")


def outdated(stages: Collection[str]) -> set[str]:
    """Return those of `stages` that DVC reports as changed, without those that only depend on one of them."""
    # Asking for everything is four times faster than naming each of sixty stages. Whether imported data has
    # changed at its source is a matter of `dvc update`, over the network.
    return set(json.loads(ask("status", "--json", "--no-updates"))).intersection(stages)


def settings() -> "Config":
    """Return DVC's settings in the working directory, all levels together. Raise FlowError when they cannot be read.

    Read as `dvc config` reads them, without half a second for its start. Not to be used from threads.
    """
    from dvc.config import Config
    from dvc.exceptions import DvcException

    try:
        return Config.from_cwd(validate=False)
    except DvcException as error:
        raise FlowError(redact(f"DVC's settings cannot be read: {' '.join(str(error).split())}")) from error


def metrics_diff() -> str:
    """Return how the metrics differ from the last commit, as a table in Markdown. Raise FlowError without a commit."""
    return ask("metrics", "diff", "--md")


def reproduce(stage: str, groups: ProcessGroups, log: Callable[[str], None]) -> Outcome:
    """Have DVC run only `stage`, if it changed, passing each line of output to `log`."""
    code, lines = _run(stage, groups, log)
    if code == 0:
        return success(stage, lines)
    if not lock_failed_after_run(stage, lines):
        return Outcome("failed", complaint(code, lines))
    # The work is done, only its record is missing. If the lock's failure hides a failure of the command, the
    # commit fails: an output is missing then, because a stage writes completely or not at all.
    log("The stage has finished but DVC could not lock its records: committing its outputs.")
    code, lines = groups.run(command_line("commit", "--force", stage), without_advice(log))
    if code == 0:
        return Outcome("ran", "saved by `dvc commit` after a failed lock")
    return Outcome("failed", fault(lines) or f"`dvc commit` ended with exit code {code}")


def without_advice(log: Callable[[str], None]) -> Callable[[str], None]:
    """Return `log` for DVC's output without what DVC advises about git and its remote after every stage."""
    return lambda line: None if _ADVICE.fullmatch(line) else log(line)


def _run(stage: str, groups: ProcessGroups, log: Callable[[str], None]) -> tuple[int, list[str]]:
    """Start DVC on `stage`; wait as long as a lock keeps it from starting."""
    command = command_line("repro", "--single-item", stage)
    return _waiting(
        lambda: groups.run(command, without_advice(log)),
        lambda done: bool(done[0]) and lock_failed_before_run(stage, done[1]),
        log,
    )


def _waiting(attempt: Callable[[], _Done], is_busy: Callable[[_Done], bool], log: Callable[[str], None]) -> _Done:
    """Return what `attempt` returns, again and again while that `is_busy`: another DVC command holds its files."""
    done, retries, said = attempt(), _BUSY_RETRIES, ""
    while is_busy(done) and (retries or locks.holders()):
        held = locks.holders()
        waiting = f"Waiting for {', '.join(held) or 'another DVC command'}, which holds files of this folder."
        if waiting != said:
            log(redact(waiting))
            said = waiting
        locks.release_dead()
        time.sleep(_BUSY_SECONDS)
        retries -= 1 if retries and not held else 0
        done = attempt()
    return done


def _is_busy(done: tuple[int, list[str]]) -> bool:
    """Return whether a DVC command that takes no lock after its work failed on one."""
    code, lines = done
    return bool(code) and bool(_LOCK_FAULT.search(fault(lines)))


def lock_failed_before_run(stage: str, lines: list[str]) -> bool:
    """Return whether DVC's `lines` show that a lock kept it from starting the command of `stage`."""
    return stage not in started(lines) and bool(_LOCK_FAULT.search(fault(lines)))


def lock_failed_after_run(stage: str, lines: list[str]) -> bool:
    """Return whether DVC's `lines` show that a lock failed after the command of `stage` had started.

    DVC takes no lock while the command runs, and reports a failed command as such.
    """
    return stage in started(lines) and bool(_LOCK_FAULT.search(fault(lines)))


def started(lines: Iterable[str]) -> list[str]:
    """Return the stages whose commands DVC has started, according to `lines`."""
    return [found[1] for line in lines if (found := _STARTED.fullmatch(line))]


def run(arguments: Sequence[str], groups: ProcessGroups, log: Callable[[str], None]) -> list[str]:
    """Run a long DVC command, passing each line of output to `log`; return the lines.

    Raises FlowError when it fails.
    """
    command = command_line(*arguments)
    code, lines = _waiting(lambda: groups.run(command, without_advice(log)), _is_busy, log)
    if code:
        raise FlowError(f"`dvc {arguments[0]}` failed: {fault(lines) or f'exit code {code}'}")
    return lines


def success(stage: str, lines: list[str]) -> Outcome:
    """Return how a DVC command that ended with 0 and printed `lines` obtained the outputs of `stage`."""
    # DVC goes on when its cache is full or cannot be written.
    if faults := [line for line in lines if line.startswith(_NOT_KEPT)]:
        reason = faults[0].removeprefix(_NOT_KEPT).strip()
        return Outcome("failed", f"DVC could not keep its outputs ({reason}); mend that, then `dvc commit {stage}`")
    # DVC names a stage as "Stage '...'", but a `.dvc` file without that prefix.
    if any(line.endswith(f"'{stage}' didn't change, skipping") for line in lines):
        return Outcome("cached", "unchanged")
    if f"Stage '{stage}' is cached - skipping run, checking out outputs" in lines:
        return Outcome("cached", "restored from DVC's cache")
    return Outcome("ran", "done")


def fault(lines: list[str]) -> str:
    """Return DVC's own error in one line, or an empty string; it comes after any errors that the stage printed."""
    _, mark, error = "\n".join(["", *lines]).rpartition("\nERROR: ")
    return " ".join(error.split()) if mark else ""


def complaint(code: int, lines: list[str]) -> str:
    """Return why a stage failed whose output is `lines`: DVC's error, and the last line of the stage."""
    error = fault(lines) or f"DVC ended with exit code {code}"
    return f"{error}: {line}" if (line := _last_line(lines)) else error


def _last_line(lines: list[str]) -> str:
    """Return the last line that a stage printed before DVC's own error, or an empty string."""
    errors = [number for number, line in enumerate(lines) if line.startswith("ERROR: ")]
    own = lines[: errors[-1]] if errors else lines
    # DVC prints the command after ">".
    return own[-1] if own and not own[-1].startswith("> ") else ""


def ask(*arguments: str) -> str:
    """Return the output of a quick DVC command. Raise FlowError when it fails."""
    done = _waiting(lambda: _asked(arguments), lambda done: _is_busy((done.returncode, _errors(done))), _say)
    if done.returncode:
        lines = _errors(done)
        error = fault(lines) or " ".join(" ".join(lines).split()) or f"exit code {done.returncode}"
        raise FlowError(f"`dvc {arguments[0]}` failed: {error}")
    return done.stdout


def _asked(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command_line(*arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def _errors(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [redact(clean(line)) for line in done.stderr.splitlines()]


def _say(line: str) -> None:
    """Log a line of the flow, or print it where no flow runs yet."""
    try:
        get_run_logger().info(line)
    except MissingContextError:
        print(f"flow: {line}", file=sys.stderr)


def command_line(*arguments: str) -> list[str]:
    """Return the command line of a DVC command."""
    # Without the flag nine of sixteen stages started at once would fail on the repository's lock.
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
