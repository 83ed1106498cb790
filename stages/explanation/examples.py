"""Which test images show best where a network looks: the surest predictions, right and wrong."""

import pandas as pd


def choose(test: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `count` rows of the right and of the wrong predictions of `test`, the surest first.

    `test` has columns file, label, predicted, confidence; `right` is added, and the index kept. For variety the
    surest of each label and prediction come first, then the second ones of each, and so on.
    """
    table = test.assign(right=test["label"] == test["predicted"])
    table = table.sort_values(["confidence", "file"], ascending=[False, True])
    turn = table.groupby(["label", "predicted"]).cumcount()
    table = table.assign(turn=turn).sort_values(["right", "turn"], ascending=[False, True], kind="stable")
    return table.groupby("right", sort=False).head(count).drop(columns="turn")
