"""The ranking of backbones before any is trained: by linear heads, on training and validation images only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.errors import DataError
from stages.core.measure import Measure
from stages.statistics.contest import Contest, read_contest
from stages.statistics.pairwise import holm, p_value

# Columns of data/ranking.csv, and those that hold text; a measure other than the accuracy has another one, its key, in
# front of the interval, which is its own.
COLUMNS = (
    "rank", "backbone", "accuracy", "low", "high", "log_loss", "logme", "p_holm", "apart", "images", "weights"
)  # fmt: skip
TEXT = ("backbone", "apart", "weights")
# The column of the measure until it has its key as its name.
_VALUE = "value"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _score(value: float) -> str:
    return f"{value:.3f}"


# How a column is formatted for a terminal, and its title there.
_FORMS: Mapping[str, Callable[[Any], str]] = {
    "rank": _whole, "backbone": str, "accuracy": _share, "log_loss": _score, "logme": _score,
    "apart": {"true": "yes", "false": "not shown", "": "-"}.__getitem__, "images": str, "weights": str,
}  # fmt: skip
_TITLES = {"log_loss": "log loss", "logme": "LogME", "apart": "worse than the first"}


@dataclass(frozen=True)
class Probe:
    """The results of stage probe for a backbone: the numbers, and file, label and predicted of each image."""

    numbers: Mapping[str, Any]
    predictions: pd.DataFrame


def ranking(probes: Mapping[str, Probe], groups: "pd.Series[str]", measure: Measure, confidence: float) -> pd.DataFrame:
    """Return a row for each backbone, the best first: by the measure, then the lower log loss, then the name.

    Accuracy and log loss are those of out-of-fold predictions, and so is the value of another measure, which has a
    column of its own. The interval `low` to `high` is that of the measure. `groups` has the name of the
    group of each image's file. `p_holm` is of the difference from the first on the same images (`pairwise.p_value`),
    Holm-corrected for the number of backbones tested; `apart` says whether it is at most 1 - `confidence`. The test
    treats fits of different folds as independent, although they share most of their training images. A backbone without
    frozen features comes last, without a rank. Raises DataError when probes are of different images.
    """
    tables = {name: probe.predictions for name, probe in probes.items() if len(probe.predictions)}
    _require_same_images(tables)
    rows = (
        _ranked(probes, read_contest(measure, tables, groups, {}, dict.fromkeys(tables)), confidence) if tables else []
    )
    rows += [[None, *_without_features(name, probe)] for name, probe in probes.items() if name not in tables]
    place = COLUMNS.index("low")
    found = pd.DataFrame(rows, columns=[*COLUMNS[:place], _VALUE, *COLUMNS[place:]]).astype({"rank": "Int64"})
    return found.drop(columns=_VALUE) if measure.key in COLUMNS else found.rename(columns={_VALUE: measure.key})


def _ranked(probes: Mapping[str, Probe], contest: Contest, confidence: float) -> list[list[Any]]:
    """Return the rows of those that have out-of-fold predictions."""
    values = dict(zip(contest.names, contest.measured.tolist(), strict=True))
    order = sorted(values, key=lambda name: (-contest.sign * values[name], probes[name].numbers["log_loss"], name))
    corrected = holm([p_value(contest.of(order[0], name)) for name in order[1:]])
    return [
        [place, *_row(name, probes[name], contest, p, confidence)]
        for place, (name, p) in enumerate(zip(order, [None, *corrected], strict=True), start=1)
    ]


def _accuracy(probe: Probe) -> float:
    return float((probe.predictions["predicted"] == probe.predictions["label"]).mean())


def _row(name: str, probe: Probe, contest: Contest, p: float | None, confidence: float) -> list[Any]:
    position = contest.names.index(name)
    value = float(contest.measured[position])
    interval = contest.interval(position, value, confidence)
    apart = "" if p is None else "true" if p <= 1 - confidence else "false"
    scores = [probe.numbers["log_loss"], probe.numbers["logme"]]
    facts = [p, apart, len(probe.predictions), probe.numbers["weights"]]
    return [name, _accuracy(probe), value, *interval, *scores, *facts]


def _without_features(name: str, probe: Probe) -> list[Any]:
    return [name, *[None] * 7, "", 0, probe.numbers["weights"]]


def _require_same_images(tables: Mapping[str, pd.DataFrame]) -> None:
    first = next(iter(tables), "")
    for name, table in tables.items():
        if not table[["file", "label"]].equals(tables[first][["file", "label"]]):
            raise DataError(
                f"the probe of '{name}' predicts other images than that of '{first}'",
                "the same for all",
                "run 'dvc repro rank'",
            )


def best(table: pd.DataFrame, most: int) -> list[str]:
    """Return the `most` best backbones of a ranking, and those without a rank, about which nothing is known."""
    return [str(name) for name in table.loc[table["rank"].fillna(0) <= most, "backbone"]]


def contenders(table: pd.DataFrame) -> list[str]:
    """Return the backbones that are statistically tied with the first of a ranking, and those without a rank."""
    return [str(name) for name in table.loc[table["apart"] != "true", "backbone"]]


def lines(table: pd.DataFrame, measure: Measure) -> list[str]:
    """Return a ranking by the measure as lines of an aligned text table, for a terminal."""
    form = _share if measure.share else _score
    ends = (table["low"].map(form, na_action="ignore") + " to ") + table["high"].map(form, na_action="ignore")
    texts = {name: table[name].map(write, na_action="ignore") for name, write in _FORMS.items()}
    deciding = {measure.key: table[measure.key].map(form, na_action="ignore"), "interval": ends}
    shown = pd.DataFrame(dict.fromkeys(("rank", "backbone")) | deciding | texts)
    titles = _TITLES | {measure.key: measure.words}
    return shown.rename(columns=titles).astype(object).fillna("-").to_string(index=False).splitlines()
