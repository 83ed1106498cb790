"""The report: one HTML page that needs no network, and a short Markdown text for a pull request.

Names of classes, backbones and files are other people's text. The page shows them escaped
(Jinja's autoescape) and isolated from the direction of the text around them (`<bdi>`); the Markdown
shows them as code.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from stages.errors import one_line
from stages.results import figures
from stages.results.runs import Run, counts, ranked, ranked_over_folds, rivals, rivals_over_folds, shares

# From here on a grid of all classes is too large to read, and the most frequent confusions are listed instead.
_LARGEST_GRID = 20
_LONGEST_LIST = 15
# Stands where nothing is known.
_UNKNOWN = "\N{EN DASH}"
_SPLITS = ("train", "validation", "test")


def page(runs: list[Run], splits: pd.DataFrame, audit: Mapping[str, Any]) -> str:
    """Return comparison.html. `splits` has columns label and split; `audit` is what ingest counted."""
    ranking, by_folds = ranked(runs), ranked_over_folds(runs)
    top_loss = figures.top_of_losses(runs)
    return _render(
        "comparison.html.j2",
        ranking,
        accuracy_figure=Markup(figures.accuracy(ranking, _largest_class(ranking[0]))),  # noqa: S704 (escaped there)
        folds_figure=Markup(figures.folds(by_folds)) if by_folds else None,  # noqa: S704
        cost_figure=Markup(figures.cost(ranking)),  # noqa: S704
        curves=[(run, Markup(figures.curves(run, top_loss))) for run in ranking],  # noqa: S704
        classes=ranking[0].classes,
        grids=[(run, _grid(run)) for run in ranking] if len(ranking[0].classes) <= _LARGEST_GRID else [],
        confusions=[(run, _most_confused(run)) for run in ranking],
        pictures=_pictures(splits, ranking[0].classes),
        splits=_SPLITS,
        audit=audit,
    )


def markdown(runs: list[Run]) -> str:
    """Return comparison.md."""
    return _render("comparison.md.j2", ranked(runs))


def _render(template: str, ranking: list[Run], **values: Any) -> str:
    """Fill a template with the ranking, the verdict on it, and `values`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=_percent, figures=_figures, millions=_millions, code=_code, share=_share)
    by_folds = ranked_over_folds(ranking)
    return environment.get_template(template).render(
        ranking=ranking,
        rivals=rivals(ranking),
        places={run.backbone: place for place, run in enumerate(ranking, start=1)},
        by_folds=by_folds,
        fold_rivals=rivals_over_folds(by_folds),
        random=_reasons(run for run in ranking if run.random),
        **values,
    )


def _reasons(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the backbones by the reason that their weights are random."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.provenance["weights"]["reason"] or "params.yaml asks for them", []).append(run)
    return found


def _largest_class(run: Run) -> float:
    """Return the accuracy of always answering the class with the most test pictures."""
    supports = [row["support"] for row in run.metrics["per_class"].values()]
    return float(max(supports) / sum(supports))


def _grid(run: Run) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """Return the confusion row by row: the actual class, then predicted class, pictures and share of the row."""
    found = counts(run)
    cells = zip(found.tolist(), shares(found).tolist(), strict=True)
    return [
        (name, list(zip(run.classes, pictures, portion, strict=True)))
        for name, (pictures, portion) in zip(run.classes, cells, strict=True)
    ]


def _most_confused(run: Run) -> list[tuple[str, str, int, float]]:
    """Return the most frequent confusions: actual class, predicted class, pictures, share of the actual class."""
    found = counts(run)
    portion = shares(found)
    wrong = found * (1 - np.eye(len(found), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LONGEST_LIST]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        (run.classes[row], run.classes[column], int(wrong[row, column]), float(portion[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[row, column]
    ]


def _pictures(splits: pd.DataFrame, classes: list[str]) -> dict[str, list[int]]:
    """Return the number of pictures of each class in each split."""
    table = pd.crosstab(splits["label"], splits["split"]).reindex(index=classes, columns=_SPLITS, fill_value=0)
    return {name: [int(number) for number in row] for name, row in zip(classes, table.to_numpy(), strict=True)}


def _percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal; nothing known is a dash."""
    return _UNKNOWN if value is None else f"{100 * value:.1f} %"


def _share(value: float) -> str:
    """Return a share as a percentage for a confidence: 0.95 is 95 %."""
    return f"{100 * value:g} %"


def _figures(value: float | None) -> str:
    """Return a measured number with three significant digits and no exponent."""
    if value is None:
        return _UNKNOWN
    digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 2
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def _millions(value: float | None) -> str:
    """Return a count in millions."""
    return _UNKNOWN if value is None else f"{_figures(value / 1e6)} M"


def _code(name: object) -> str:
    """Return a name as a Markdown code span that stays one cell of a table, whatever it holds.

    https://github.github.com/gfm/#code-spans: the fence is longer than any run of backticks inside.
    """
    text = one_line(str(name)).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"
