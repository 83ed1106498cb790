"""What ends a flow with one line instead of a traceback."""

import sqlite3

import httpx

from flows.graph import FlowError
from flows.redaction import redact

# A flow's own errors, what the machine lacks, and a Prefect server that does not answer or refuses.
FAULTS = (FlowError, OSError, MemoryError, sqlite3.Error, httpx.HTTPError)


def sentence(error: Exception) -> str:
    """Return the sentence for one of FAULTS."""
    if isinstance(error, FlowError):
        return str(error)
    said = redact(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, httpx.HTTPError):
        return f"Prefect's server failed ({said}); start it, and run again: stages that are done stay done"
    return f"this machine failed ({said}); free room, correct the rights or raise the limit, and run again"
