"""The manifest while it grows: accepted images, named and grouped once all are known.

The rows are on disk and are sorted there; memory holds only the hashes that are compared, 40 bytes per image.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.dataset.duplicates import GROUP_DIGITS, HASH_BYTES, LOOKS_BYTES, components, digests, near, same
from stages.core.decoding import SUFFIXES
from stages.core.errors import some
from stages.sources.disk_table import database
from stages.sources.listing import Reject
from stages.sources.quality import SCORES

# Paths that a reason names; of more it gives the number.
_NAMED = 3

# Rows of a table that are in memory at a time.
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Accepted:
    """A usable image: a row of the manifest before it has a file and a group."""

    path: str
    label: str
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    format: str
    mode: str
    bytes: int
    source_split: str
    source_group: str
    phash: str
    colours: str
    scores: tuple[float, ...]


_COLUMNS = [field.name for field in fields(Accepted) if field.name != "scores"]
# Columns of the manifest, in this order.
_MANIFEST = ", ".join(f'"{name}"' for name in ("file", *_COLUMNS, "group", *SCORES))

# Images with equal pixels under two labels contradict each other. The others go into the folders of their labels.
# Copies of one file in one folder get the suffixes -2, -3, ... in the order of their numbers.
_NAME = """
CREATE TABLE names AS
WITH
judged AS (
    SELECT place, format, label, substr(sha256, 1, 16) AS digest,
        min(label) OVER equal <> max(label) OVER equal AS contradicts,
        substr(min(pixels_sha256) OVER (PARTITION BY component), 1, ?) AS "group"
    FROM images JOIN components USING (place)
    WINDOW equal AS (PARTITION BY pixels_sha256)
),
parts AS (
    SELECT place, contradicts, "group", iif(contradicts, '', label || '/') || digest AS stem, suffix
    FROM judged JOIN suffixes USING (format)
),
counted AS (SELECT *, row_number() OVER (PARTITION BY contradicts, stem, suffix ORDER BY place) AS copy FROM parts)
SELECT place, contradicts, "group", stem || iif(copy > 1, '-' || copy, '') || '.' || suffix AS file FROM counted
"""


class Manifest:
    """Accepted images, added in the order of their paths, then named all at once."""

    def __init__(self) -> None:
        self._database = database()
        names = ", ".join(f'"{name}"' for name in (*_COLUMNS, *SCORES))
        # Places count from 1 without gaps.
        self._database.execute(f"CREATE TABLE images (place INTEGER PRIMARY KEY, number, {names})")
        self._database.execute("CREATE TABLE components (place INTEGER PRIMARY KEY, component)")
        self._database.execute("CREATE TABLE suffixes (format PRIMARY KEY, suffix)")
        self._database.executemany("INSERT INTO suffixes VALUES (?, ?)", SUFFIXES.items())
        places = ", ?" * (len(_COLUMNS) + len(SCORES))
        self._insert = f"INSERT INTO images VALUES (NULL, ?{places})"  # noqa: S608 (question marks)

    def add(self, image: Accepted, number: int) -> None:
        """Add an image; `number` names its file in the folder of waiting files."""
        values = (getattr(image, name) for name in _COLUMNS)
        self._database.execute(self._insert, (number, *values, *image.scores))

    def name(self, near_duplicates: int | None) -> None:
        """Assign each image its group, as `duplicates.groups` does, and the name of its file."""
        count = self._number("SELECT count(*) FROM images")
        pixels = self._digests("SELECT pixels_sha256 FROM images ORDER BY place", count)
        links = [same(pixels), self._same_source()]
        del pixels
        if near_duplicates is not None:
            looks = self._digests("SELECT phash || colours FROM images ORDER BY place", count, LOOKS_BYTES)
            links.append(near(looks, near_duplicates))
        rows = ((place, int(component)) for place, component in enumerate(components(links, count), start=1))
        self._database.executemany("INSERT INTO components VALUES (?, ?)", rows)
        self._database.execute(_NAME, (GROUP_DIGITS,))

    def places(self, *, contradicting: bool) -> Iterator[tuple[int, str]]:
        """Yield number and file of each image that contradicts another, or of all other images."""
        query = "SELECT number, file FROM names JOIN images USING (place) WHERE contradicts = ? ORDER BY file"
        return self._database.execute(query, (contradicting,))

    def contradicting(self) -> pd.DataFrame:
        """Return file, path, label, group and pixels_sha256 of the images that contradict each other, by path."""
        query = """SELECT file, path, label, "group", pixels_sha256 FROM names JOIN images USING (place)
            WHERE contradicts ORDER BY place"""
        return pd.read_sql(query, self._database)

    def parts(self) -> Iterator[pd.DataFrame]:
        """Yield the manifest, sorted by file, in chunks."""
        query = f"""SELECT {_MANIFEST} FROM names JOIN images USING (place)
            WHERE NOT contradicts ORDER BY file"""  # noqa: S608 (names of columns)
        return pd.read_sql(query, self._database, chunksize=_CHUNK)

    def labels(self) -> list[str]:
        """Return the labels of the manifest, sorted."""
        query = "SELECT DISTINCT label FROM names JOIN images USING (place) WHERE NOT contradicts ORDER BY label"
        return [label for (label,) in self._database.execute(query)]

    def largest_group(self) -> int:
        """Return how many images the largest group of the manifest has."""
        return self._number(
            'SELECT max(size) FROM (SELECT count(*) AS size FROM names WHERE NOT contradicts GROUP BY "group")'
        )

    def __len__(self) -> int:
        return self._number("SELECT count(*) FROM names WHERE NOT contradicts")

    def _digests(self, query: str, count: int, size: int = HASH_BYTES) -> NDArray[np.bytes_]:
        return digests((value for (value,) in self._database.execute(query)), count, size)

    def _same_source(self) -> NDArray[np.int64]:
        """Return links, (2, n), between images that the source groups together, each to the next one."""
        query = """SELECT place - 1, before - 1 FROM (
                SELECT place, lag(place) OVER (PARTITION BY source_group ORDER BY place) AS before
                FROM images WHERE source_group <> ''
            ) WHERE before IS NOT NULL"""
        ends = (end for pair in self._database.execute(query) for end in pair)
        return np.fromiter(ends, dtype=np.int64).reshape(-1, 2).T

    def _number(self, query: str) -> int:
        (number,) = self._database.execute(query).fetchone()
        return int(number or 0)


def conflicts(table: pd.DataFrame) -> list[Reject]:
    """Return a reject for each image of `table`, all of which have several labels; its reason names the other paths."""
    rejects: list[Reject] = []
    for _, copies in table.groupby("pixels_sha256"):
        for path, label in zip(copies["path"], copies["label"], strict=True):
            others = [f"'{other}'" for other in copies.loc[copies["label"] != label, "path"]]
            rejects.append(Reject(path, f"two labels: the same image as {some(others, _NAMED)}", label))
    return rejects
