"""DVC's list of paths in use, without the entries of dead processes: `python -P flows/locks.py`.

DVC enters itself in `.dvc/tmp/rwlock`. It ignores the entry of a process whose id is free, but the id of a process
that was killed may belong to another one by now, in a container even to DVC itself. A list that was being written when
the machine lost power, or its disk was full, would stop every run. flows/dvc.py waits for processes that live.
"""

import contextlib
import fcntl
import json
import re
from collections.abc import Iterator
from pathlib import Path

_TMP = Path(".dvc/tmp")
# In a command line: `dvc`, `.venv/bin/dvc`, `python -m dvc`.
_DVC = re.compile(rb"(^|[/\0])dvc(\0|$|/__main__)")
_LIST, _GUARD = _TMP / "rwlock", _TMP / "rwlock.lock"


def release_dead() -> None:
    """Remove what no living DVC holds from the list in the working directory; the list itself if it is damaged."""
    if not _LIST.exists():
        return
    with _guarded() as is_free:
        # Whoever writes the list right now is alive, and so is the list.
        if is_free:
            _replace()


def holders() -> list[str]:
    """Return the living DVC commands that hold files in the working directory, each as `command` (process id)."""
    try:
        held = json.loads(_LIST.read_bytes())
        infos = [*held.get("write", {}).values(), *(info for many in held.get("read", {}).values() for info in many)]
        return sorted({f"`{info['cmd']}` (process {info['pid']})" for info in infos if _is_dvc(info["pid"])})
    # DVC may be writing the list right now.
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []


def _replace() -> None:
    try:
        held = json.loads(_LIST.read_bytes())
        write = {path: info for path, info in held.get("write", {}).items() if _is_dvc(info["pid"])}
        read = {path: [info for info in infos if _is_dvc(info["pid"])] for path, infos in held.get("read", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        _LIST.unlink()
    else:
        _LIST.write_text(json.dumps({"write": write, "read": {path: infos for path, infos in read.items() if infos}}))


@contextlib.contextmanager
def _guarded() -> Iterator[bool]:
    """Lock the list as DVC does; provide whether that succeeded at once."""
    with _GUARD.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_dvc(process_id: int) -> bool:
    """Return whether a living process runs DVC; without proc(5) every process may."""
    if not Path("/proc/self").exists():
        return True
    try:
        return bool(_DVC.search(Path(f"/proc/{process_id}/cmdline").read_bytes()))
    except OSError:
        return False


if __name__ == "__main__":
    release_dead()
