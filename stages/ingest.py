"""Stage ingest: take in the source's images, each once checked to its last byte.

Accepted images are kept as they are, under data/raw/<label>/<first 16 hex digits of the file's
SHA-256>; all that is left out stands in data/rejects.csv with its reason. Images under two labels go to
data/quarantine, where the audit shows them.
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

from stages.core.dataset.duplicates import perceptual_hash
from stages.core.decoding import UnusableError, decode, strict_pillow
from stages.core.errors import DataError, one_line, run
from stages.core.files import replacing_folder, write_csv, write_csv_chunks
from stages.core.parallel import in_processes
from stages.core.params import load
from stages.core.settings.data import DataParams
from stages.sources.listing import Found, Reject
from stages.sources.manifest import Accepted, Manifest, conflicts
from stages.sources.quality import score
from stages.sources.reading import SCRATCH, budget, limits, local_path, opened, read_file
from stages.sources.spool import Spool

RAW = Path("data/raw")
QUARANTINE = Path("data/quarantine")
MANIFEST = Path("data/manifest.csv")
REJECTS = Path("data/rejects.csv")

# A file's or an image's SHA-256, or as much of it as names a file in data/raw.
_DIGEST = re.compile(r"[0-9a-f]{16,64}")
# A group of copies with more than so many images, and this share of all, is more likely a mistake.
_LARGEST_GROUP, _LARGEST_SHARE = 10, 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Intake:
    """What came in: the manifest, the images under two labels, and the reasons of all that was left out."""

    manifest: Manifest
    quarantine: pd.DataFrame
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a file, and the entries of data.exclude that it met."""

    outcome: Accepted | Reject
    met: frozenset[str] = frozenset()


class ExcludedError(UnusableError):
    """An image that the user leaves out, by all the entries in `met`."""

    def __init__(self, met: set[str]) -> None:
        self.met = frozenset(met)
        super().__init__(f"excluded: data.exclude names '{min(met)}'")


class Exclusion:
    """What the user leaves out, by path or by digest."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.entries = frozenset(entries)
        self._prefixes = tuple(entry.lower() for entry in self.entries if _DIGEST.fullmatch(entry.lower()))

    def check(self, *names: str) -> None:
        """Raise ExcludedError when one of an image's `names`, paths or digests, is left out."""
        for name in names:
            if met := {entry for entry in self.entries if entry == name or self._begins(name, entry.lower())}:
                raise ExcludedError(met)

    def _begins(self, name: str, entry: str) -> bool:
        return entry in self._prefixes and name.startswith(entry)


def ingest(
    found: Spool[Found],
    left_out: Sequence[Reject],
    params: DataParams,
    folders: tuple[Path, Path],
    workers: int | None = None,
) -> Intake:
    """Check every file found; put the accepted ones into the first of `folders`, those under two labels into the other.

    The bytes that were checked wait there until all names are known: a file that changes meanwhile cannot
    slip in, and nothing is read twice.
    """
    raw, quarantine = folders
    waiting = raw / ".waiting"
    waiting.mkdir()
    exclusion = Exclusion(params.exclude)
    check = partial(_checked, waiting=waiting, params=params, exclusion=exclusion)
    manifest, rejects, unmet = Manifest(), list(left_out), set(exclusion.entries)
    with in_processes(check, enumerate(found), len(found), "ingest", workers) as results:
        for number, checked in enumerate(results):
            unmet -= checked.met
            if isinstance(checked.outcome, Reject):
                rejects.append(checked.outcome)
            else:
                manifest.add(checked.outcome, number)
    for entry in sorted(unmet):
        log.warning("data.exclude: no image has the path or the digest '%s'", entry)
    manifest.name(params.near_duplicates)
    _place(manifest.places(contradicting=True), waiting, quarantine)
    _place(manifest.places(contradicting=False), waiting, raw)
    shutil.rmtree(waiting)
    contradicting = manifest.contradicting()
    rejects += conflicts(contradicting)
    rejects.sort(key=lambda reject: (reject.path, reject.reason))
    contradicting = contradicting.sort_values("file", ignore_index=True)
    return Intake(manifest, contradicting[["file", "path", "label", "group"]], rejects)


def _checked(numbered: tuple[int, Found], waiting: Path, params: DataParams, exclusion: Exclusion) -> Checked:
    """Return the row of a file, its bytes waiting under its number, or why there is none."""
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
        met = error.met if isinstance(error, ExcludedError) else frozenset[str]()
        return Checked(Reject(item.path, one_line(str(error)), item.label), met)
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
        scores=score(decoded.image),
    )
    return Checked(row)


def _place(places: Iterable[tuple[int, str]], waiting: Path, folder: Path) -> None:
    """Move the images that wait under their numbers to their files in `folder`."""
    for number, file in places:
        place = folder / file
        place.parent.mkdir(exist_ok=True)
        (waiting / str(number)).rename(place)


def require_classes(classes: Sequence[str], source: str, rejects: Sequence[Reject]) -> None:
    """Raise DataError unless there are images of two classes at least."""
    if not classes:
        first = f", such as '{rejects[0].path}' ({rejects[0].reason})" if rejects else ""
        raise DataError(
            f"no image of data.source = '{source}' is accepted; {len(rejects)} are left out{first}",
            "images in one folder per class",
            f"see {REJECTS} for all reasons",
        )
    if len(classes) == 1:
        raise DataError(
            f"data.source = '{source}' has the single class '{classes[0]}'",
            "two classes or more, one folder each",
            "add images of another class, or name the folder above",
        )


def require_apart(source: str) -> None:
    """Raise DataError when a source on this machine lies in what is written, or the other way round."""
    path = local_path(source)
    if path is None:
        return
    place = path.resolve()
    for output in (RAW, SCRATCH):
        if output.resolve().is_relative_to(place) or place.is_relative_to(output.resolve()):
            raise DataError(
                f"data.source = '{source}' and the output {output} lie in each other",
                "a source apart from it",
                "move the images into a folder of their own",
            )


def _report(labels: Iterable[str], intake: Intake) -> None:
    """Log what came in. `labels` are those of all files found: a class may have lost every image."""
    classes = intake.manifest.labels()
    log.info("%d images of %d classes accepted", len(intake.manifest), len(classes))
    if intake.rejects:
        kinds = pd.Series([reject.reason.split(":")[0] for reject in intake.rejects], dtype=str).value_counts()
        counted = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        log.warning("%d left out (%s); each with its reason in %s", len(intake.rejects), counted, REJECTS)
    for label in sorted(set(labels).difference(classes)):
        log.warning("class '%s' has no image left and is no class of this comparison", label)
    largest = intake.manifest.largest_group()
    if largest > max(_LARGEST_GROUP, _LARGEST_SHARE * len(intake.manifest)):
        log.warning(
            "%d images count as copies of one another, which one side of the split gets: if they are none, "
            "lower data.near_duplicates",
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
