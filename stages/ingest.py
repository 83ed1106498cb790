"""Stage `ingest`: read the images of the source and check each one completely.

Accepted images are stored unchanged, as data/raw/<label>/<first 16 hex digits of the file's SHA-256>; everything
else is listed in data/rejects.csv with its reason. Images with two labels go to data/quarantine, where the audit
shows them.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from stages.core.dataset.duplicates import colours, perceptual_hash
from stages.core.decoding import UnusableError, decode, strict_pillow
from stages.core.errors import DataError, one_line, run
from stages.core.files import replacing_folder, write_csv, write_csv_chunks
from stages.core.parallel import Guard, in_processes
from stages.core.params import load
from stages.core.settings.data import DataParams
from stages.sources.disk_table import DiskTable
from stages.sources.listing import Found, Reject
from stages.sources.manifest import Accepted, Manifest, conflicts
from stages.sources.quality import score
from stages.sources.reading import SCRATCH, budget, cost, limits, local_path, opened, read_file

RAW = Path("data/raw")
QUARANTINE = Path("data/quarantine")
MANIFEST = Path("data/manifest.csv")
REJECTS = Path("data/rejects.csv")

# The SHA-256 of a file or of its pixels, or at least the digits that name a file in data/raw.
_DIGEST = re.compile(r"[0-9a-f]{16,64}")
# A group of copies with more images than this number and this fraction of all is probably a mistake.
_LARGEST_GROUP, _LARGEST_FRACTION = 10, 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestResult:
    """The result of ingest: the manifest, the images with two labels, and the rejects."""

    manifest: Manifest
    quarantine: pd.DataFrame
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome for a file, and the entries of data.exclude that it matched."""

    outcome: Accepted | Reject
    matched: frozenset[str] = frozenset()


class ExcludedError(UnusableError):
    """An image that the user excludes, by all the entries in `matched`."""

    def __init__(self, matched: set[str]) -> None:
        self.matched = frozenset(matched)
        super().__init__(f"excluded: data.exclude names '{min(matched)}'")


class Exclusion:
    """The images that the user excludes, by path or by digest."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.entries = frozenset(entries)
        self._prefixes = tuple(entry.lower() for entry in self.entries if _DIGEST.fullmatch(entry.lower()))

    def check(self, *names: str) -> None:
        """Raise ExcludedError when one of an image's `names`, paths or digests, is excluded."""
        for name in names:
            if matched := {entry for entry in self.entries if entry == name or self._is_prefix(name, entry.lower())}:
                raise ExcludedError(matched)

    def _is_prefix(self, name: str, entry: str) -> bool:
        return entry in self._prefixes and name.startswith(entry)


def ingest(
    found: DiskTable[Found],
    left_out: Sequence[Reject],
    params: DataParams,
    folders: tuple[Path, Path],
    workers: int | None = None,
) -> IngestResult:
    """Check every file; store accepted ones in the first of `folders`, those with two labels in the second.

    The checked bytes are written there under numbers until all names are known: a file that changes meanwhile
    cannot slip in, and nothing is read twice.
    """
    raw, quarantine = folders
    waiting = raw / ".waiting"
    waiting.mkdir()
    exclusion = Exclusion(params.exclude)
    check = partial(_checked, waiting=waiting, params=params, exclusion=exclusion)
    manifest, rejects, unmatched = Manifest(), list(left_out), set(exclusion.entries)
    guard = Guard(cost(params), _refused)
    with in_processes(check, enumerate(found), len(found), "ingest", guard, workers) as results:
        for number, checked in enumerate(results):
            unmatched -= checked.matched
            if isinstance(checked.outcome, Reject):
                rejects.append(checked.outcome)
            else:
                manifest.add(checked.outcome, number)
    for entry in sorted(unmatched):
        log.warning("data.exclude: no image has the path or the digest '%s'", entry)
    manifest.name(params.near_duplicates)
    _place(manifest.places(contradicting=True), waiting, quarantine)
    _place(manifest.places(contradicting=False), waiting, raw)
    shutil.rmtree(waiting)
    contradicting = manifest.contradicting()
    rejects += conflicts(contradicting)
    rejects.sort(key=lambda reject: (reject.path, reject.reason))
    contradicting = contradicting.sort_values("file", ignore_index=True)
    return IngestResult(manifest, contradicting[["file", "path", "label", "group"]], rejects)


def _checked(numbered: tuple[int, Found], waiting: Path, params: DataParams, exclusion: Exclusion) -> Checked:
    """Return the row of a file, whose bytes are written under its number, or the reject."""
    number, item = numbered
    try:
        exclusion.check(item.path)
        data = read_file(item.location, params)
        sha256 = hashlib.sha256(data).hexdigest()
        with strict_pillow():
            decoded = decode(data, limits(params))
        pixels_sha256 = decoded.digest()
        exclusion.check(sha256, pixels_sha256)
    except UnusableError as error:
        matched = error.matched if isinstance(error, ExcludedError) else frozenset[str]()
        return Checked(Reject(item.path, one_line(str(error)), item.label), matched)
    (waiting / str(number)).write_bytes(data)
    row = Accepted(
        path=item.path,
        label=item.label,
        sha256=sha256,
        pixels_sha256=pixels_sha256,
        width=decoded.image.width,
        height=decoded.image.height,
        format=decoded.format,
        mode=decoded.mode,
        bytes=len(data),
        source_split=item.split,
        source_group=item.group,
        phash=perceptual_hash(decoded.image),
        colours=colours(decoded.image),
        scores=score(decoded.image),
    )
    return Checked(row)


def _refused(numbered: tuple[int, Found], reason: str) -> Checked:
    """Return the outcome for a file that cannot be read at an allowed cost."""
    _, item = numbered
    return Checked(Reject(item.path, reason, item.label))


def _place(places: Iterable[tuple[int, str]], waiting: Path, folder: Path) -> None:
    """Move the images from their numbers to their files in `folder`."""
    for number, file in places:
        place = folder / file
        place.parent.mkdir(exist_ok=True)
        (waiting / str(number)).rename(place)


def require_classes(classes: Sequence[str], source: str, rejects: Sequence[Reject]) -> None:
    """Raise DataError unless there are images of at least two classes."""
    if not classes:
        first = f", such as '{rejects[0].path}' ({rejects[0].reason})" if rejects else ""
        raise DataError(
            f"no image of data.source = '{source}' is accepted; {len(rejects)} are rejected{first}",
            "images in one folder per class",
            f"see {REJECTS} for all reasons",
        )
    if len(classes) == 1:
        raise DataError(
            f"data.source = '{source}' has only the class '{classes[0]}'",
            "two classes or more, one folder each",
            "add a folder for each other class; if the classes are the folders above, move the images up into them, or "
            "list them in a table labels.csv",
        )


def require_apart(source: str) -> None:
    """Raise DataError when a local source contains an output of this stage, or the other way round."""
    path = local_path(source)
    if path is None:
        return
    place = path.resolve()
    for output in (RAW, SCRATCH):
        if output.resolve().is_relative_to(place) or place.is_relative_to(output.resolve()):
            raise DataError(
                f"data.source = '{source}' and the output {output} overlap",
                "a source apart from it",
                "move the images into a folder of their own",
            )


def _report(labels: Iterable[str], intake: IngestResult) -> None:
    """Log the result. `labels` are those of all files found: a class may have lost every image."""
    classes = intake.manifest.labels()
    log.info("%d images of %d classes accepted", len(intake.manifest), len(classes))
    if intake.rejects:
        kinds = pd.Series([reject.reason.split(":")[0] for reject in intake.rejects], dtype=str).value_counts()
        counted = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        log.warning("%d rejected (%s); each with its reason in %s", len(intake.rejects), counted, REJECTS)
    for label in sorted(set(labels).difference(classes)):
        log.warning("class '%s' has no images left and is not part of this comparison", label)
    largest = intake.manifest.largest_group()
    if largest > max(_LARGEST_GROUP, _LARGEST_FRACTION * len(intake.manifest)):
        log.warning(
            "%d images count as copies of one another and go to the same split: if they are not, "
            "lower data.near_duplicates, or set it to null",
            largest,
        )


def main() -> None:
    """Read the source, write data/raw, data/quarantine and their lists."""
    params = load(DataParams, "data")
    require_apart(params.source)
    with (
        opened(params.source, params.checksum, budget(params)) as (found, left_out),
        replacing_folder(RAW) as raw,
        replacing_folder(QUARANTINE) as quarantine,
    ):
        intake = ingest(found, left_out, params, (raw, quarantine))
        rejects = pd.DataFrame([asdict(reject) for reject in intake.rejects], columns=["path", "label", "reason"])
        write_csv(REJECTS, rejects)
        require_classes(intake.manifest.labels(), params.source, intake.rejects)
        write_csv(quarantine / "index.csv", intake.quarantine)
        write_csv_chunks(MANIFEST, intake.manifest.parts())
    _report(found.distinct("label"), intake)


if __name__ == "__main__":
    run(main)
