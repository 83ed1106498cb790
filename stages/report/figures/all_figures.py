"""All figures of the comparison's page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from stages.core.intervals import Interval
from stages.pages.vega import Figure
from stages.report.figures import backbone as backbone_figures
from stages.report.figures import comparison as comparison_figures
from stages.report.figures import tuning as tuning_figures
from stages.report.figures.context import Scene
from stages.report.runs import Run, ranked_over_folds


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
    foretold: Figure | None
    curves: dict[str, list[Figure]]
    reliability: dict[str, Figure]
    embedding: Figure | None
    tuning: Searches | None

    def __iter__(self) -> Iterator[Figure]:
        """Yield every figure."""
        yield from filter(None, (self.accuracy, self.folds, self.training_images, self.foretold, self.embedding))
        yield from self.costs
        yield from self.reliability.values()
        for pair in self.curves.values():
            yield from pair
        yield from self.tuning or ()


def draw(
    scene: Scene, before: Mapping[str, tuple[float, Interval]], mapped: pd.DataFrame, thumbnails: Mapping[str, str]
) -> Gallery:
    """Draw all figures.

    `before` is the accuracy before training of those backbones that have one, see `comparison_figures.foretold`;
    `mapped` and `thumbnails` are those of the best backbone's map, see `backbone_figures.embedding`.
    """
    ranking = scene.ranking
    best, curved = ranking[0], [run for run in ranking if run.curved]
    top = backbone_figures.top_of_losses(curved) if curved else 1.0
    by_folds = ranked_over_folds(list(ranking))
    return Gallery(
        comparison_figures.accuracy(scene, _largest_class(best)),
        comparison_figures.folds(scene, by_folds) if by_folds else None,
        [comparison_figures.cost(scene, name, title, costs) for name, title, costs in _costs(scene)],
        comparison_figures.training_images(scene) if best.metrics["shares"] else None,
        comparison_figures.foretold(scene, before) if len(before) > 1 else None,
        {
            run.backbone: [
                backbone_figures.curves(scene, run, "accuracy", 1.0),
                backbone_figures.curves(scene, run, "loss", top),
            ]
            for run in curved
        },
        {run.backbone: backbone_figures.reliability(scene, run) for run in ranking},
        backbone_figures.embedding(scene, best, mapped, thumbnails) if len(mapped) else None,
        _searches(scene),
    )


def _searches(scene: Scene) -> Searches | None:
    runs = [run for run in scene.ranking if run.searched]
    if not runs:
        return None
    explained = [run for run in runs if run.search["importance"]]
    return Searches(
        tuning_figures.histories(scene, runs),
        tuning_figures.importance(scene, explained) if explained else None,
        {run.backbone: tuning_figures.trials(scene, run) for run in runs},
    )


def _largest_class(run: Run) -> float:
    """Return the accuracy of always answering the class with the most test images."""
    supports = [row["support"] for row in run.metrics["per_class"].values()]
    return float(max(supports) / sum(supports))


def _costs(scene: Scene) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield the costs that accuracy is drawn against: name, title, and those of the backbones that were measured.

    Of a cost that was measured of none there is nothing to draw.
    """
    titles = {
        "latency": ("latency_ms_median", 1.0, scene.say("latency of one image, ms")),
        "size": ("size_mb", 1.0, scene.say("size of the weights, MB")),
        "flops": ("flops", 1e-9, scene.say("operations for one image, GFLOPs")),
    }
    for name, (key, unit, title) in titles.items():
        measured = {run.backbone: run.benchmark[key] for run in scene.ranking}
        if costs := {backbone: unit * value for backbone, value in measured.items() if value}:
            yield name, title, costs
