"""All backbones against each other, on the same test images: who is better, by how much, and how sure that is."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.intervals import Interval, never_seen
from stages.statistics.bootstrap import percentile, resamples
from stages.statistics.paired import Pairs, fewest, mcnemar

# Columns of the table of all pairs.
COLUMNS = ("first", "second", "difference", "low", "high", "p", "p_holm")


def all_pairs(tables: Mapping[str, pd.DataFrame], confidence: float, count: int, seed: int) -> pd.DataFrame:
    """Return a row for each pair of backbones, in the order of `tables`, their predictions; none for a single one.

    Columns: first, second; difference, the accuracy of the first minus that of the second on the test images,
    with the ends low and high of its interval (`differences`, from so many resamples as `count` says); p of
    McNemar's exact test, two-sided; p_holm, the same corrected for the number of pairs. Raises DataError where the
    backbones were tested on different images.
    """
    right = correct(tables)
    names = list(combinations(tables, 2))
    pairs = [Pairs(right[first].to_numpy(), right[second].to_numpy()) for first, second in names]
    p = [mcnemar(pair) for pair in pairs]
    intervals = differences(right, confidence, count, seed)
    rows = [
        (*name, pair.difference, *intervals[name], value, corrected)
        for name, pair, value, corrected in zip(names, pairs, p, holm(p), strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def correct(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return whether each backbone is right about each test image: a column for each, rows by file and label.

    `tables` has the predictions, with columns split, file, label and predicted. Raises DataError unless all are
    about the same images.
    """
    columns = {}
    for name, table in tables.items():
        test = table[table["split"] == "test"].set_index(["file", "label"])
        columns[name] = test["predicted"] == test.index.get_level_values("label")
    first = next(iter(columns))
    for name, column in columns.items():
        if not column.index.sort_values().equals(columns[first].index.sort_values()):
            raise DataError(
                f"'{name}' was tested on other images than '{first}'", "the same images for all", "run 'dvc repro'"
            )
    return pd.DataFrame(columns)


def differences(right: pd.DataFrame, confidence: float, count: int, seed: int) -> dict[tuple[str, str], Interval]:
    """Return for each pair of columns of `correct` the interval of the difference of their accuracies.

    By the paired bootstrap: a resample holds the same images for both, so that what makes an image hard for
    either cancels out. Percentiles of stratified resamples, see `bootstrap`. Where all resamples agree, as for two
    that are right about the same images, that does not say that no other image tells them apart: then the
    interval reaches `never_seen` to either side.
    """
    images = len(right)
    strata = right.index.get_level_values("label").factorize()[0].astype(np.int64)
    # Counted, and only then divided: equal differences are equal to the last bit.
    parts = [[right[name].to_numpy()[drawn].sum(axis=1) for name in right] for drawn in resamples(strata, count, seed)]
    counts = dict(zip(map(str, right), np.concatenate(parts, axis=1), strict=True))
    return {
        (first, second): _ends((counts[first] - counts[second]) / images, never_seen(images, confidence), confidence)
        for first, second in combinations(counts, 2)
    }


def _ends(drawn: NDArray[np.float64], unseen: float, confidence: float) -> Interval:
    if drawn.min() < drawn.max():
        return percentile(drawn, confidence)
    return Interval(max(-1.0, float(drawn[0]) - unseen), min(1.0, float(drawn[0]) + unseen))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number: each, times how many are not smaller, at least the one before.

    A pair with a corrected value of at most s differs, and with probability 1 - s no pair of all is wrongly said to.
    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(p, method="holm")[1]] if p else []


def least_difference(images: int, pairs: int, significance: float) -> float:
    """Return the smallest difference of two accuracies that so many test `images` can tell from chance, 0 to 1.

    Of `pairs` that are compared one must have p ≤ significance / pairs to pass `holm`, which takes `fewest` images
    that one alone gets right. Where it is larger than 1, the test set can show nothing.
    """
    return fewest(significance / pairs) / images
