"""Which figures the comparison's page has, and of which backbones; the modules beside this one draw them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from stages.core.intervals import Interval
from stages.pages.vega import Figure
from stages.report.figures import backbone as backbone_figures
from stages.report.figures import comparison as comparison_figures
from stages.report.figures import tuning as tuning_figures
from stages.report.figures.context import FigureContext
from stages.report.runs import Run


@dataclass(frozen=True)
class Searches:
    """The figures of the searches for hyperparameters; `trials` by backbone."""

    history: Figure
    importance: Figure | None
    trials: dict[str, Figure]

    def __iter__(self) -> Iterator[Figure]:
        """Yield every figure."""
        yield from filter(None, (self.history, self.importance))
        yield from self.trials.values()


@dataclass(frozen=True)
class Gallery:
    """The figures: of all backbones, of each by its name, of the best; None where there is nothing to draw.

    `curves` has those of backbones of which something was trained in epochs.
    """

    accuracy: Figure
    folds: Figure | None
    costs: list[Figure]
    training_images: Figure | None
    ranking_agreement: Figure | None
    curves: dict[str, list[Figure]]
    reliability: dict[str, Figure]
    embedding: Figure | None
    tuning: Searches | None

    def __iter__(self) -> Iterator[Figure]:
        """Yield every figure."""
        yield from filter(
            None, (self.accuracy, self.folds, self.training_images, self.ranking_agreement, self.embedding)
        )
        yield from self.costs
        yield from self.reliability.values()
        for pair in self.curves.values():
            yield from pair
        yield from self.tuning or ()


def draw(
    context: FigureContext,
    by_folds: Sequence[Run],
    before: Mapping[str, tuple[float, Interval]],
    mapped: pd.DataFrame,
    thumbnails: Mapping[str, str],
) -> Gallery:
    """Draw all figures.

    `by_folds` is the ranking over folds, empty where there are none. `before` is the accuracy before training of those
    backbones that have one, see `comparison_figures.ranking_agreement`; `mapped` and `thumbnails` are those of the best
    backbone's map, see `backbone_figures.embedding`.
    """
    ranking = context.ranking
    best, curved = ranking[0], [run for run in ranking if run.curved]
    top = backbone_figures.top_of_losses(curved) if curved else 1.0
    return Gallery(
        comparison_figures.accuracy(context, _largest_class(best)),
        comparison_figures.folds(context, by_folds) if by_folds else None,
        [comparison_figures.cost(context, name, title, costs) for name, title, costs in _costs(context)],
        comparison_figures.training_images(context) if best.metrics["shares"] else None,
        comparison_figures.ranking_agreement(context, before) if len(before) > 1 else None,
        {
            run.backbone: [
                backbone_figures.curves(context, run, "accuracy", 1.0),
                backbone_figures.curves(context, run, "loss", top),
            ]
            for run in curved
        },
        {run.backbone: backbone_figures.reliability(context, run) for run in ranking},
        backbone_figures.embedding(context, best, mapped, thumbnails) if len(mapped) else None,
        _searches(context),
    )


def _searches(context: FigureContext) -> Searches | None:
    runs = [run for run in context.ranking if run.searched]
    if not runs:
        return None
    explained = [run for run in runs if run.search["importance"]]
    return Searches(
        tuning_figures.histories(context, runs),
        tuning_figures.importance(context, explained) if explained else None,
        {run.backbone: tuning_figures.trials(context, run) for run in runs},
    )


def _largest_class(run: Run) -> float:
    """Return the accuracy of always predicting the class with the most test images."""
    supports = [row["support"] for row in run.metrics["per_class"].values()]
    return float(max(supports) / sum(supports))


def _costs(context: FigureContext) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield the costs that accuracy is drawn against: name, title, and those of the backbones that were measured.

    A cost that was measured for none is left out.
    """
    # The section explains the mark.
    mark = "*" if any(run.benchmark["latency_under_load"] for run in context.ranking) else ""
    titles = {
        "latency": ("latency_ms_median", 1.0, context.say("latency of one image, ms") + mark),
        "size": ("size_mb", 1.0, context.say("size of the weights, MB")),
        "flops": ("flops", 1e-9, context.say("operations for one image, GFLOPs")),
    }
    for name, (key, unit, title) in titles.items():
        measured = {run.backbone: run.benchmark[key] for run in context.ranking}
        if costs := {backbone: unit * value for backbone, value in measured.items() if value}:
            yield name, title, costs
