"""Pairwise comparisons of all backbones on the same test images: differences, their intervals and p-values."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.intervals import Interval, rule_of_three
from stages.statistics.bootstrap import percentile, resamples
from stages.statistics.paired import Pairs, mcnemar

# Columns of the table of all pairs.
COLUMNS = ("first", "second", "only_first", "only_second", "difference", "low", "high", "p", "p_holm")


def all_pairs(tables: Mapping[str, pd.DataFrame], confidence: float, count: int, seed: int) -> pd.DataFrame:
    """Return a row for each pair of backbones, in the order of `tables`, their predictions; none for one backbone.

    Columns: first, second; only_first and only_second, how many test images only that one gets right; difference, the
    accuracy of the first minus that of the second, with its interval low to high (`differences`, from `count`
    resamples); p of McNemar's exact test, two-sided; p_holm, the same corrected for the number of pairs. Raises
    DataError when the backbones were tested on different images.
    """
    right = correct(tables)
    names = list(combinations(tables, 2))
    pairs = [Pairs(right[first].to_numpy(), right[second].to_numpy()) for first, second in names]
    p = [mcnemar(pair) for pair in pairs]
    intervals = differences(right, confidence, count, seed)
    rows = [
        (*name, pair.only_first, pair.only_second, pair.difference, *intervals[name], value, corrected)
        for name, pair, value, corrected in zip(names, pairs, p, holm(p), strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def correct(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return whether each backbone is right on each test image: a column per backbone, rows by file and label.

    `tables` has the predictions, with columns split, file, label and predicted. Raises DataError unless all are
    for the same images.
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

    By the paired bootstrap: a resample has the same images for both, so that the difficulty of an image cancels
    out. The ends are percentiles. Where all resamples agree, as for two
    that are right on the same images, other images might still distinguish them: then the interval extends by
    `rule_of_three` to either side.
    """
    images = len(right)
    # Counted first, then divided, so that equal differences are equal to the last bit.
    parts = [[right[name].to_numpy()[rows].sum(axis=1) for name in right] for rows in resamples(images, count, seed)]
    counts = dict(zip(map(str, right), np.concatenate(parts, axis=1), strict=True))
    return {
        (first, second): _ends((counts[first] - counts[second]) / images, rule_of_three(images, confidence), confidence)
        for first, second in combinations(counts, 2)
    }


def _ends(resampled: NDArray[np.float64], margin: float, confidence: float) -> Interval:
    if resampled.min() < resampled.max():
        return percentile(resampled, confidence)
    return Interval(max(-1.0, float(resampled[0]) - margin), min(1.0, float(resampled[0]) + margin))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's step-down method: in ascending order, p times the number of those left.

    Calling pairs with a corrected value of at most s different is free of any false claim with probability 1 - s.
    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(p, method="holm")[1]] if p else []
