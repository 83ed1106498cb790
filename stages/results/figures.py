"""Figures of the comparison."""

from typing import TYPE_CHECKING

import pandas as pd

from stages.results.drawing import BLUE, INK, ORANGE, PURPLE, new_figure, percent, short, style, svg
from stages.results.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRAINING, _VALIDATION, _CHOSEN = PURPLE, BLUE, ORANGE
# Costs that differ by more than this factor are drawn on a logarithmic axis.
_WIDE = 8


def accuracy(ranking: list[Run], largest_class: float) -> str:
    """Draw each backbone's accuracy with its interval, the best on top.

    `largest_class` is the accuracy of always answering the class with the most test pictures.
    """
    with style():
        figure, axes = _rows(ranking)
        for place, run in enumerate(ranking):
            colour = _CHOSEN if place == 0 else _VALIDATION
            axes.plot(run.interval, (place, place), color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(run.metrics["accuracy"], place, "o", color=colour, markersize=6)
        axes.axvline(largest_class, color=INK, linewidth=1, linestyle=(0, (2, 3)), alpha=0.6)
        axes.set_xlabel("test accuracy (dotted: always the largest class)")
        return svg(figure, "accuracy", "Accuracy of each backbone with its interval; the table above has the numbers.")


def folds(ranking: list[Run]) -> str:
    """Draw each backbone's accuracy in each fold as a dot, the mean as a tick, and the mean's interval.

    `ranking` is by the mean over folds, the best on top.
    """
    with style():
        figure, axes = _rows(ranking)
        for place, run in enumerate(ranking):
            colour = _CHOSEN if place == 0 else _VALIDATION
            found = run.folds["accuracy"]
            axes.plot(run.fold_interval, (place, place), color=colour, linewidth=2, solid_capstyle="butt", alpha=0.45)
            axes.plot(found, [place] * len(found), "o", color=colour, markersize=5, markeredgewidth=0, alpha=0.7)
            axes.plot(run.folds["accuracy_mean"], place, "|", color=INK, markersize=12, markeredgewidth=1.5)
        axes.set_xlabel("accuracy (dot: one fold; tick: mean)")
        return svg(
            figure, "folds", "Accuracy of each backbone in each fold, with the mean; the table above has the numbers."
        )


def _rows(ranking: list[Run]) -> "tuple[Figure, Axes]":
    """Return a figure of shares with a row for each backbone, the best on top."""
    figure = new_figure(5.4, 0.7 + 0.3 * len(ranking))
    axes = figure.subplots()
    axes.set_yticks(range(len(ranking)), [short(run.backbone) for run in ranking], parse_math=False)
    axes.set_ylim(len(ranking) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    percent(axes.xaxis)
    return figure, axes


def cost(ranking: list[Run]) -> str:
    """Draw accuracy against latency; each point carries its rank."""
    from matplotlib.ticker import LogLocator, NullLocator

    latencies = [run.benchmark["latency_ms_median"] for run in ranking]
    with style():
        figure = new_figure(5.4, 3.4)
        axes = figure.subplots()
        for place, (run, latency) in enumerate(zip(ranking, latencies, strict=True), start=1):
            colour = _CHOSEN if place == 1 else _VALIDATION
            axes.plot((latency, latency), run.interval, color=colour, linewidth=1.5, alpha=0.45)
            axes.plot(latency, run.metrics["accuracy"], "o", color=colour, markersize=15)
            axes.annotate(
                str(place), (latency, run.metrics["accuracy"]), ha="center", va="center_baseline", color="#ffffff"
            )
        if max(latencies) > _WIDE * min(latencies) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(0, 1.1 * max(latencies))
        axes.grid()
        percent(axes.yaxis)
        axes.set_xlabel("latency of one picture, ms")
        axes.set_ylabel("test accuracy")
        return svg(
            figure, "cost", "Accuracy against latency; each point carries its rank, the table above the numbers."
        )


def curves(run: Run, top_loss: float) -> str:
    """Draw the accuracy and loss of one backbone over its epochs; a line marks where fine-tuning begins."""
    with style():
        figure = new_figure(3.6, 3.0, layout=None)
        # Fixed margins, so that the panels of all backbones line up.
        upper, lower = figure.subplots(
            2, sharex=True, gridspec_kw={"left": 0.19, "right": 0.99, "bottom": 0.14, "top": 0.98, "hspace": 0.16}
        )
        _pair(upper, run.history, "accuracy")
        _pair(lower, run.history, "loss")
        upper.set_ylim(0, 1.02)
        percent(upper.yaxis)
        lower.set_ylim(0, top_loss)
        lower.set_xlabel("epoch")
        figure.align_ylabels()
        lower.xaxis.get_major_locator().set_params(integer=True)
        _mark_phases((upper, lower), run.history)
        return svg(figure, f"curves {run.backbone}", f"Learning curves of {run.backbone}: accuracy above, loss below.")


def top_of_losses(runs: list[Run]) -> float:
    """Return an upper end for the axis of the loss that all backbones share; a diverged one may leave it."""
    losses = pd.concat([run.history[name] for run in runs for name in ("loss", "val_loss")])
    top = 1.05 * losses.quantile(0.98)
    return float(top) if top > 0 else 1.0


def _pair(axes: "Axes", history: pd.DataFrame, name: str) -> None:
    """Draw a quantity on the training views (dashed) and the validation pictures."""
    size = 3 if len(history) <= 1 else 0
    axes.plot(history["epoch"], history[name], "o--", color=_TRAINING, markersize=size)
    axes.plot(history["epoch"], history[f"val_{name}"], "o-", color=_VALIDATION, markersize=size)
    axes.set_ylabel(name)
    axes.grid()


def _mark_phases(panels: tuple["Axes", ...], history: pd.DataFrame) -> None:
    """Shade the epochs of the second phase and name it."""
    second = history.loc[history["phase"] != "head", "epoch"]
    if second.empty:
        return
    start = second.min() - 0.5
    for axes in panels:
        axes.axvspan(start, second.max() + 0.5, color=_CHOSEN, alpha=0.13, linewidth=0)
    panels[0].annotate(
        "fine-tuning", (start, 0.03), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points"
    )
