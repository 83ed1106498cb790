"""Stage ingest: take in the source's pictures, each once checked to its last byte.

Accepted pictures are kept as they are, under data/raw/<label>/<first 16 hex digits of the file's
SHA-256>; all that is left out stands in data/rejects.csv with its reason. Pictures under two labels go to
data/quarantine, where the audit shows them.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from stages.errors import DataError, one_line, run
from stages.files import replacing_folder, write_csv
from stages.images.decoding import SUFFIXES, Limits, UnusableError, decode, strict_pillow
from stages.images.duplicates import HASH_BITS, conflicting, conflicts, groups, perceptual_hash
from stages.images.listing import Found, Reject
from stages.images.members import Budget
from stages.images.parallel import in_order
from stages.images.quality import SCORES, score
from stages.images.sources import SCRATCH, local_path, opened
from stages.params import Section, Tuple, load

RAW = Path("data/raw")
QUARANTINE = Path("data/quarantine")
MANIFEST = Path("data/manifest.csv")
REJECTS = Path("data/rejects.csv")

# A file's or a picture's SHA-256, or as much of it as names a file in data/raw.
_DIGEST = re.compile(r"[0-9a-f]{16,64}")
# A group of copies with more than so many pictures, and this share of all, is more likely a mistake.
_LARGEST_GROUP, _LARGEST_SHARE = 10, 0.1

log = logging.getLogger(__name__)


class DataParams(Section):
    """Section `data`: where the pictures are, and what is too small or too large."""

    source: str = Field(min_length=1)
    exclude: Tuple[Annotated[str, Field(min_length=1)]]
    near_duplicates: int | None = Field(ge=0, le=HASH_BITS // 4)
    min_pixels: int = Field(ge=1, le=4096)
    max_megapixels: float = Field(gt=0, le=1000, allow_inf_nan=False)
    max_megabytes: float = Field(gt=0, le=10_000, allow_inf_nan=False)
    max_unpacked_gigabytes: float = Field(gt=0, le=100_000, allow_inf_nan=False)
    checksum: str | None

    @field_validator("max_megapixels")
    @classmethod
    def _room_for_the_smallest(cls, value: float, info: ValidationInfo) -> float:
        smallest = info.data.get("min_pixels", 0) ** 2 / 1e6
        if value < smallest:
            raise ValueError(f"at least {smallest:g}, a square of min_pixels")
        return value

    @field_validator("checksum")
    @classmethod
    def _of_a_known_kind(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}|md5:[0-9a-fA-F]{32}", value):
            raise ValueError("null, sha256: and 64 hexadecimal digits, or md5: and 32")
        return value

    def budget(self) -> Budget:
        """Return what may be taken from an archive or an address."""
        return Budget(self.max_megabytes * 1e6, self.max_unpacked_gigabytes * 1e9)

    def limits(self) -> Limits:
        """Return the limits that a picture's header is held against."""
        return Limits(self.min_pixels, self.max_megapixels * 1e6)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A picture that can be used: a row of the manifest before it has a file, a group and scores."""

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
    scores: tuple[float, ...]


# Text is kept as Arrow has it, in a fraction of the memory of Python's strings, so many rows packed at a time.
_ARROW: Final = "string[pyarrow]"
_TEXT = [field.name for field in fields(Accepted) if field.type is str]
_CHUNK = 1024


@dataclass(frozen=True)
class Intake:
    """What came in: the manifest, the pictures under two labels, and the reasons of all that was left out."""

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    rejects: list[Reject]


class Exclusion:
    """What the user leaves out, by path or by digest, and which of these entries was never met."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = set(entries)
        self._prefixes = tuple(entry.lower() for entry in self._entries if _DIGEST.fullmatch(entry.lower()))
        self.unmet = set(self._entries)

    def check(self, *names: str) -> None:
        """Raise UnusableError when one of a picture's `names`, paths or digests, is left out."""
        for name in names:
            met = {entry for entry in self._entries if entry == name or self._begins(name, entry.lower())}
            if met:
                self.unmet -= met
                raise UnusableError(f"excluded: data.exclude names '{min(met)}'")

    def _begins(self, name: str, entry: str) -> bool:
        return entry in self._prefixes and name.startswith(entry)


def ingest(
    found: Sequence[Found],
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
    check = partial(_checked, found=found, waiting=waiting, params=params, exclusion=exclusion)
    with strict_pillow():
        table, rejects = _table(in_order(check, range(len(found)), "ingest", workers))
    for entry in sorted(exclusion.unmet):
        log.warning("data.exclude: no picture has the path or the digest '%s'", entry)
    # In place and one step after the other: each copy of a long table costs as much as all of it.
    table.insert(list(table).index("phash") + 1, "group", groups(table, params.near_duplicates))
    double = conflicting(table)
    contradicting, table = table[double], table[~double]
    contradicting.insert(0, "file", _numbered(contradicting, contradicting["sha256"].str[:16]))
    table.insert(0, "file", _numbered(table, table["label"] + "/" + table["sha256"].str[:16]))
    _place(contradicting, waiting, quarantine)
    _place(table, waiting, raw)
    shutil.rmtree(waiting)
    rejects = sorted([*left_out, *rejects, *conflicts(contradicting)], key=lambda reject: (reject.path, reject.reason))
    table = table.sort_values("file", ignore_index=True)
    contradicting = contradicting.sort_values("file", ignore_index=True)
    return Intake(table, contradicting[["file", "path", "label", "group"]], rejects)


def _checked(
    number: int, found: Sequence[Found], waiting: Path, params: DataParams, exclusion: Exclusion
) -> Accepted | Reject:
    """Return the row of the file with this `number`, its bytes waiting under it, or why there is none."""
    item = found[number]
    try:
        exclusion.check(item.path)
        data = _read(item.location, params)
        sha256 = hashlib.sha256(data).hexdigest()
        picture = decode(data, params.limits())
        pixels_sha256 = picture.digest()
        exclusion.check(sha256, pixels_sha256)
    except UnusableError as error:
        return Reject(item.path, one_line(str(error)), item.label)
    (waiting / str(number)).write_bytes(data)
    return Accepted(
        path=item.path,
        label=item.label,
        sha256=sha256,
        pixels_sha256=pixels_sha256,
        width=picture.image.width,
        height=picture.image.height,
        format=picture.format,
        mode=picture.mode,
        bytes=len(data),
        source_split=item.split,
        source_group=item.group,
        phash=perceptual_hash(picture.image),
        scores=score(picture.image),
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


def _table(results: Iterable[Accepted | Reject]) -> tuple[pd.DataFrame, list[Reject]]:
    """Return the accepted rows, by the number of the file among all that were found, and the rejects."""
    chunks: list[pd.DataFrame] = []
    rows: dict[int, Accepted] = {}
    rejects: list[Reject] = []
    for number, result in enumerate(results):
        if isinstance(result, Reject):
            rejects.append(result)
        else:
            rows[number] = result
        if len(rows) == _CHUNK:
            chunks.append(_packed(rows))
            rows = {}
    return pd.concat([*chunks, _packed(rows)]), rejects


def _packed(rows: dict[int, Accepted]) -> pd.DataFrame:
    columns = {field.name: [getattr(row, field.name) for row in rows.values()] for field in fields(Accepted)}
    scores = np.array(columns.pop("scores"), dtype=float).reshape(-1, len(SCORES))
    table = pd.DataFrame(columns, index=pd.Index(list(rows), dtype=np.int64)).astype(dict.fromkeys(_TEXT, _ARROW))
    return table.assign(**dict(zip(SCORES, scores.T, strict=True)))


def _numbered(table: pd.DataFrame, stem: "pd.Series[str]") -> "pd.Series[str]":
    """Name each picture by its `stem`; copies of one file get -2, -3 in the order of their paths."""
    suffix = "." + table["format"].map(SUFFIXES).astype(_ARROW)
    number = table.groupby([stem, suffix]).cumcount() + 1
    copy = ("-" + number.astype(_ARROW)).where(number > 1, "")
    return stem + copy + suffix


def _place(table: pd.DataFrame, waiting: Path, folder: Path) -> None:
    for inside in sorted({str(Path(file).parent) for file in table["file"]}):
        (folder / inside).mkdir(exist_ok=True)
    for number, file in table["file"].items():
        (waiting / str(number)).rename(folder / file)


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
                "move the pictures into a folder of their own",
            )


def _report(labels: Iterable[str], intake: Intake) -> None:
    """Log what came in. `labels` are those of all files found: a class may have lost every picture."""
    classes = set(intake.manifest["label"])
    log.info("%d pictures of %d classes accepted", len(intake.manifest), len(classes))
    if intake.rejects:
        kinds = pd.Series([reject.reason.split(":")[0] for reject in intake.rejects], dtype=str).value_counts()
        counted = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        log.warning("%d left out (%s); each with its reason in %s", len(intake.rejects), counted, REJECTS)
    for label in sorted(set(labels) - classes):
        log.warning("class '%s' has no picture left and is no class of this comparison", label)
    largest = int(intake.manifest["group"].value_counts().max())
    if largest > max(_LARGEST_GROUP, _LARGEST_SHARE * len(intake.manifest)):
        log.warning(
            "%d pictures count as copies of one another, which one side of the split gets: if they are none, "
            "lower data.near_duplicates",
            largest,
        )


def main() -> None:
    """Read the source, write data/raw, data/quarantine and their lists."""
    params = load(DataParams, "data")
    require_apart(params.source)
    with (
        opened(params.source, params.checksum, params.budget()) as (found, left_out),
        replacing_folder(RAW) as raw,
        replacing_folder(QUARANTINE) as quarantine,
    ):
        intake = ingest(found, left_out, params, (raw, quarantine))
        rejects = pd.DataFrame([asdict(reject) for reject in intake.rejects], columns=["path", "label", "reason"])
        write_csv(REJECTS, rejects)
        require_classes(intake.manifest, params.source, intake.rejects)
        write_csv(quarantine / "index.csv", intake.quarantine)
        write_csv(MANIFEST, intake.manifest)
    _report((item.label for item in found), intake)


if __name__ == "__main__":
    run(main)
