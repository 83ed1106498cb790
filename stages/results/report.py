"""The report: one HTML page that needs no network, and a short Markdown text for a pull request."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from stages.results import figures
from stages.results.findings import Finding, findings
from stages.results.pages import render
from stages.results.runs import Run, counts, ranked, ranked_over_folds, rivals, rivals_over_folds, shares

# From here on a grid of all classes is too large to read, and the most frequent confusions are listed instead.
_LARGEST_GRID = 20
_LONGEST_LIST = 15
_SPLITS = ("train", "validation", "test")


def page(runs: list[Run], splits: pd.DataFrame, audit: Mapping[str, Any]) -> str:
    """Return comparison.html. `splits` has columns label and split; `audit` is data/audit.json."""
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
        findings=misleading(audit),
    )


def markdown(runs: list[Run], audit: Mapping[str, Any]) -> str:
    """Return comparison.md."""
    return _render("comparison.md.j2", ranked(runs), findings=misleading(audit))


def misleading(audit: Mapping[str, Any]) -> list[Finding]:
    """Return what the audit found that changes how the comparison is to be read."""
    return [finding for finding in findings(audit) if finding.misleads]


def _render(template: str, ranking: list[Run], **values: Any) -> str:
    """Fill a template with the ranking, the verdict on it, and `values`."""
    by_folds = ranked_over_folds(ranking)
    return render(
        template,
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
