"""What ends a flow with one line instead of a traceback."""

import errno
import logging
import sqlite3

import httpx
from prefect.exceptions import CancelledRun, FailedRun

from flows.graph import FlowError
from flows.redaction import redact

# A flow's own errors, what the machine lacks, and a Prefect server that does not answer or refuses.
FAULTS = (FlowError, OSError, MemoryError, sqlite3.Error, httpx.HTTPError)


# By these numbers the system says that it has not enough of something, or not the right.
_LACKS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM, errno.EAGAIN, errno.EIO,
}  # fmt: skip


def sentence(error: Exception) -> str:
    """Return the sentence for one of FAULTS.

    Any other OSError is a mistake in the code: it is raised again, and keeps its traceback.
    """
    if isinstance(error, FlowError):
        return str(error)
    if isinstance(error, OSError) and error.errno not in _LACKS:
        raise error
    said = redact(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, httpx.HTTPError):
        return f"Prefect's server failed ({said}); start it, and run again: stages that are done stay done"
    return f"this machine failed ({said}); free room, correct the rights or raise the limit, and run again"


def without_traceback(record: logging.LogRecord) -> bool:
    """Drop what Prefect's engine logs of a flow that returned a failure: a traceback through its own code.

    The line before has the failure's sentence. A fault of the program is another exception, and keeps its traceback.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun | CancelledRun))
