"""Stage split: divide the pictures of each class into training, validation and test, copies together.

A picture's part follows from its own content: a hash of seed and pixels, taken as a number from 0 to 1,
below `test` means test, below `test` + `validation` validation. So pictures that come in later leave all
others where they are, and the shares are met on average, not to the picture. What must stay together
goes by the smallest number in it.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from stages.errors import DataError, run
from stages.files import read_csv, write_csv
from stages.images.prepared import DROPPED, FEW, SPLITS
from stages.params import Section, load, seed

MANIFEST = Path("data/manifest.csv")
SPLIT_TABLE = Path("data/splits.csv")
LEAKS = Path("data/leaks.csv")

# From the side that must stay clean to the one that loses a picture least.
_STRICTEST = ("test", "validation", "train")

log = logging.getLogger(__name__)


class SplitParams(Section):
    """Section `split`: the shares of validation and test, the rest is for training; what the source brings; folds."""

    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    use_folders: bool
    on_leak: Literal["regroup", "drop", "stop"]
    folds: int = Field(ge=0, le=100)

    @field_validator("test")
    @classmethod
    def _room_for_training(cls, value: float, info: ValidationInfo) -> float:
        if value + info.data.get("validation", 0.0) >= 1:
            raise ValueError("validation and test below 1 together: the rest is for training")
        return value

    @field_validator("folds")
    @classmethod
    def _three_parts(cls, value: int) -> int:
        if value in {1, 2}:
            raise ValueError("0, or 3 and more: each fold has training, validation and test pictures")
        return value


def split(manifest: pd.DataFrame, params: SplitParams, number: int) -> pd.DataFrame:
    """Return file, label, group, split and fold of each picture in `manifest`, for the seed `number`.

    Every part holds at least one group of each class. `split` is "dropped" for what `on_leak: drop`
    leaves out; `fold` is -1 without folds. Raises DataError for a class of too few different pictures,
    and where the split that the source brought cannot be used.
    """
    table = manifest.sort_values("file", ignore_index=True)
    given = _given(table, params)
    parts = _draw(table[given != DROPPED], given, params, number)
    split = given.mask(given != DROPPED, table["group"].map(parts))
    dealt = table[["file", "label", "group"]].assign(split=split)
    _require_every_part(dealt)
    return dealt.assign(fold=_folds(dealt, params.folds, number))


def leaks(manifest: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return the pictures of groups that lie on two sides of the split that the source brought along.

    Columns file, path, source_split, group and action: what became of the picture.
    """
    table = manifest.sort_values("file", ignore_index=True)
    table = table[_straddling(table)]
    if not params.use_folders:
        return table[_LEAK_COLUMNS].assign(action="split anew")
    strictest = _strictest(table)
    moved = "dropped" if params.on_leak == "drop" else "moved to " + strictest
    return table[_LEAK_COLUMNS].assign(action=np.where(table["source_split"] == strictest, "kept", moved))


_LEAK_COLUMNS = ["file", "path", "source_split", "group"]


def _straddling(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows belong to a group on two sides of the source's own split."""
    sides = table["source_split"].where(table["source_split"] != "")
    return sides.groupby(table["group"]).transform("nunique") > 1


def _strictest(table: pd.DataFrame) -> "pd.Series[str]":
    """Return for each row the strictest side on which the source has its group; nothing where it has none."""
    rank = table["source_split"].map({side: rank for rank, side in enumerate(_STRICTEST)})
    return rank.groupby(table["group"]).transform("min").map(dict(enumerate(_STRICTEST))).fillna("")


def _given(table: pd.DataFrame, params: SplitParams) -> "pd.Series[str]":
    """Return the part that the source gives each picture, leaks mended; nothing where it gives none."""
    if not params.use_folders:
        return pd.Series("", index=table.index)
    if not (table["source_split"] != "").any():
        raise DataError(
            "split.use_folders = true, and the source brings no split",
            "folders train, validation and test, or a table with a column split",
            "set split.use_folders to false",
        )
    leaking, strictest = _straddling(table), _strictest(table)
    if params.on_leak == "stop" and leaking.any():
        raise DataError(
            f"{leaking.sum()} pictures with copies across the source's split, such as {_example(table[leaking])}",
            "no copies across it",
            "remove them, or set split.on_leak to regroup or drop",
        )
    outside = leaking & (table["source_split"] != strictest)
    return strictest.mask(outside, DROPPED) if params.on_leak == "drop" else strictest


def _example(leaking: pd.DataFrame) -> str:
    first = leaking[leaking["group"] == leaking["group"].iloc[0]].drop_duplicates("source_split")
    return " and ".join(f"'{path}'" for path in first["path"].iloc[:2])


def _draw(table: pd.DataFrame, given: "pd.Series[str]", params: SplitParams, number: int) -> dict[str, str]:
    """Return the part of each group: as given, and drawn for the parts that the source does not have."""
    sides = given[table.index].groupby(table["group"]).first()
    present = set(sides) - {""}
    shares = {part: getattr(params, part) for part in ("test", "validation") if part not in present}
    # Where the source has test pictures, validation is drawn from what is left, in the same proportion to training.
    if "validation" in shares and "test" in present:
        shares["validation"] /= 1 - params.test
    fixed = {str(group): side for group, side in sides.items() if side and side != "train"}
    # With every part given, pictures of which the source says nothing are for training.
    drawn = table[~table["group"].isin(fixed)]
    places = _places(drawn, number)
    parts = {group: _part(place, shares) for group, place in places.items()}
    for label, groups in drawn.groupby("label")["group"]:
        parts |= _repaired(str(label), sorted(set(groups), key=places.__getitem__), parts, shares)
    return fixed | parts


def _places(table: pd.DataFrame, number: int) -> dict[str, float]:
    """Return each group's place between 0 and 1: the smallest of those of what stands in it.

    What the source puts together has one place, by its name; other pictures have theirs by their pixels.
    The smallest, so that a copy that comes in later moves nothing out of test.
    """
    keys = table["pixels_sha256"].where(table["source_group"] == "", table["source_group"])
    places = keys.map(lambda key: _place(key, number)).groupby(table["group"]).min()
    return {str(group): float(place) for group, place in places.items()}


def _place(key: str, number: int) -> float:
    digest = hashlib.sha256(f"{number} {key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _part(place: float, shares: dict[str, float]) -> str:
    """Return the part in whose share `place` lies; the shares follow one another from 0 on."""
    for part, share in shares.items():
        if place < share:
            return part
        place -= share
    return "train"


def _repaired(label: str, order: list[str], parts: dict[str, str], shares: dict[str, float]) -> dict[str, str]:
    """Return other parts for the groups of a class, in the `order` of their places, where chance left a part empty."""
    if {parts[group] for group in order} == {*shares, "train"}:
        return {}
    if len(order) <= len(shares):
        raise DataError(
            f"class '{label}' has {len(order)} different picture{'s' if len(order) > 1 else ''}",
            f"at least {len(shares) + 1}, for {', '.join(['training', *shares])}",
            "add pictures to the class, or leave it out",
        )
    repaired = dict.fromkeys(order, "train")
    position = 0
    for left, (part, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
        count = min(max(1, round(share * len(order))), len(order) - position - left)
        repaired |= dict.fromkeys(order[position : position + count], part)
        position += count
    return repaired


def _require_every_part(table: pd.DataFrame) -> None:
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=SPLITS, fill_value=0)
    for label, row in counts.iterrows():
        for part, count in row.items():
            if not count:
                raise DataError(
                    f"class '{label}' has no picture for {part}",
                    "one at least in each part",
                    "add pictures to the class, leave it out, or set split.use_folders to false",
                )


def _folds(table: pd.DataFrame, count: int, number: int) -> "pd.Series[Any]":
    """Return the fold of each picture, 0 to `count` - 1; -1 for dropped ones and without folds."""
    folds = pd.Series(-1, index=table.index)
    if not count:
        return folds
    from sklearn.model_selection import StratifiedGroupKFold

    kept = table[table["split"] != DROPPED]
    for label, groups in kept.groupby("label")["group"].nunique().items():
        if groups < count:
            raise DataError(
                f"class '{label}' has {groups} different pictures for split.folds = {count}",
                "at least one in each fold",
                f"set split.folds to at most {groups}, or add pictures",
            )
    dealer = StratifiedGroupKFold(count, shuffle=True, random_state=number)
    for fold, (_, test) in enumerate(dealer.split(kept, kept["label"], kept["group"])):
        folds[kept.index[test]] = fold
    return folds


def _report(table: pd.DataFrame, leaking: pd.DataFrame) -> None:
    counts = table["split"].value_counts()
    log.info("%s", ", ".join(f"{count} {part}" for part, count in _in_order(counts)))
    if len(leaking):
        groups = leaking["group"].nunique()
        log.warning(
            "%d pictures, copies of one another in %d groups, lie on two sides of the source's own split: see %s",
            len(leaking), groups, LEAKS,
        )  # fmt: skip
    for label, count in table.loc[table["split"] == "train", "label"].value_counts().sort_index().items():
        if count < FEW:
            log.warning("class '%s' has %d training pictures, fewer than %d: it is hardly learnt", label, count, FEW)


def _in_order(counts: "pd.Series[int]") -> Iterable[tuple[str, int]]:
    return [(part, int(counts[part])) for part in (*SPLITS, DROPPED) if part in counts]


def main() -> None:
    """Read the manifest, write data/splits.csv and data/leaks.csv."""
    params = load(SplitParams, "split")
    text = ("file", "path", "label", "group", "pixels_sha256", "source_split", "source_group")
    manifest = read_csv(MANIFEST, text=text, only=True)
    leaking = leaks(manifest, params)
    table = split(manifest, params, seed())
    write_csv(SPLIT_TABLE, table)
    write_csv(LEAKS, leaking)
    _report(table, leaking)


if __name__ == "__main__":
    run(main)
