"""Stage `split`: assign each image to training, validation or test; copies stay together.

stages/core/dataset/assignment.py says how. Writes

    data/splits.csv   file, label, group, split, fold
    data/leaks.csv    images with copies elsewhere in the source's own split, and what became of them
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.dataset.assignment import STRICTEST, assigned_fractions, compact, outside, split, straddling, strictest
from stages.core.dataset.prepared import DROPPED, FEW, SPLIT_AGAIN, SPLITS
from stages.core.errors import DataError, run, some
from stages.core.files import read_csv_chunks, write_csv, write_csv_chunks
from stages.core.measure import Measure, require_classes
from stages.core.params import load, load_part, seed
from stages.core.settings.report import MeasureParams
from stages.core.settings.split import SplitParams

MANIFEST = Path("data/manifest.csv")
SPLIT_TABLE = Path("data/splits.csv")
LEAKS = Path("data/leaks.csv")

# What is warned of: fractions that chance misses by more than this part of them, and fewer groups than this.
_FAR, _FEW_GROUPS = 1 / 3, 10

# Classes that a warning names; of more it gives the number.
_NAMED = 5

log = logging.getLogger(__name__)


def leaks(chunks: Iterable[pd.DataFrame], table: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return the images of groups that the source's own split separates.

    `table` is the compact form of the `chunks`. Columns are file, path, source_split, group and action, what is done
    with the image. Raises DataError when there are any and `on_leak` is stop.
    """
    leaking = straddling(table)
    found = pd.concat(chunk.loc[leaking[chunk.index], list(_LEAK_COLUMNS)] for chunk in chunks)
    if not params.use_folders:
        return found.assign(action=SPLIT_AGAIN)
    if params.on_leak == "stop" and len(found):
        raise DataError(
            f"{len(found)} images with copies across the source's split, such as {_example(found)}",
            "no copies across it",
            "remove them, or set split.on_leak to regroup or drop",
        )
    moved = "dropped" if params.on_leak == "drop" else "moved to " + strictest(table)[table["group"][leaking]]
    return found.assign(action=np.where(outside(table)[leaking], moved, "kept"))


_LEAK_COLUMNS = ("file", "path", "source_split", "group")


def _example(leaking: pd.DataFrame) -> str:
    first = leaking[leaking["group"] == leaking["group"].iloc[0]].drop_duplicates("source_split")
    return " and ".join(f"'{path}'" for path in first["path"].iloc[:2])


def _report_source_split(sides: "pd.Series[float]", params: SplitParams) -> None:
    """Log what became of the source's own split; `sides` are positions in `STRICTEST`, NaN without one."""
    found = sides.dropna().astype(int).map(dict(enumerate(STRICTEST))).value_counts()
    if not len(found):
        return
    if not params.use_folders:
        listed = ", ".join(f"{count} {name}" for name, count in _in_order(found))
        log.warning(
            "the source's own split (%s) is not used: all images are assigned anew; "
            "set split.use_folders to true to keep it", listed,
        )  # fmt: skip
        return
    for name in ("validation", "test"):
        if name not in found:
            log.warning(
                "the source's own split has no %s images: they are drawn from the others (split.%s = %g)",
                name, name, getattr(params, name),
            )  # fmt: skip
    if unsaid := int(sides.isna().sum()):
        log.info("%d images have no split in the source: they are assigned as training images are", unsaid)


def _report_chance(groups: "pd.Series[int]", split: "pd.Series[str]", fractions: dict[str, float]) -> None:
    """Warn where chance, which assigns whole groups, missed the `fractions` or left few groups."""
    drawn = split.isin([*fractions, "train"])
    images, distinct = split[drawn].value_counts(), groups[drawn].groupby(split[drawn]).nunique()
    faults = []
    for name, asked in (fractions | {"train": 1 - sum(fractions.values())}).items():
        share, found = images[name] / drawn.sum(), distinct[name]
        if abs(share - asked) > asked * _FAR:
            faults.append(f"{name} has {100 * share:.0f} % of the images in place of {100 * asked:.0f} %")
        if name != "train" and found < _FEW_GROUPS:
            faults.append(f"{name} has only {found} {'groups of images' if found < images[name] else 'images'}")
    if faults:
        log.warning(
            "%s: each image or group is assigned by chance, a hash; another seed, chosen before results are looked at, "
            "gives another assignment", "; ".join(faults),
        )  # fmt: skip


def _report(labels: "pd.Series[str]", split: "pd.Series[str]", leaking: pd.DataFrame) -> None:
    counts = split.value_counts()
    log.info("%s", ", ".join(f"{count} {name}" for name, count in _in_order(counts)))
    if len(leaking):
        groups = leaking["group"].nunique()
        used = not (leaking["action"] == SPLIT_AGAIN).all()
        log.log(
            logging.WARNING if used else logging.INFO,
            "%d images, copies of one another in %d groups, are separated by the source's own split%s: see %s",
            len(leaking), groups, "" if used else ", which is not used", LEAKS,
        )  # fmt: skip
    training = labels[split == "train"].value_counts().sort_index().sort_values(kind="stable")
    if few := [f"'{label}' ({count})" for label, count in training.items() if count < FEW]:
        log.warning("classes of fewer than %d training images, too few to learn reliably: %s", FEW, some(few, _NAMED))


def _in_order(counts: "pd.Series[int]") -> Iterable[tuple[str, int]]:
    return [(name, int(counts[name])) for name in (*SPLITS, DROPPED) if name in counts]


def main() -> None:
    """Read the manifest, write data/splits.csv and data/leaks.csv."""
    params = load(SplitParams, "split")
    table = compact(_manifest("label", "group", "pixels_sha256", "source_split", "source_group"), seed())
    # Here, where classes are first known, and not when everything has been trained.
    require_classes(Measure.of(load_part(MeasureParams, "report")), sorted(table["label"].unique()))
    leaking = leaks(_manifest(*_LEAK_COLUMNS), table, params)
    assigned = split(table, params, seed())
    chunks = _manifest("file", "label", "group")
    write_csv_chunks(SPLIT_TABLE, (chunk.assign(split=assigned["split"], fold=assigned["fold"]) for chunk in chunks))
    write_csv(LEAKS, leaking)
    _report_source_split(table["side"], params)
    _report(table["label"], assigned["split"], leaking)
    _report_chance(table["group"], assigned["split"], assigned_fractions(table, params))


def _manifest(*columns: str) -> Iterable[pd.DataFrame]:
    return read_csv_chunks(MANIFEST, columns)


if __name__ == "__main__":
    run(main)
