"""Stage ingest: take in the source's pictures, each once checked to its last byte.

Accepted pictures are kept as they are, under data/raw/<label>/<first 16 hex digits of the file's
SHA-256>; all that is left out stands in data/rejects.csv with its reason.
"""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from stages.errors import DataError, one_line, run
from stages.files import replacing_folder, write_csv, write_json
from stages.images.decoding import SUFFIXES, Limits, UnusableError, decode, strict_pillow
from stages.images.duplicates import duplicates, with_groups, without_conflicts
from stages.images.parallel import in_order
from stages.images.sources import Found, Reject, read_source
from stages.params import Section, load

RAW = Path("data/raw")
MANIFEST = Path("data/manifest.csv")
REJECTS = Path("data/rejects.csv")
AUDIT = Path("data/audit.json")

log = logging.getLogger(__name__)


class DataParams(Section):
    """Section `data`: where the pictures are, and which are too small or too large."""

    source: str = Field(min_length=1)
    min_pixels: int = Field(ge=1, le=4096)
    max_megapixels: float = Field(gt=0, le=1000, allow_inf_nan=False)
    max_megabytes: float = Field(gt=0, le=10_000, allow_inf_nan=False)

    @field_validator("max_megapixels")
    @classmethod
    def _room_for_the_smallest(cls, value: float, info: ValidationInfo) -> float:
        smallest = info.data.get("min_pixels", 0) ** 2 / 1e6
        if value < smallest:
            raise ValueError(f"at least {smallest:g}, a square of min_pixels")
        return value

    def limits(self) -> Limits:
        """Return the limits that a picture's header is held against."""
        return Limits(self.min_pixels, self.max_megapixels * 1e6)


@dataclass(frozen=True)
class Accepted:
    """A picture that can be used: a row of the manifest before it has a file and a group."""

    path: str
    label: str
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    format: str
    mode: str
    bytes: int


@dataclass(frozen=True)
class Intake:
    """What came in: the manifest, and what was left out."""

    manifest: pd.DataFrame
    rejects: list[Reject]


def ingest(
    found: Sequence[Found], left_out: Sequence[Reject], params: DataParams, folder: Path, workers: int | None = None
) -> Intake:
    """Check every file found, put the accepted ones into `folder`, and return the manifest and the rejects.

    The bytes that were checked wait under `folder` until all names are known: a file that changes
    meanwhile cannot slip in, and nothing is read twice.
    """
    waiting = folder / ".waiting"
    waiting.mkdir()
    jobs = [(item, waiting / str(number)) for number, item in enumerate(found)]
    with strict_pillow():
        results = list(in_order(partial(_checked, params=params), jobs, "ingest", workers))
    table, conflicts = without_conflicts(with_groups(_table(results)))
    named = _with_files(table)
    _place(named, waiting, folder)
    broken = [result for result in results if isinstance(result, Reject)]
    rejects = sorted([*left_out, *broken, *conflicts], key=lambda reject: (reject.path, reject.reason))
    return Intake(named.sort_values("file", ignore_index=True), rejects)


def _checked(job: tuple[Found, Path], params: DataParams) -> Accepted | Reject:
    """Return the row of one file, its bytes written to the place given, or why there is none."""
    found, place = job
    try:
        data = _read(found.location, params)
        picture = decode(data, params.limits())
    except UnusableError as error:
        return Reject(found.path, one_line(str(error)))
    place.write_bytes(data)
    return Accepted(
        path=found.path,
        label=found.label,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels_sha256=picture.digest(),
        width=picture.image.width,
        height=picture.image.height,
        format=picture.format,
        mode=picture.mode,
        bytes=len(data),
    )


def _read(location: Path, params: DataParams) -> bytes:
    try:
        size = location.stat().st_size
        if size > params.max_megabytes * 1e6:
            raise UnusableError(f"too large: {size / 1e6:.1f} MB, at most {params.max_megabytes:g}")
        data = location.read_bytes()
    except OSError as error:
        raise UnusableError(f"unreadable: {error.strerror}") from error
    if not data:
        raise UnusableError("empty file: no bytes")
    return data


def _table(results: Sequence[Accepted | Reject]) -> pd.DataFrame:
    """Return the accepted rows; the index is the number of the file among all that were found."""
    rows = {number: asdict(result) for number, result in enumerate(results) if isinstance(result, Accepted)}
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=[field.name for field in fields(Accepted)])


def _with_files(table: pd.DataFrame) -> pd.DataFrame:
    """Name each picture by its content; copies of one file in one class get -2, -3 in the order of their paths."""
    stem = table["label"] + "/" + table["sha256"].str[:16]
    suffix = "." + table["format"].map(SUFFIXES)
    number = (stem + suffix).groupby(stem + suffix).cumcount() + 1
    copy = ("-" + number.astype(str)).where(number > 1, "")
    named = table.copy()
    named.insert(0, "file", stem + copy + suffix)
    return named


def _place(table: pd.DataFrame, waiting: Path, folder: Path) -> None:
    for label in table["label"].unique():
        (folder / label).mkdir()
    for number, file in table["file"].items():
        (waiting / str(number)).rename(folder / file)
    shutil.rmtree(waiting)


def audit(labels: Sequence[str], intake: Intake) -> dict[str, Any]:
    """Return the counts. `labels` are those of all files found: a class that lost every picture shows as 0."""
    manifest = intake.manifest
    counts = manifest["label"].value_counts()
    reasons = pd.Series([reject.reason.split(":")[0] for reject in intake.rejects], dtype=str).value_counts()
    return {
        "accepted": len(manifest),
        "rejected": len(intake.rejects),
        "classes": int(manifest["label"].nunique()),
        "pictures": {label: counts.get(label, 0) for label in sorted(set(labels))},
        "reasons": reasons.to_dict(),
        "copies": duplicates(manifest),
    }


def require_classes(manifest: pd.DataFrame, source: str, rejects: Sequence[Reject]) -> None:
    """Raise DataError unless there are pictures of two classes at least."""
    classes = sorted(manifest["label"].unique())
    if not classes:
        first = f", such as '{rejects[0].path}' ({rejects[0].reason})" if rejects else ""
        raise DataError(
            f"no picture of data.source = '{source}' is accepted; {len(rejects)} are left out{first}",
            "pictures in one folder per class",
            f"see {REJECTS} for all reasons",
        )
    if len(classes) == 1:
        raise DataError(
            f"data.source = '{source}' has the single class '{classes[0]}'",
            "two classes or more, one folder each",
            "add pictures of another class, or name the folder above",
        )


def require_apart(source: str) -> None:
    """Raise DataError when source and output lie in each other: output would become input."""
    place, raw = Path(source).resolve(), RAW.resolve()
    if raw.is_relative_to(place) or place.is_relative_to(raw):
        raise DataError(
            f"data.source = '{source}' and the output {RAW} lie in each other",
            "a source apart from it",
            "move the pictures into a folder of their own",
        )


def _report(counts: dict[str, Any]) -> None:
    log.info("%d pictures of %d classes accepted", counts["accepted"], counts["classes"])
    if counts["rejected"]:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in counts["reasons"].items())
        log.warning("%d left out (%s); each with its reason in %s", counts["rejected"], reasons, REJECTS)
    for label in [label for label, count in counts["pictures"].items() if not count]:
        log.warning("class '%s' has no picture left and is no class of this comparison", label)


def main() -> None:
    """Read the source, write data/raw and its lists."""
    params = load(DataParams, "data")
    found, left_out = read_source(params.source)
    require_apart(params.source)
    with replacing_folder(RAW) as folder:
        intake = ingest(found, left_out, params, folder)
        rejects = pd.DataFrame([asdict(reject) for reject in intake.rejects], columns=["path", "reason"])
        write_csv(REJECTS, rejects)
        require_classes(intake.manifest, params.source, intake.rejects)
        write_csv(MANIFEST, intake.manifest)
        counts = audit([item.label for item in found], intake)
        write_json(AUDIT, counts)
    _report(counts)


if __name__ == "__main__":
    run(main)
