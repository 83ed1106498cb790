"""Manifests of images in groups, and the split that they get."""

from typing import Any

import pandas as pd

from stages.core.dataset.assignment import compact, split
from stages.core.params import parse
from stages.core.settings.split import SplitParams

VALUES: dict[str, Any] = {"validation": 0.2, "test": 0.25, "use_folders": False, "on_leak": "regroup", "folds": 0}


def params(**changes: Any) -> SplitParams:
    return parse(SplitParams, VALUES | changes, "split")


def manifest(sizes: dict[str, list[int]], name: str = "") -> pd.DataFrame:
    """Return a manifest whose classes have groups of these sizes."""
    rows = [
        (f"{label}/{name}{number:03}-{copy}.jpg", label, f"{label}{name}{number}", f"{label}{name}{number}-{copy}")
        for label, groups in sizes.items()
        for number, size in enumerate(groups)
        for copy in range(size)
    ]
    table = pd.DataFrame(rows, columns=["file", "label", "group", "pixels_sha256"])
    return table.assign(path="source/" + table["file"], source_split="", source_group="")


def assigned(table: pd.DataFrame, params: SplitParams, seed: int) -> pd.DataFrame:
    """Return file, label, group, split and fold of each image of a manifest."""
    rows = table[["file", "label", "group"]].reset_index(drop=True)
    return rows.join(split(compact([table], seed), params, seed))


def brought(*parts: str, copies: dict[int, int] | None = None) -> pd.DataFrame:
    """Return a manifest of two classes, each with these parts; `copies` puts an image into another one's group."""
    table = manifest({label: [1] * len(parts) for label in ("plank", "tree")})
    table["source_split"] = [*parts, *parts]
    for one, other in (copies or {}).items():
        table.loc[one, "group"] = table.loc[other, "group"]
    return table


ALL = ("train",) * 6 + ("validation",) * 3 + ("test",) * 4
