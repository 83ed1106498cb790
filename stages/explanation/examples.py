"""The test images shown with heatmaps: the most confident predictions, right and wrong."""

import pandas as pd


def choose(test: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `count` rows each of the right and the wrong predictions of `test`, the most confident first.

    `test` has columns file, label, predicted, confidence; `right` is added, and the index kept. For variety the most
    confident of each pair of label and prediction come first, then the second of each pair, and so on.
    """
    table = test.assign(right=test["label"] == test["predicted"])
    table = table.sort_values(["confidence", "file"], ascending=[False, True])
    turn = table.groupby(["label", "predicted"]).cumcount()
    table = table.assign(turn=turn).sort_values(["right", "turn"], ascending=[False, True], kind="stable")
    return table.groupby("right", sort=False).head(count).drop(columns="turn")
