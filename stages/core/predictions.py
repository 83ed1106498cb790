"""The predictions of one backbone: its table as arrays, validated before anything is scored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.files import read_csv

# Columns of predictions beside the probabilities.
COLUMNS = ("split", "file", "label", "predicted")
# A column of probabilities is named after its class, with this prefix.
PREFIX = "p:"
# A sum of probabilities computed in bfloat16 may miss 1 by this much.
_SUM_TOLERANCE = 1e-2
# Probabilities of 0 have no logarithm.
_MIN_PROBABILITY = float(np.finfo(np.float64).eps)
# A normal prior on ln T around 0: without it, a few images that are all right, or nearly, have the network claim
# certainty. With this standard deviation the prior weighs about as much as 4 images; benchmarks/certainty.py compares.
_PRIOR_SD = 0.5
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class Predictions:
    """What a backbone predicts for the images of one split or fold, row by row.

    `actual` and `predicted` are positions in `classes`; `probabilities` has a row for each image,
    a column for each class, and rows that sum to 1.
    """

    classes: tuple[str, ...]
    actual: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def read_predictions(path: Path, columns: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Return a table of predictions, of one head or of several (heads.csv); with `columns` no others than these.

    It has `COLUMNS`, or those of them that such a table has, and the probabilities p:CLASS of each image. Names stay
    text, such as that of a class "001".
    """
    return read_csv(path, text=("head", *COLUMNS), columns=columns)


def read_groups(path: Path) -> "pd.Series[str]":
    """Return the name of each file's group from data/splits.csv: images of a group are alike, or of one origin."""
    try:
        table = read_csv(path, text=("file", "group"), columns=("file", "group"))
    except FileNotFoundError as error:
        raise DataError(f"no {error.filename}", "the groups of the images", "run 'dvc repro split'") from error
    found: pd.Series[str] = table.set_index("file")["group"]
    return found


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the classes whose probabilities a table has, in their order."""
    return tuple(str(name).removeprefix(PREFIX) for name in table.columns if str(name).startswith(PREFIX))


def of_split(table: pd.DataFrame, split: str, classes: tuple[str, ...]) -> Predictions:
    """Return the rows of `split`. Raise DataError when they cannot be scored."""
    return _scorable(table, table["split"] == split, split, classes)


def unseen(table: pd.DataFrame, classes: tuple[str, ...]) -> Predictions:
    """Return all rows but those of the test split, each predicted by a fit that had not seen it.

    Raises DataError as `of_split` does.
    """
    return _scorable(table, table["split"] != "test", "validation", classes)


def tested(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return file, label, predicted and confidence of each test image; raise DataError as `of_split` does."""
    rows = table.loc[table["split"] == "test", ["file", "label", "predicted"]].reset_index(drop=True)
    return rows.assign(confidence=of_split(table, "test", classes).probabilities.max(axis=1))


def of_rows(table: pd.DataFrame, classes: tuple[str, ...], name: str) -> Predictions:
    """Return all rows, whatever their split; errors call them `name`. Raises DataError as `of_split` does."""
    return _scorable(table, pd.Series(data=True, index=table.index), name, classes)


def of_folds(table: pd.DataFrame, classes: tuple[str, ...]) -> list[Predictions]:
    """Return the rows of each fold, from 0 on, none for an empty table; raise DataError as `of_split` does."""
    count = 0 if table.empty else int(table["fold"].max()) + 1
    return [_scorable(table, table["fold"] == fold, f"fold {fold}", classes) for fold in range(count)]


def of_repeats(table: pd.DataFrame, classes: tuple[str, ...]) -> list[Predictions]:
    """Return the test images' rows of each repeat, in order; raise DataError as `of_split` does."""
    test = table["split"] == "test"
    return [
        _scorable(table, test & (table["repeat"] == repeat), f"repeat {repeat}", classes)
        for repeat in sorted(table["repeat"].unique())
    ]


def _scorable(table: pd.DataFrame, wanted: pd.Series, name: str, classes: tuple[str, ...]) -> Predictions:
    """Return the rows selected by `wanted`; errors call them `name`."""
    columns = [column for column in table.columns if column.startswith(PREFIX)]
    if columns != [PREFIX + name for name in classes]:
        raise _fault(f"probabilities for {len(columns)} classes", f"one column for each of {', '.join(classes)}")
    rows = table[wanted]
    if rows.empty:
        raise _fault(f"no {name} images", f"at least one {name} image")
    return Predictions(
        classes,
        _positions(rows["label"], classes),
        _positions(rows["predicted"], classes),
        _probabilities(rows[columns], name),
    )


def _positions(names: pd.Series, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return each name's position in `classes`."""
    positions = pd.Index(classes).get_indexer(pd.Index(names))
    if (positions < 0).any():
        unknown = names[positions < 0].iloc[0]
        raise _fault(f"{names.name} '{unknown}'", f"one of the classes {', '.join(classes)}")
    return np.asarray(positions, dtype=np.int64)


def _probabilities(columns: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return the probabilities rescaled so that each row sums to 1: the file rounds them to nine digits."""
    # A number that is not finite is written as an empty cell.
    found = columns.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    sums = found.sum(axis=1)
    if not (np.isfinite(found).all() and (found >= 0).all() and (np.abs(sums - 1) < _SUM_TOLERANCE).all()):
        raise _fault(
            f"{name} probabilities that are missing, negative or do not sum to 1",
            "probabilities",
            "training may have diverged: lower finetune.optimizer.learning_rate",
        )
    return np.asarray(found / sums[:, None])


def _fault(received: str, expected: str, remedy: str = "run finetune again") -> DataError:
    return DataError(f"predictions hold {received}", expected, remedy)


def fit_temperature(actual: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Return the most probable temperature, 0.05 to 20, with a normal prior on its logarithm; 1 if no other is better.

    One number that calibrates the confidence of a network: Guo, Pleiss, Sun and Weinberger 2017, "On calibration of
    modern neural networks", section 4.2. Above 1 the network was overconfident. Below 1 only if some prediction is
    wrong: images that are all right say nothing about how often the network errs.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(actual))

    def loss(logarithm: float) -> float:
        # scikit-learn's log loss would check the same probabilities again and again, which takes ten times as long.
        claimed = apply_temperature(probabilities, float(np.exp(logarithm)))[rows, actual]
        log_loss = -float(np.log(np.maximum(claimed, _MIN_PROBABILITY)).mean())
        return log_loss + (logarithm / _PRIOR_SD) ** 2 / 2 / len(actual)

    lowest = _MIN_TEMPERATURE if (probabilities.argmax(axis=1) != actual).any() else 1.0
    found = minimize_scalar(loss, bounds=(np.log(lowest), np.log(_MAX_TEMPERATURE)), options={"xatol": 1e-9})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def apply_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return softmax(z / T) for the logits z = ln p, rows that sum to 1; their order, so the accuracy, is kept.

    Logits differ from ln p by a constant for each image, which softmax ignores.
    """
    logits = np.log(np.maximum(probabilities, _MIN_PROBABILITY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
