"""Stage split: divide the images of each class into training, validation and test, copies together.

An image's part follows from its own content: a hash of seed and pixels, taken as a number from 0 to 1,
below `test` means test, below `test` + `validation` validation. So images that come in later leave all
others where they are, and the shares are met on average, not to the image. What must stay together
goes by the smallest number in it.
"""

import hashlib
import logging
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.dataset.prepared import DROPPED, FEW, SPLITS
from stages.core.errors import DataError, run
from stages.core.files import packed, read_csv_chunks, write_csv, write_csv_chunks
from stages.core.params import load, seed
from stages.core.settings.split import SplitParams

MANIFEST = Path("data/manifest.csv")
SPLIT_TABLE = Path("data/splits.csv")
LEAKS = Path("data/leaks.csv")

# From the side that must stay clean to the one that loses an image least.
_STRICTEST = ("test", "validation", "train")

log = logging.getLogger(__name__)


def compact(chunks: Iterable[pd.DataFrame], number: int) -> pd.DataFrame:
    """Return what the split goes by, some 30 bytes an image, from the `chunks` of the manifest; rows count from 0.

    Columns: label, a category; group, the rank of its name among those of all groups; place, 0 to 1, for the seed
    `number`; side, the position in `_STRICTEST` of the part that the source puts it into, NaN where it says nothing.
    """
    ranks = {side: rank for rank, side in enumerate(_STRICTEST)}
    codes: dict[str, int] = {}
    labels, places, sides = array("i"), array("d"), array("d")
    groups = []
    for chunk in chunks:
        labels.extend(codes.setdefault(label, len(codes)) for label in chunk["label"])
        # What the source puts together has one place, by its name; other images have theirs by their pixels.
        keys = chunk["pixels_sha256"].where(chunk["source_group"] == "", chunk["source_group"])
        places.extend(_place(key, number) for key in keys)
        sides.extend(ranks.get(side, np.nan) for side in chunk["source_split"])
        groups.append(packed(chunk["group"]))
    names = np.concatenate(groups)
    del groups
    return pd.DataFrame(
        {
            "label": pd.Categorical.from_codes(labels, pd.Index(list(codes))).reorder_categories(sorted(codes)),
            "group": _ranks(names),
            "place": np.asarray(places),
            "side": np.asarray(sides),
        }
    )


def _place(key: str, number: int) -> float:
    digest = hashlib.sha256(f"{number} {key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _ranks(names: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return for each of `names` how many different ones come before it, in less memory than `numpy.unique` takes."""
    order = np.argsort(names)
    ordered = names[order]
    ranks = np.zeros(len(names), dtype=np.int64)
    ranks[order[1:]] = np.cumsum(ordered[1:] != ordered[:-1])
    return ranks


def split(table: pd.DataFrame, params: SplitParams, number: int) -> pd.DataFrame:
    """Return split and fold of each image of the compact `table`, for the seed `number`.

    Every part holds at least one group of each class. `split` is "dropped" for what `on_leak: drop`
    leaves out; `fold` is -1 without folds. Raises DataError for a class of too few different images,
    and where the split that the source brought cannot be used.
    """
    given = _given(table, params)
    drop = params.use_folders and params.on_leak == "drop"
    kept = ~_outside(table) if drop else np.ones(len(table), dtype=bool)
    parts = _draw(table, kept, given, params)
    split = pd.Series(parts[table["group"]]).where(kept, DROPPED)
    _require_every_part(table, split)
    return pd.DataFrame({"split": split, "fold": _folds(table, kept, params.folds, number)})


def leaks(chunks: Iterable[pd.DataFrame], table: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return the images of groups that lie on two sides of the split that the source brought along.

    `table` is the compact form of the `chunks`. Columns file, path, source_split, group and action: what became
    of the image. Raises DataError where there are any and `on_leak` is to stop.
    """
    leaking = _straddling(table)
    found = pd.concat(chunk.loc[leaking[chunk.index], list(_LEAK_COLUMNS)] for chunk in chunks)
    if not params.use_folders:
        return found.assign(action="split anew")
    if params.on_leak == "stop" and len(found):
        raise DataError(
            f"{len(found)} images with copies across the source's split, such as {_example(found)}",
            "no copies across it",
            "remove them, or set split.on_leak to regroup or drop",
        )
    moved = "dropped" if params.on_leak == "drop" else "moved to " + _strictest(table)[table["group"][leaking]]
    return found.assign(action=np.where(_outside(table)[leaking], moved, "kept"))


_LEAK_COLUMNS = ("file", "path", "source_split", "group")


def _least(values: "pd.Series[float]", groups: "pd.Series[int]") -> NDArray[np.float64]:
    """Return the least of the `values` in each group; infinity where all are NaN."""
    least = np.full(groups.max() + 1, np.inf)
    np.fmin.at(least, groups, values)
    return least


def _straddling(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows belong to a group on two sides of the source's own split."""
    side, group = table["side"], table["group"]
    return np.asarray(_least(side, group) < -_least(-side, group))[group]


def _outside(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows belong to such a group and do not lie on its strictest side."""
    strictest = _least(table["side"], table["group"])[table["group"]]
    return np.asarray(_straddling(table) & (table["side"] != strictest))


def _strictest(table: pd.DataFrame) -> NDArray[np.object_]:
    """Return for each group the strictest side on which the source has it; nothing where it has none."""
    ranks = np.fmin(_least(table["side"], table["group"]), len(_STRICTEST))
    return np.array([*_STRICTEST, ""], dtype=object)[ranks.astype(np.int64)]


def _given(table: pd.DataFrame, params: SplitParams) -> NDArray[np.object_]:
    """Return the part that the source gives each group, leaks mended; nothing where it gives none."""
    if not params.use_folders:
        return np.full(table["group"].max() + 1, "", dtype=object)
    if table["side"].isna().all():
        raise DataError(
            "split.use_folders = true, and the source brings no split",
            "folders train, validation and test, or a table with a column split",
            "set split.use_folders to false",
        )
    return _strictest(table)


def _example(leaking: pd.DataFrame) -> str:
    first = leaking[leaking["group"] == leaking["group"].iloc[0]].drop_duplicates("source_split")
    return " and ".join(f"'{path}'" for path in first["path"].iloc[:2])


def _draw(
    table: pd.DataFrame, kept: NDArray[np.bool_], given: NDArray[np.object_], params: SplitParams
) -> NDArray[np.object_]:
    """Return the part of each group: as given, and drawn for the parts that the source does not have."""
    present = set(given) - {""}
    shares = {part: getattr(params, part) for part in ("test", "validation") if part not in present}
    # Where the source has test images, validation is drawn from what is left, in the same proportion to training.
    if "validation" in shares and "test" in present:
        shares["validation"] /= 1 - params.test
    # With every part given, images of which the source says nothing are for training.
    drawn = (given == "") | (given == "train")
    # The smallest place in a group, so that a copy that comes in later moves nothing out of test.
    places = _least(table["place"].where(kept), table["group"])
    parts = np.where(drawn, _parts(places, shares), given)
    rows = table["group"][kept & drawn[table["group"]]]
    for label, found in rows.groupby(table["label"], observed=True):
        groups = found.unique()
        groups = groups[np.argsort(places[groups])]
        parts[groups] = _repaired(str(label), parts[groups], shares)
    return parts


def _parts(places: NDArray[np.float64], shares: dict[str, float]) -> NDArray[np.object_]:
    """Return the part in whose share each of `places` lies; the shares follow one another from 0 on."""
    edges = np.cumsum(list(shares.values()))
    return np.array([*shares, "train"], dtype=object)[np.searchsorted(edges, places, side="right")]


def _repaired(label: str, parts: NDArray[np.object_], shares: dict[str, float]) -> NDArray[np.object_]:
    """Return the `parts` of the groups of a class, in the order of their places; others where chance left one empty."""
    if set(parts) == {*shares, "train"}:
        return parts
    if len(parts) <= len(shares):
        raise DataError(
            f"class '{label}' has {len(parts)} different image{'s' if len(parts) > 1 else ''}",
            f"at least {len(shares) + 1}, for {', '.join(['training', *shares])}",
            "add images to the class, or leave it out",
        )
    repaired = np.full(len(parts), "train", dtype=object)
    position = 0
    for left, (part, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
        count = min(max(1, round(share * len(parts))), len(parts) - position - left)
        repaired[position : position + count] = part
        position += count
    return repaired


def _require_every_part(table: pd.DataFrame, split: "pd.Series[str]") -> None:
    counts = {part: table["label"][split == part].value_counts() for part in SPLITS}
    for label in counts["train"].index.sort_values():
        for part in SPLITS:
            if not counts[part][label]:
                raise DataError(
                    f"class '{label}' has no image for {part}",
                    "one at least in each part",
                    "add images to the class, leave it out, or set split.use_folders to false",
                )


def _folds(table: pd.DataFrame, kept: NDArray[np.bool_], count: int, number: int) -> "pd.Series[Any]":
    """Return the fold of each image, 0 to `count` - 1; -1 for those not `kept` and without folds."""
    folds = pd.Series(-1, index=table.index, dtype=np.int8)
    if not count:
        return folds
    from sklearn.model_selection import StratifiedGroupKFold

    table = table[kept]
    for label, groups in table.groupby("label", observed=True)["group"].nunique().items():
        if groups < count:
            raise DataError(
                f"class '{label}' has {groups} different images for split.folds = {count}",
                "at least one in each fold",
                f"set split.folds to at most {groups}, or add images",
            )
    dealer = StratifiedGroupKFold(count, shuffle=True, random_state=number)
    for fold, (_, test) in enumerate(dealer.split(table, table["label"].cat.codes, table["group"])):
        folds[table.index[test]] = fold
    return folds


def _report(labels: "pd.Series[str]", split: "pd.Series[str]", leaking: pd.DataFrame) -> None:
    counts = split.value_counts()
    log.info("%s", ", ".join(f"{count} {part}" for part, count in _in_order(counts)))
    if len(leaking):
        groups = leaking["group"].nunique()
        log.warning(
            "%d images, copies of one another in %d groups, lie on two sides of the source's own split: see %s",
            len(leaking), groups, LEAKS,
        )  # fmt: skip
    for label, count in labels[split == "train"].value_counts().sort_index().items():
        if count < FEW:
            log.warning("class '%s' has %d training images, fewer than %d: it is hardly learnt", label, count, FEW)


def _in_order(counts: "pd.Series[int]") -> Iterable[tuple[str, int]]:
    return [(part, int(counts[part])) for part in (*SPLITS, DROPPED) if part in counts]


def main() -> None:
    """Read the manifest, write data/splits.csv and data/leaks.csv."""
    params = load(SplitParams, "split")
    table = compact(_manifest("label", "group", "pixels_sha256", "source_split", "source_group"), seed())
    leaking = leaks(_manifest(*_LEAK_COLUMNS), table, params)
    dealt = split(table, params, seed())
    chunks = _manifest("file", "label", "group")
    write_csv_chunks(SPLIT_TABLE, (chunk.assign(split=dealt["split"], fold=dealt["fold"]) for chunk in chunks))
    write_csv(LEAKS, leaking)
    _report(table["label"], dealt["split"], leaking)


def _manifest(*columns: str) -> Iterable[pd.DataFrame]:
    return read_csv_chunks(MANIFEST, columns)


if __name__ == "__main__":
    run(main)
