"""The assignment of images to training, validation and test, and to folds; copies stay together.

An image's split depends on its own content: a hash of seed and pixels, taken as a number from 0 to 1, below `test`
means test, below `test` + `validation` validation. So new images leave the assignment of all others unchanged, and the
fractions are met on average, not exactly. Images that must stay together have the number of one of them, which is
chosen by another hash: the size of a group has no influence on its split. A copy that comes in later may be chosen, and
may then move its group, but no others.

A class with few groups is the exception: where chance leaves one of its splits empty, that split takes one group of
another, so small classes have somewhat more validation and test images than the fractions say. A new image of the class
may send that group back or take its place. At the fractions 0.25 for test and 0.2 for validation this happens with 22,
9, 3 and 0.4 % of the new images of a class with 5, 8, 12 and 20 groups; with 10, 4, 1 and 0.1 % the group leaves test.
A group may hold images of several classes, as of a person: if possible it moves only where none of them needs it.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.dataset.prepared import DROPPED, SPLITS
from stages.core.errors import DataError
from stages.core.files import to_bytes_array
from stages.core.settings.split import SplitParams

# From the split that must stay clean most of all to the one where a removed image costs least.
STRICTEST = ("test", "validation", "train")


def compact(chunks: Iterable[pd.DataFrame], number: int) -> pd.DataFrame:
    """Return the data that determines the split, some 40 bytes per image, from the `chunks` of the manifest.

    Columns: label, a category; group, the rank of its name among all groups; place, the hash as a number from 0 to 1
    for the seed `number`; rank, by which one image of a group is chosen, from 0 to 1; side, the position in
    `STRICTEST` of the source's own split, NaN without one. Rows count from 0.
    """
    ranks = {side: rank for rank, side in enumerate(STRICTEST)}
    codes: dict[str, int] = {}
    labels, places, order, sides = array("i"), array("d"), array("d"), array("d")
    groups = []
    for chunk in chunks:
        labels.extend(codes.setdefault(label, len(codes)) for label in chunk["label"])
        # Images that the source groups share a place, by the group's name; others have their own, by their pixels.
        keys = chunk["pixels_sha256"].where(chunk["source_group"] == "", chunk["source_group"])
        places.extend(_hashed(f"{number} {key}") for key in keys)
        order.extend(map(_hashed, keys))
        sides.extend(ranks.get(side, np.nan) for side in chunk["source_split"])
        groups.append(to_bytes_array(chunk["group"]))
    names = np.concatenate(groups)
    del groups
    return pd.DataFrame(
        {
            "label": pd.Categorical.from_codes(labels, pd.Index(list(codes))).reorder_categories(sorted(codes)),
            "group": _ranks(names),
            "place": np.asarray(places),
            "rank": np.asarray(order),
            "side": np.asarray(sides),
        }
    )


def _hashed(text: str) -> float:
    """Return a number from 0 to 1, uniformly distributed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _ranks(names: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Return the rank of each of `names` among the distinct ones, with less memory than `numpy.unique`."""
    order = np.argsort(names)
    ordered = names[order]
    ranks = np.zeros(len(names), dtype=np.int64)
    ranks[order[1:]] = np.cumsum(ordered[1:] != ordered[:-1])
    return ranks


def split(table: pd.DataFrame, params: SplitParams, number: int) -> pd.DataFrame:
    """Return split and fold of each image of the compact `table`, for the seed `number`.

    Every split has at least one group of each class. `split` is "dropped" for images that `on_leak: drop` leaves out;
    `fold` is -1 without folds. Raises DataError for a class with too few distinct images or
    without a group for each split, and for an unusable split of the source.
    """
    given = _given(table, params)
    drop = params.use_folders and params.on_leak == "drop"
    kept = ~outside(table) if drop else np.ones(len(table), dtype=bool)
    splits = _assign(table, kept, given, params)
    split = pd.Series(splits[table["group"]]).where(kept, DROPPED)
    _require_every_split(table, split, use_folders=params.use_folders)
    return pd.DataFrame({"split": split, "fold": _folds(table, kept, params.folds, number)})


def _smallest(values: "pd.Series[float]", groups: "pd.Series[int]") -> NDArray[np.float64]:
    """Return the smallest of the `values` in each group; infinity if all are NaN."""
    least = np.full(groups.max() + 1, np.inf)
    np.fmin.at(least, groups, values)
    return least


def straddling(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows belong to a group that the source's own split separates."""
    side, group = table["side"], table["group"]
    return np.asarray(_smallest(side, group) < -_smallest(-side, group))[group]


def outside(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows belong to such a group and are not in its strictest split."""
    strictest = _smallest(table["side"], table["group"])[table["group"]]
    return np.asarray(straddling(table) & (table["side"] != strictest))


def strictest(table: pd.DataFrame) -> NDArray[np.object_]:
    """Return the strictest split of the source for each group; an empty string without one."""
    ranks = np.fmin(_smallest(table["side"], table["group"]), len(STRICTEST))
    return np.array([*STRICTEST, ""], dtype=object)[ranks.astype(np.int64)]


def _given(table: pd.DataFrame, params: SplitParams) -> NDArray[np.object_]:
    """Return the source's split of each group, leaks resolved; an empty string without one."""
    if not params.use_folders:
        return np.full(table["group"].max() + 1, "", dtype=object)
    if table["side"].isna().all():
        raise DataError(
            "split.use_folders = true, but the source has no split",
            "folders train, validation and test, or a table with a column split",
            "set split.use_folders to false",
        )
    return strictest(table)


def _assign(
    table: pd.DataFrame, kept: NDArray[np.bool_], given: NDArray[np.object_], params: SplitParams
) -> NDArray[np.object_]:
    """Return the split of each group: as given, or assigned if the source does not have that split."""
    fractions = _fractions(given, params)
    # With every split given, images without one are for training.
    assignable = (given == "") | (given == "train")
    places = _places(table, kept)
    splits = np.where(assignable, _by_place(places, fractions), given)
    rows = table.loc[kept & assignable[table["group"]], ["label", "group"]]
    return _Repair(rows, splits, places, fractions).splits()


def assigned_fractions(table: pd.DataFrame, params: SplitParams) -> dict[str, float]:
    """Return the fractions of the images that are assigned here, test and validation, for the compact `table`."""
    return _fractions(_given(table, params), params)


def _fractions(given: Iterable[str], params: SplitParams) -> dict[str, float]:
    """Return the fractions of the images without one of the `given` splits that go to test and validation."""
    present = set(given)
    fractions = {split: getattr(params, split) for split in ("test", "validation") if split not in present}
    # If the source has test images, validation images come from the rest, in the same proportion to training.
    if "validation" in fractions and "test" in present:
        fractions["validation"] /= 1 - params.test
    return fractions


def _places(table: pd.DataFrame, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the place of each group, that of its image of the lowest rank; infinity if none is `kept`.

    The smallest or largest place would assign larger groups more often to the split at that end.
    """
    chosen = table.loc[kept, ["group", "place", "rank"]].sort_values("rank").drop_duplicates("group")
    places = np.full(table["group"].max() + 1, np.inf)
    places[chosen["group"]] = chosen["place"]
    return places


def _by_place(places: NDArray[np.float64], fractions: dict[str, float]) -> NDArray[np.object_]:
    """Return the split in whose interval each of `places` lies; the `fractions` divide 0 to 1."""
    edges = np.cumsum(list(fractions.values()))
    return np.array([*fractions, "train"], dtype=object)[np.searchsorted(edges, places, side="right")]


class _Repair:
    """Gives every class a group in each split; one that chance left empty takes the group nearest to it.

    That group comes from a split where all its classes have several, and from test only if no other has. Where there is
    none, it leaves another class without a split, which is filled in turn: each group does so once at most.
    """

    def __init__(
        self, rows: pd.DataFrame, initial: NDArray[np.object_], places: NDArray[np.float64], fractions: dict[str, float]
    ) -> None:
        """Take label and group of each image in `rows`; `initial` split and place of each group."""
        self._initial, self._places, self._fractions = initial, places, fractions
        self._names = np.array([*fractions, "train"], dtype=object)
        self._codes = pd.Index(self._names).get_indexer(pd.Index(initial))
        self._taken = np.zeros(len(initial), dtype=bool)
        classes = rows["label"].cat.categories
        pairs = np.unique(rows["label"].cat.codes.to_numpy(np.int64) * len(initial) + rows["group"].to_numpy())
        labels, groups = np.divmod(pairs, len(initial))
        found = np.bincount(labels, minlength=len(classes))
        _require_enough_groups(dict(zip(classes, found, strict=True)), list(fractions))
        self._groups, self._labels = _lookup(labels, groups, len(classes)), _lookup(groups, labels, len(initial))
        self._counts = np.zeros((len(classes), len(self._names)), dtype=np.int64)
        np.add.at(self._counts, (labels, self._codes[groups]), 1)

    def splits(self) -> NDArray[np.object_]:
        """Return the split of each group; a class may still lack one."""
        changed = True
        while changed:
            changed = False
            for label, code in np.argwhere(self._counts == 0):
                changed |= not self._counts[label, code] and self._fill(label, code)
        return np.where(self._codes < 0, self._initial, self._names[self._codes])

    def _fill(self, label: int, code: int) -> bool:
        """Move a group of the class to the split that it lacks; return whether there is one to move."""
        groups = self._groups(label)
        needed = np.array([self._is_needed(group) for group in groups], dtype=bool)
        in_test = self._names[self._codes[groups]] == "test"
        distances = _distances(self._places[groups], self._names[code], self._fractions)
        order = np.lexsort((distances, in_test, needed))
        movable = groups[order][~(needed & self._taken[groups])[order]]
        if len(movable):
            self._taken[movable[0]] |= self._is_needed(movable[0])
            self._move(movable[0], code)
        return len(movable) > 0

    def _is_needed(self, group: int) -> bool:
        """Return whether one of its classes has no other group in the same split."""
        return bool((self._counts[self._labels(group), self._codes[group]] == 1).any())

    def _move(self, group: int, code: int) -> None:
        labels = self._labels(group)
        self._counts[labels, self._codes[group]] -= 1
        self._counts[labels, code] += 1
        self._codes[group] = code


def _lookup(keys: NDArray[np.int64], values: NDArray[np.int64], count: int) -> Callable[[int], NDArray[np.int64]]:
    """Return a function from each key, 0 to `count` - 1, to its `values`."""
    order = np.argsort(keys, kind="stable")
    starts, ordered = np.searchsorted(keys[order], np.arange(count + 1)), values[order]
    return lambda key: ordered[starts[key] : starts[key + 1]]


def _require_enough_groups(counts: dict[str, int], fractions: list[str]) -> None:
    for label, count in counts.items():
        if 0 < count <= len(fractions):
            raise DataError(
                f"class '{label}' has {count} distinct image{'s' if count > 1 else ''}",
                f"at least {len(fractions) + 1}, for {', '.join(['training', *fractions])}",
                "add images to the class, leave it out, or, if more of them differ, set data.near_duplicates to null",
            )


def _distances(places: NDArray[np.float64], split: str, fractions: dict[str, float]) -> NDArray[np.float64]:
    """Return how far each of `places` lies outside the interval of `split`."""
    edges = [0, *np.cumsum(list(fractions.values())), 1]
    position = [*fractions, "train"].index(split)
    return np.asarray(np.maximum(edges[position] - places, places - edges[position + 1]))


def _require_every_split(table: pd.DataFrame, split: "pd.Series[str]", *, use_folders: bool) -> None:
    remedy = (
        "add images to the class, leave it out, or set split.use_folders to false"
        if use_folders
        else "add images of other groups to the class, or leave it out"
    )
    counts = {name: table["label"][split == name].value_counts() for name in SPLITS}
    for label in counts["train"].index.sort_values():
        for name in SPLITS:
            if not counts[name][label]:
                raise DataError(f"class '{label}' has no image for {name}", "at least one in each split", remedy)


def _folds(table: pd.DataFrame, kept: NDArray[np.bool_], count: int, number: int) -> "pd.Series[Any]":
    """Return the fold of each image, 0 to `count` - 1; -1 for images not `kept`, or without folds."""
    folds = pd.Series(-1, index=table.index, dtype=np.int8)
    if not count:
        return folds
    from sklearn.model_selection import StratifiedGroupKFold

    table = table[kept]
    for label, groups in table.groupby("label", observed=True)["group"].nunique().items():
        if groups < count:
            raise DataError(
                f"class '{label}' has {groups} distinct images for split.folds = {count}",
                "at least one in each fold",
                f"set split.folds to at most {groups}, or add images",
            )
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=number)
    for fold, (_, test) in enumerate(splitter.split(table, table["label"].cat.codes, table["group"])):
        folds[table.index[test]] = fold
    return folds
