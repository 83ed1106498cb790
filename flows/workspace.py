"""The folder that a run works in: one run at a time, and a second folder for trials."""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from prefect import runtime

from flows import commands, git
from flows.graph import FlowError

# Here DVC keeps what belongs to one folder alone; git ignores it.
_LOCKS = Path(".dvc/tmp")
_POLL_SECONDS = 0.5


@contextlib.contextmanager
def exclusive(log: Callable[[str], None]) -> Iterator[None]:
    """Let no other run into the working directory; wait for the one that is at work there.

    The system gives the lock back when this process ends, whatever way that happens.
    """
    with _held(_LOCKS / "flow.lock", log):
        yield


def holder() -> str:
    """Return the id of the flow run that is, or was, at work in the working directory."""
    with contextlib.suppress(FileNotFoundError):
        return (_LOCKS / "flow.lock").read_text(encoding="utf-8")
    return ""


@contextlib.contextmanager
def trial(log: Callable[[str], None]) -> Iterator[Path]:
    """Give the last commit a folder of its own, with this one's DVC cache, as working directory; return it.

    It lies beside this folder, so that relative paths to data outside lead to the same place, and stays until
    the next trial replaces it.
    """
    here, (top, prefix) = Path.cwd(), git.top()
    folder = top.with_name(f"{top.name}-on-demand")
    with _held(_LOCKS / "on-demand.lock", log):
        _replace(folder)
        log(f"The run works in {folder} on commit {git.head()}; what is not committed is not part of it.")
        cache, settings = commands.ask("cache", "dir").strip(), here / ".dvc/config.local"
        with contextlib.chdir(folder / prefix):
            if settings.exists():
                shutil.copy(settings, ".dvc")
            # Links cost neither time nor room; DVC keeps what it links from being written to.
            commands.ask("config", "--local", "cache.dir", cache)
            commands.ask("config", "--local", "cache.type", "reflink,hardlink,symlink,copy")
            commands.ask("checkout", "--quiet", "--allow-missing")
            yield folder


@contextlib.contextmanager
def _held(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened without truncating: it names the holder. Commands do not inherit it, so none keeps it locked.
    with path.open("a+", encoding="utf-8") as file:
        if not _locked(file):
            log(f"Waiting for another run that works here ({path} is locked).")
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
    """Check the last commit out into `folder`, in place of the work tree that was there before."""
    if folder.exists():
        if folder not in git.work_trees():
            raise FlowError(f"{folder} is needed for a work tree but is something else; move it away")
        # Not by git, which refuses what a killed run has left half-made.
        shutil.rmtree(folder)
    git.add_work_tree(folder)
