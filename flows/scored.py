"""Which images of a folder have been scored, kept beside the results: by path, size and time of change.

A run notes what it is about to score, and a later one finds out whether it came to its end: it did if its results are
there, which appear as a whole. So no image is lost, and none scored twice, when a run is killed.
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


class Scored:
    """The images that have been scored, and by which run."""

    def __init__(self, database: sqlite3.Connection, results: Path) -> None:
        self._database, self._results = database, results

    def predictions(self, run: str) -> Path:
        """Return the file of a run's predictions."""
        return self._results / f"{run}.csv"

    def rejects(self, run: str) -> Path:
        """Return the file of what a run left out."""
        return self._results / f"{run}-rejects.csv"

    def settle(self) -> None:
        """Forget what runs were about to score that have not come to their end, and what they have left."""
        with self._database:
            for (run,) in self._database.execute("SELECT run FROM unfinished").fetchall():
                # What a run leaves out is written last, and always.
                if not self.rejects(run).exists():
                    for left in (self.predictions(run), *self._results.glob(f".{run}*.partial")):
                        left.unlink(missing_ok=True)
                    self._database.execute("DELETE FROM scored WHERE run = ?", (run,))
            self._database.execute("DELETE FROM unfinished")

    def begin(self, run: str, folder: Path) -> list[bytes]:
        """Return the files below `folder` that are new or have changed, as this run is about to score them."""
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
def opened(results: Path) -> Iterator[Scored]:
    """Give what is known of earlier runs whose results are in the folder `results`, which is made if need be."""
    results.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(results / STATE)) as database:
        try:
            database.executescript(_TABLES)
            scored = Scored(database, results)
            scored.settle()
            yield scored
        except sqlite3.DatabaseError as error:
            raise FlowError(
                f"{results / STATE} cannot be used ({error}); restore it, or remove it to score all images anew"
            ) from error


def _files(folder: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yield path, size and time of change of each file; hidden names, and links to folders, are left out."""
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            try:
                about = path.stat()
            except OSError:
                # Gone since, or a link to nothing.
                continue
            if stat.S_ISREG(about.st_mode) and not name.startswith("."):
                yield os.fsencode(path), about.st_size, about.st_mtime_ns


def _refuse(error: OSError) -> NoReturn:
    raise FlowError(
        f"{error.filename} cannot be read ({error.strerror}); correct its rights, or move it away"
    ) from error
