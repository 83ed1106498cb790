"""Errors that a user can fix, and the guard that prints them as one line.

A fault on the user's side (a wrong parameter, an unreadable source, unavailable weights) is a `UserError`: it is
printed as one line and the program exits with 1. So is what the machine lacks, such as room on its disk, wherever that
comes up, imports included. Any other exception is a bug and keeps its traceback.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import ClassVar

from stages.core.addresses import redacted
from stages.core.lacks import lack_behind
from stages.core.parent import end_with_parent
from stages.core.recorded import STAGE, Inputs
from stages.core.surroundings import require_own_python


class UserError(Exception):
    """What was received, what was expected, and what to do about it, in one line."""

    kind: ClassVar[str] = "error"
    # The dotted key in params.yaml, if the fault has one.
    key: str = ""

    def __init__(self, received: str, expected: str, remedy: str) -> None:
        self.received, self.expected, self.remedy = received, expected, remedy
        # Passed on unchanged: exceptions are pickled between processes by their arguments.
        super().__init__(received, expected, remedy)

    def __str__(self) -> str:
        return one_line(redacted(f"{self.received}; expected {self.expected}; {self.remedy}"))


class ParameterError(UserError):
    """A value in params.yaml that cannot be used."""

    kind = "params.yaml"

    def __init__(self, received: str, expected: str, remedy: str, key: str = "") -> None:
        super().__init__(received, expected, remedy)
        self.key = key


class DataError(UserError):
    """Images, or a table of them, that cannot be used."""

    kind = "data"


class WeightsError(UserError):
    """Weights that are unavailable, or not the expected ones."""

    kind = "weights"


class EngineError(UserError):
    """An inference engine or a precision that this machine does not offer."""

    kind = "engine"


class MachineError(UserError):
    """Something that this machine lacks: room, rights, memory, open files, processes."""

    kind = "machine"


class InputError(UserError):
    """Parameters, code or data that have changed while the stage ran that read them."""

    kind = "inputs"


class GroupedUserError(Exception):
    """Several faults, reported together so that they can be fixed together."""

    def __init__(self, faults: list[UserError]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


def one_line(text: str) -> str:
    """Return `text` with every control character escaped, so that a file name cannot break a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def some(names: Sequence[str], most: int) -> str:
    """Return names as a list, at most so many of them, and of others the number."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says that says something, without colour codes; else the error's kind."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return next(iter(told or lines), type(error).__name__)


def run(main: Callable[[], None]) -> None:
    """Run a program's `main`; print a UserError as one line on stderr and exit with 1.

    Log lines go to stderr without time stamps: DVC and Prefect add their own.
    """
    require_own_python()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.captureWarnings(capture=True)
    try:
        _run_for_dvc(main) if STAGE in os.environ else main()
    except KeyboardInterrupt:
        # As a shell reports a program ended by SIGINT (128 + 2); a traceback would add nothing.
        sys.exit(130)
    except GroupedUserError as group:
        for fault in group.faults:
            print(f"{fault.kind}: {fault}", file=sys.stderr)
        sys.exit(1)
    except UserError as fault:
        # A full disk can pass for a damaged archive.
        named = _of_machine(fault.__cause__, of_all=True) or fault
        print(f"{named.kind}: {named}", file=sys.stderr)
        sys.exit(1)


def _run_for_dvc(main: Callable[[], None]) -> None:
    """Run a stage's `main`; raise InputError, and remove its outputs, if DVC would record other inputs than it had."""
    end_with_parent()
    inputs = Inputs(os.environ[STAGE])
    if late := inputs.late():
        raise _changed(late)
    main()
    if changed := inputs.changed():
        inputs.discard_outputs()
        raise _changed(changed)


def _changed(inputs: list[str]) -> InputError:
    return InputError(
        f"{', '.join(inputs)} changed while {os.environ[STAGE]} ran",
        "the same parameters, code and data until it ends, when DVC records them",
        "run it again",
    )


def require_machine(error: Exception) -> None:
    """Raise MachineError when `error`, met at one file, is due to what the machine lacks for any file."""
    if lacking := _of_machine(error, of_all=True):
        raise lacking from error


def _of_machine(error: BaseException | None, *, of_all: bool = False) -> MachineError | None:
    lack = lack_behind(error, of_all=of_all)
    return MachineError(*lack) if lack else None


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what the machine lacks as one line, and any other exception with its traceback."""
    if lacking := _of_machine(error):
        print(f"{lacking.kind}: {lacking}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _print_uncaught
