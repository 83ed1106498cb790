"""Errors that a user can fix, and the guard that prints them as one line.

A fault on the user's side (a wrong parameter, an unreadable source, unavailable weights) is a `UserError`: it is
printed as one line and the program exits with 1. Any other exception is a bug and keeps its traceback.
"""

import logging
import sys
from collections.abc import Callable
from typing import ClassVar


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
        return one_line(f"{self.received}; expected {self.expected}; {self.remedy}")


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


class GroupedUserError(Exception):
    """Several faults, reported together so that they can be fixed together."""

    def __init__(self, faults: list[UserError]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


def one_line(text: str) -> str:
    """Return `text` with every control character escaped, so that a file name cannot break a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def run(main: Callable[[], None]) -> None:
    """Run a program's `main`; print a UserError as one line on stderr and exit with 1.

    Log lines go to stderr without time stamps: DVC and Prefect add their own.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.captureWarnings(capture=True)
    try:
        main()
    except KeyboardInterrupt:
        # As a shell reports a program ended by SIGINT (128 + 2); a traceback would add nothing.
        sys.exit(130)
    except GroupedUserError as group:
        for fault in group.faults:
            print(f"{fault.kind}: {fault}", file=sys.stderr)
        sys.exit(1)
    except UserError as fault:
        print(f"{fault.kind}: {fault}", file=sys.stderr)
        sys.exit(1)
