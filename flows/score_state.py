"""The state of scoring, kept beside the results: the scored images by path, size and modification time.

A run records what it is about to score, and a later one checks whether it finished: it did if its results exist, which
are written completely or not at all. So no image is lost or scored twice when a run is killed.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

from flows.graph import FlowError

STATE = "scored.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS scored (path BLOB PRIMARY KEY, size INTEGER, changed INTEGER, run TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unfinished (run TEXT PRIMARY KEY);
"""


class ScoreState:
    """The images that have been scored, and by which run."""

    def __init__(self, database: sqlite3.Connection, results: Path) -> None:
        self._database, self._results = database, results

    def predictions(self, run: str) -> Path:
        """Return the file of a run's predictions."""
        return self._results / f"{run}.csv"

    def rejects(self, run: str) -> Path:
        """Return the file of a run's rejects."""
        return self._results / f"{run}-rejects.csv"

    def settle(self) -> None:
        """Forget the images of unfinished runs, and remove their partial results."""
        with self._database:
            for (run,) in self._database.execute("SELECT run FROM unfinished").fetchall():
                # The rejects of a run are always written, and last.
                if not self.rejects(run).exists():
                    for left in (self.predictions(run), *self._results.glob(f".{run}*.partial")):
                        left.unlink(missing_ok=True)
                    self._database.execute("DELETE FROM scored WHERE run = ?", (run,))
            self._database.execute("DELETE FROM unfinished")

    def begin(self, run: str, folder: Path) -> list[bytes]:
        """Return the files below `folder` that are new or have changed, and record that this run will score them."""
        new = []
        with self._database:
            self._database.execute("INSERT INTO unfinished VALUES (?)", (run,))
            for path, size, changed in _files(folder):
                query = "SELECT 1 FROM scored WHERE path = ? AND size = ? AND changed = ?"
                if not self._database.execute(query, (path, size, changed)).fetchone():
                    self._database.execute(
                        "INSERT OR REPLACE INTO scored VALUES (?, ?, ?, ?)", (path, size, changed, run)
                    )
                    new.append(path)
        return sorted(new)


@contextmanager
def opened(results: Path) -> Iterator[ScoreState]:
    """Provide the state of earlier runs whose results are in the folder `results`, which is created if missing."""
    results.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(results / STATE)) as database:
        try:
            database.executescript(_TABLES)
            state = ScoreState(database, results)
            state.settle()
            yield state
        except sqlite3.DatabaseError as error:
            raise FlowError(
                f"{results / STATE} cannot be used ({error}); restore it, or remove it to score all images again"
            ) from error


def _files(folder: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yield path, size and modification time of each file; hidden names and links to folders are left out."""
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            try:
                about = path.stat()
            except OSError:
                # Deleted meanwhile, or a dangling link.
                continue
            if stat.S_ISREG(about.st_mode) and not name.startswith("."):
                yield os.fsencode(path), about.st_size, about.st_mtime_ns


def _refuse(error: OSError) -> NoReturn:
    raise FlowError(
        f"{error.filename} cannot be read ({error.strerror}); correct its permissions, or move it away"
    ) from error
