"""Copies of one picture: which belong together, and which contradict each other."""

import pandas as pd

from stages.images.sources import Reject

# Hex digits of the pixels' SHA-256 that name a group: 128 bits.
GROUP_DIGITS = 32
# Paths that a reason names before it only counts.
_NAMED = 3


def with_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with the column `group`: equal for pictures of equal pixels."""
    return table.assign(group=table["pixels_sha256"].str[:GROUP_DIGITS])


def without_conflicts(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Reject]]:
    """Return the rows whose picture has one label only, and a reject for each of the others."""
    conflicting = table.groupby("group")["label"].transform("nunique") > 1
    rejects: list[Reject] = []
    for _, copies in table[conflicting].groupby("group"):
        for path, label in zip(copies["path"], copies["label"], strict=True):
            others = copies.loc[copies["label"] != label, "path"].tolist()
            rejects.append(Reject(path, f"two labels: the same picture as {_some(others)}"))
    return table[~conflicting], rejects


def duplicates(table: pd.DataFrame) -> dict[str, int]:
    """Return how many groups hold copies, and how many pictures they hold together."""
    sizes = table["group"].value_counts()
    copied = sizes[sizes > 1]
    return {"groups": len(copied), "pictures": int(copied.sum())}


def _some(paths: list[str]) -> str:
    named = ", ".join(f"'{path}'" for path in paths[:_NAMED])
    return f"{named} and {len(paths) - _NAMED} more" if len(paths) > _NAMED else named
