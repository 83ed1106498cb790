"""What a machine lacks is one line, whichever library meets it, and is never blamed on a file."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.core import errors
from stages.core.errors import DataError, MachineError, UserError, require_machine, run
from stages.core.lacks import lack_behind

ROOT = Path(__file__).parents[2]


def system(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


def passed_on(text: str) -> str:
    """Return what HDF5 makes of the system's sentence."""
    return f"Unable to create file (unable to open file: name = 'x', error message = '{text}', flags = 13)"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (system(errno.ENOSPC), "room on the disk"),
        (system(errno.ENOSPC, "data/x.npy"), "room on the disk"),
        (system(errno.EDQUOT), "room on the disk"),
        (system(errno.EFBIG), "room for a file of that size"),
        (system(errno.EROFS, "data"), "a disk that can be written"),
        (system(errno.EACCES, "data"), "the right to read and write there"),
        (system(errno.EPERM, "data"), "the right to read and write there"),
        (system(errno.EMFILE), "more files open at once"),
        (system(errno.ENFILE), "more files open at once"),
        (system(errno.ENOMEM), "more memory"),
        (system(errno.EAGAIN), "more processes and threads"),
        (system(errno.EIO), "a disk that works"),
        (system(errno.ENAMETOOLONG, "x" * 300), "a shorter path"),
        (system(errno.ENOTDIR, "/dev/null/.config/dvc/config"), "a folder there"),
        (MemoryError(), "more memory"),
        (MemoryError("Unable to allocate 3 TiB for an array"), "more memory"),
        (RuntimeError("std::bad_alloc"), "more memory"),
        (RuntimeError("OOM when allocating tensor with shape[9,9]"), "more memory"),
        (RuntimeError("OpenCV(4) error: (-4:Insufficient memory) Failed to allocate 9 bytes"), "more memory"),
        (RuntimeError("can't start new thread"), "more processes and threads"),
        (OSError(passed_on(os.strerror(errno.ENOSPC))), "room on the disk"),
        (OSError(passed_on(os.strerror(errno.EACCES))), "the right to read and write there"),
        (ImportError("libx.so: failed to map segment: Cannot allocate memory"), "more memory"),
        (sqlite3.OperationalError("database or disk is full"), "room on the disk"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "a disk that can be written"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "room on the disk"),
    ],
)
def test_what_the_machine_lacks_is_recognised_in_every_library_s_words(error: Exception, expected: str) -> None:
    lack = lack_behind(error)
    assert lack
    assert lack[1] == expected
    # It may be hidden behind what a library, or a stage, makes of it.
    outer = RuntimeError("could not save")
    outer.__cause__ = error
    assert lack_behind(outer) == lack


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("ours"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "data/x"),
        KeyError("memory"),
        ValueError("a file of that size"),
    ],
)
def test_any_other_fault_is_left_alone(error: Exception) -> None:
    assert lack_behind(error) is None


def test_a_full_disk_is_named_by_the_folder_that_lies_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = {".": 10**12, str(tmp_path): 4096}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=left[folder]))
    assert lack_behind(system(errno.ENOSPC)) == (
        f"No space left on device in '{tmp_path}'",
        "room on the disk",
        "free some, or set TMPDIR to a folder with more if that is what is full, and run again",
    )


def misjudged(error: Exception) -> None:
    """Take `error` for a fault of a file, as a reader of damaged archives does."""
    raise DataError("a damaged archive", "a whole one", "fetch it again") from error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (system(errno.ENOSPC), "machine"),
        (system(errno.EMFILE, "a.jpg"), "machine"),
        (MemoryError(), "machine"),
        (system(errno.EROFS, "x"), "machine"),
        # Of these the reader knows more than the system does.
        (system(errno.EACCES, "a.zip"), "data"),
        (system(errno.ENAMETOOLONG, "a.zip"), "data"),
        (ValueError("bad magic number"), "data"),
    ],
)
def test_a_file_is_not_blamed_for_what_the_machine_lacks(
    error: Exception, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: misjudged(error))
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{kind}: ")


def test_an_error_that_quotes_another_is_not_quoted_in_turn() -> None:
    inner = DataError("cannot be unpacked (No space left on device)", "room", "make some")
    inner.__cause__ = system(errno.ENOSPC, "x")
    outer = DataError("unusable", "room", "make some")
    outer.__cause__ = inner
    with pytest.raises(MachineError, match=r"^No space left on device: 'x'; "):
        require_machine(outer)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EROFS])
def test_no_image_is_rejected_for_what_the_machine_lacks(number: int) -> None:
    with pytest.raises(MachineError, match=r"; expected .*, and run again"):
        require_machine(system(number, "cat/1.jpg"))
    require_machine(system(errno.EACCES, "cat/1.jpg"))


def test_every_fault_of_the_user_s_own_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("Permission denied", "that", "do so")

    with pytest.raises(SystemExit):
        run(main)
    assert capsys.readouterr().err == "error: Permission denied; expected that; do so\n"


def test_an_uncaught_lack_is_one_line_and_another_fault_stays_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for error in (system(errno.ENOSPC, "data/x"), ZeroDivisionError("ours")):
        errors._print_uncaught(type(error), error, None)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("machine: No space left on device: 'data/x'; expected room on the disk; free some")
    assert second == "ZeroDivisionError: ours"


FILES = "open('x', 'wb').write(bytes(2 << 20))"
STAGE = "import runpy; runpy.run_module('stages.check', run_name='__main__')"
LIMITED = """\
import resource
import stages
resource.setrlimit(resource.{limit}, ({value}, {value}))
{act}
"""


@pytest.mark.parametrize(
    ("limit", "value", "act", "said"),
    [
        ("RLIMIT_FSIZE", 1 << 20, FILES, "machine: File too large"),
        ("RLIMIT_FSIZE", 0, STAGE, "machine: File too large"),
        ("RLIMIT_NOFILE", 8, "files = [open('/dev/null') for _ in range(9)]", "machine: Too many open files: '/dev"),
        ("RLIMIT_AS", 1 << 28, "bytearray(1 << 30)", "machine: Cannot allocate memory"),
        ("RLIMIT_CPU", 9, "open('/dev/full', 'w', 1).write('x\\n')", "machine: No space left on device"),
    ],
)
def test_a_program_that_meets_a_limit_prints_one_line_and_exits_with_1(
    tmp_path: Path, limit: str, value: int, act: str, said: str
) -> None:
    # What the shipped parameters name.
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data").mkdir()
    for folder in ("data/samples", "data/own_weights"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    program = LIMITED.format(limit=limit, value=value, act=act)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)
