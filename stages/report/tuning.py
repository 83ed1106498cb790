"""What a search for hyperparameters chose for each backbone, and what it gained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.pages.language import Language
from stages.report import measure_text
from stages.report.runs import Run

_KEYS = ("learning_rate", "optimizer", "batch_size", "units", "dropout", "l2", "label_smoothing", "views")
_CHOICES = frozenset({"optimizer", "batch_size", "units", "l2", "views"})
_NONE = "\N{EN DASH}"
# What chooses for accuracy.
_LOG_LOSS = "log_loss"
# On a logarithmic axis.
_LOGARITHMIC = "learning_rate"


@dataclass(frozen=True)
class Row:
    """One backbone: `values` is what each searched hyperparameter was and became, None where it stayed."""

    run: Run
    default_measure: float
    chosen_measure: float
    gain: Mapping[str, float] | None
    values: list[tuple[str, str | None]]


@dataclass(frozen=True)
class Tuning:
    """The searched backbones, the best first; names of the hyperparameters that were searched, and of the measure."""

    rows: list[Row]
    names: list[str]
    measure: str


def tuning(ranking: Sequence[Run], language: Language) -> Tuning | None:
    """Return what the searches found; None where there was none."""
    runs = [run for run in ranking if run.searched]
    if not runs:
        return None
    keys = hyperparameters(runs)
    return Tuning(
        [_row(run, keys, language) for run in runs],
        [display_name(key, language) for key in keys],
        measure_name(runs[0], language),
    )


def hyperparameters(runs: Sequence[Run]) -> list[str]:
    """Return the keys of the hyperparameters that were searched for any of the backbones."""
    return [key for key in _KEYS if any(key in run.search.get("default", {}) for run in runs)]


def display_name(key: str, language: Language) -> str:
    """Return the name of a hyperparameter for people."""
    names = {
        "learning_rate": language.gettext("learning rate"),
        "optimizer": language.gettext("optimiser"),
        "batch_size": language.gettext("batch size"),
        "units": language.gettext("units"),
        "dropout": language.gettext("dropout"),
        "l2": "L2",
        "label_smoothing": language.gettext("label smoothing"),
        "views": language.gettext("views"),
    }
    return names[key]


def measure_name(run: Run, language: Language) -> str:
    """Return the name of what chose among the trials: of the measure that decides, or for accuracy of log loss."""
    if run.search["measure"] == _LOG_LOSS:
        return language.gettext("log loss")
    return str(measure_text.display_name(run.measure, language))


def _lower_is_better(run: Run) -> bool:
    return bool(run.search["measure"] == _LOG_LOSS or run.measure.sign < 0)


def _row(run: Run, keys: list[str], language: Language) -> Row:
    default, chosen = run.search["default"], run.search["chosen"]
    values: list[tuple[str, str | None]] = []
    for key in keys:
        if key not in default:
            values.append((_NONE, None))
            continue
        became = None if chosen[key] == default[key] else _written(chosen[key], language)
        values.append((_written(default[key], language), became))
    measures = run.search["default_measure"], run.search["chosen_measure"]
    return Row(run, *measures, run.metrics["tuning"], values)


def _written(value: Any, language: Language) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value)) or _NONE
    return value if isinstance(value, str) else language.figures(value)


def history(run: Run) -> list[dict[str, Any]]:
    """Return the trials that were completed: trial, from 1 on, value of the measure, and the best one so far."""
    measure = run.search["measure"]
    complete = run.trials[run.trials["state"] == "complete"]
    values = pd.to_numeric(complete[measure])
    best = values.cummin() if _lower_is_better(run) else values.cummax()
    numbers = complete["trial"].astype(int) + 1
    return [
        {"trial": number, "value": value, "best": reached}
        for number, value, reached in zip(numbers.tolist(), values.tolist(), best.tolist(), strict=True)
    ]


def parallel(run: Run) -> list[dict[str, Any]]:
    """Return a row for each completed trial and hyperparameter: trial, key, at (its place, 0 to 1), value, and order.

    `order` is the trial's place by the measure, 0 for the best to 1, and the best are last. Numbers lie where they do
    in their range, choices evenly spread in their order.
    """
    measure = run.search["measure"]
    complete = run.trials[run.trials["state"] == "complete"]
    ranks = pd.to_numeric(complete[measure]).rank(method="first", ascending=_lower_is_better(run)) - 1
    order = ranks / max(1, len(ranks) - 1)
    numbers = complete["trial"].astype(int) + 1
    rows = [
        {"trial": number, "key": key, "at": at, "value": value, "order": place}
        for key in hyperparameters([run])
        for number, at, value, place in zip(
            numbers.tolist(),
            _places(complete[key], key).tolist(),
            complete[key].astype(str).tolist(),
            order.tolist(),
            strict=True,
        )
    ]
    return sorted(rows, key=lambda row: -row["order"])


def _places(column: pd.Series, key: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce")
    if key in _CHOICES:
        found = (column.astype(str) if numbers.isna().any() else numbers).rank(method="dense").to_numpy()
    else:
        found = np.log10(numbers.to_numpy()) if key == _LOGARITHMIC else numbers.to_numpy()
    low, high = float(found.min()), float(found.max())
    return np.asarray((found - low) / (high - low) if high > low else np.full(len(found), 0.5), dtype=np.float64)
