"""The folder of a run: one run at a time, and a second folder for runs on demand."""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from prefect import runtime

from flows import dvc, git, locks
from flows.graph import FlowError

# DVC's folder for files of this worktree only; git ignores it.
_LOCKS = Path(".dvc/tmp")
_POLL_SECONDS = 0.5
# At the end of the name of the folder for runs on demand.
_TRIAL = "-on-demand"


@contextlib.contextmanager
def exclusive(log: Callable[[str], None]) -> Iterator[None]:
    """Lock the working directory against other runs; wait for one that holds it.

    The system releases the lock when this process ends, for any reason.
    """
    with _held(_LOCKS / "flow.lock", log):
        locks.release_dead()
        yield


def holder() -> str:
    """Return the id of the flow run that last locked the working directory."""
    with contextlib.suppress(FileNotFoundError):
        return (_LOCKS / "flow.lock").read_text(encoding="utf-8")
    return ""


@contextlib.contextmanager
def trial(log: Callable[[str], None]) -> Iterator[Path]:
    """Check the last commit out into a separate folder, with this one's DVC cache, and change to it; provide its path.

    It is beside this folder, so that relative paths to outside data stay valid, and is kept until the next trial
    replaces it.
    """
    here, (top, prefix) = Path.cwd(), git.top()
    folder = top.with_name(f"{top.name}{_TRIAL}")
    with _held(_LOCKS / "on-demand.lock", log):
        _replace(folder)
        for orphan in _orphans(folder):
            log(f"{orphan} is left from where this project was before it was moved; delete that folder.")
        log(f"The run uses {folder} at commit {git.head()}, without uncommitted changes.")
        cache, settings = _cache(), here / ".dvc/config.local"
        with contextlib.chdir(folder / prefix):
            if settings.exists():
                shutil.copy(settings, ".dvc")
            with dvc.settings().edit("local") as local:
                # Links cost neither time nor space; DVC makes linked files read-only.
                local["cache"] |= {"dir": cache, "type": "reflink,hardlink,symlink,copy"}
            dvc.ask("checkout", "--quiet", "--allow-missing")
            yield folder


def _cache() -> str:
    settings = dvc.settings()
    return str(settings["cache"].get("dir") or Path(settings.dvc_dir) / "cache")


@contextlib.contextmanager
def _held(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened without truncating: it names the holder. Child processes do not inherit it, so none keeps it locked.
    with path.open("a+", encoding="utf-8") as file:
        if not _locked(file):
            log(f"Waiting for another run in this folder ({path} is locked).")
            while not _locked(file):
                time.sleep(_POLL_SECONDS)
        file.truncate(0)
        file.write(str(runtime.flow_run.id))
        file.flush()
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(folder: Path) -> None:
    """Check the last commit out into `folder`, replacing the worktree that was there before."""
    if folder.exists():
        if not _is_own(folder):
            raise FlowError(f"{folder} is needed for a worktree but is something else; move it away")
        # Not by git, which rejects the remains of a killed run.
        shutil.rmtree(folder)
    git.add_work_tree(folder)


def _is_own(folder: Path) -> bool:
    """Return whether `folder` is a worktree of this repository, also where both were moved together."""
    if folder in git.work_trees():
        return True
    with contextlib.suppress(FlowError):
        git.repair_work_tree(folder)
    return folder in git.work_trees()


def _orphans(folder: Path) -> list[Path]:
    """Return the folders of earlier runs on demand, other than `folder`: the project was moved or renamed since."""
    return [tree for tree in git.work_trees() if tree.name.endswith(_TRIAL) and tree != folder and tree.exists()]
