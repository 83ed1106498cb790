"""What a machine lacks when an operation of its own fails: room, rights, memory, files, processes."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# What was received, what was expected, what to do.
Lack = tuple[str, str, str]

_NO_ROOM = ("room on the disk", "free some, or set TMPDIR to a folder with more if that is what is full, and run again")
_NO_RIGHTS = ("the right to read and write there", "correct the owner or the permissions, and run again")
_NO_FILES = ("more files open at once", "raise the limit, as with `ulimit -n 4096`, and run again")
_NO_MEMORY = ("more memory", "free some, or raise the limit (`ulimit -v`, that of the container), and run again")
_NO_PROCESSES = ("more processes and threads", "end some, or raise the limit (`ulimit -u`), and run again")
_BROKEN_DISK = ("a disk that works", "look into the system's log (`dmesg`), and run again")
_READ_ONLY = ("a disk that can be written", "mount it for writing, or move the project, and run again")
_NO_FOLDER = ("a folder there", "move the file away, or set HOME and TMPDIR to folders, and run again")
_SHORT_NAME = ("a shorter path", "shorten the name, or move the project to a folder with a shorter path")

# Bytes. A program that fails for want of room leaves some.
_LITTLE = 20e6

# By the system's error number.
_REMEDIES = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: ("room for a file of that size", "raise the limit (`ulimit -f`), and run again"),
    errno.EROFS: _READ_ONLY,
    errno.EMFILE: _NO_FILES,
    errno.ENFILE: _NO_FILES,
    errno.ENOMEM: _NO_MEMORY,
    errno.EAGAIN: _NO_PROCESSES,
    errno.EIO: _BROKEN_DISK,
    errno.EACCES: _NO_RIGHTS,
    errno.EPERM: _NO_RIGHTS,
    errno.ENOTDIR: _NO_FOLDER,
    errno.ENAMETOOLONG: _SHORT_NAME,
}
# Whoever meets one of these at a certain file knows more about it than the system does.
_OF_ONE_FILE = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO}

# Libraries pass on the system's words, or have their own: SQLite, TensorFlow, OpenVINO, OpenCV, Arrow, Python.
_WORDS = {
    **{re.escape(os.strerror(number)): number for number in _REMEDIES},
    "database or disk is full|No usable temporary directory": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
    "bad[ _]alloc|OOM when allocating|[Ff]ailed to allocate|[Ii]nsufficient memory|malloc of size": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
}


def lack_behind(error: BaseException | None, *, of_all: bool = False) -> Lack | None:
    """Return what the machine lacks if that is why `error` was raised, directly or through others, or None.

    `of_all` leaves out what concerns a single file: its permissions, the length of its name.
    """
    # Words last: an error of ours may quote those of the one behind it.
    for recognised in (_number, _meaning):
        for behind in _chain(error):
            code = recognised(behind)
            if code and not (of_all and code in _OF_ONE_FILE):
                return _received(code, behind), *_REMEDIES[code]
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and those that it was raised from."""
    while error:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _number(error: BaseException) -> int | None:
    """Return the system's error number that `error` bears, or None."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    return error.errno if isinstance(error, OSError) and error.errno in _REMEDIES else None


def _meaning(error: BaseException) -> int | None:
    """Return the system's error number that a library means by what it says, or None."""
    return next((code for words, code in _WORDS.items() if re.search(words, str(error))), None)


def _received(code: int, error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == code:
        is_named = isinstance(error.filename, str | bytes)
        said = f": '{os.fsdecode(error.filename)}'" if is_named else _room() if code == errno.ENOSPC else ""
    else:
        said = f" ({line})" if (line := str(error).strip().partition("\n")[0]) else ""
    return os.strerror(code) + said


def _room() -> str:
    """Return which of the project's folder and that of temporary files is full: the system does not say which disk."""
    folders = {".", tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")}  # noqa: S108 (where they lie unless told)
    full = [folder for folder in sorted(folders) if Path(folder).is_dir() and shutil.disk_usage(folder).free < _LITTLE]
    return f" in {' and '.join(map(repr, full))}" if full else ""
