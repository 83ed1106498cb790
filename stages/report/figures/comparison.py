"""Figures of all backbones beside one another."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stages.core.intervals import Interval
from stages.pages.vega import DOTTED, INK, PAGE, Figure, chart, figure, layered, logarithmic_ticks
from stages.report.figures.context import COUNT, Scene, across, choosable, chosen, colour, in_rows, told, up
from stages.report.runs import Run

if TYPE_CHECKING:
    import altair as alt

# Costs that differ by more than this factor are drawn on a logarithmic axis.
_WIDE = 8
# Height of a backbone's row, pixels.
_STEP = 26
_FADED = 0.2


def accuracy(scene: Scene, largest_class: float) -> Figure:
    """Draw each backbone's accuracy with its interval, the best on top, and those of its repeats as ticks.

    `largest_class` is the accuracy of always answering the class with the most test images.
    """
    rows = [scene.row(run, accuracy=run.metrics["accuracy"], **run.interval._asdict()) for run in scene.ranking]
    again = [scene.row(run, accuracy=value) for run in scene.ranking for value in run.repeated]
    title = scene.say("test accuracy")
    marks = in_rows(rows)
    whole = layered(
        chart([{"level": largest_class}]).mark_rule(strokeDash=DOTTED, opacity=0.6).encode(x="level:Q"),
        marks.mark_rule(strokeWidth=3, aria=False).encode(x=across("low", title), x2="high:Q"),
        in_rows(again).mark_tick(thickness=1.5, bandSize=14, aria=False).encode(x=across("accuracy", title)),
        marks.mark_circle(size=110, opacity=1).encode(
            x=across("accuracy", title), tooltip=scene.hover(told("accuracy", title), *scene.ends())
        ),
    )
    label = scene.say("Accuracy of each backbone with its interval; the ranking has the numbers.")
    return figure("accuracy", label, choosable(whole).properties(height=_STEP * len(rows)), 560, scene.language)


def folds(scene: Scene, by_folds: Sequence[Run]) -> Figure:
    """Draw each backbone's accuracy in each fold as a dot, the mean as a tick, and the mean's interval.

    `by_folds` is the ranking by the mean over folds.
    """
    each = [
        scene.row(run, accuracy=found, fold=fold)
        for run in by_folds
        for fold, found in enumerate(run.folds["accuracy"])
    ]
    means = [scene.row(run, accuracy=run.folds["accuracy_mean"], **run.fold_interval._asdict()) for run in by_folds]
    title = scene.say("accuracy")
    marks = in_rows(means)
    whole = layered(
        marks.mark_rule(strokeWidth=3, opacity=0.5, aria=False).encode(x=across("low", title), x2="high:Q"),
        in_rows(each).mark_circle(size=45, opacity=0.7).encode(
            x=across("accuracy", title),
            tooltip=scene.hover(told("accuracy", title), told("fold", scene.say("fold"), COUNT)),
        ),
        marks.mark_tick(thickness=2, bandSize=16, color=INK).encode(
            x=across("accuracy", title), tooltip=scene.hover(told("accuracy", scene.say("mean")), *scene.ends())
        ),
    )  # fmt: skip
    label = scene.say("Accuracy of each backbone in each fold, with the mean; the table has the numbers.")
    return figure("folds", label, choosable(whole).properties(height=_STEP * len(means)), 560, scene.language)


def cost(scene: Scene, name: str, title: str, costs: Mapping[str, float]) -> Figure:
    """Draw accuracy against a cost, of the backbones that `costs` has, each point with its place; and the front.

    Nothing is both cheaper and more accurate than a backbone on the front.
    """
    rows = [
        scene.row(run, cost=costs[run.backbone], accuracy=run.metrics["accuracy"], **run.interval._asdict())
        for run in scene.ranking
        if run.backbone in costs
    ]
    accurate = scene.say("test accuracy")
    marks = _front(chosen(rows)).encode(x=_cost(list(costs.values()), title))
    points = marks.encode(y=up("accuracy", accurate))
    whole = layered(
        points.transform_filter("datum.front").mark_line(
            interpolate="step-after", strokeDash=[4, 3], opacity=0.5, aria=False
        ),
        marks.mark_rule(strokeWidth=2, opacity=0.45, aria=False).encode(
            y=up("low", accurate), y2="high:Q", color=colour()
        ),
        *_numbered(points, scene.hover(told("accuracy", accurate), told("cost", title, ",.3~r"))),
    )
    label = scene.say("Accuracy against cost; each point carries its rank, the tables have the numbers.")
    return figure(f"cost-{name}", f"{label} {title}.", choosable(whole).properties(height=230), 330, scene.language)


def foretold(scene: Scene, before: Mapping[str, tuple[float, Interval]]) -> Figure:
    """Draw test accuracy against the probe's before training, which `before` has with its interval by backbone."""
    rows = [
        scene.row(
            run,
            probe=before[run.backbone][0],
            probe_low=before[run.backbone][1].low,
            probe_high=before[run.backbone][1].high,
            accuracy=run.metrics["accuracy"],
            **run.interval._asdict(),
        )
        for run in scene.ranking
        if run.backbone in before
    ]
    probed, final = scene.say("probe accuracy before training"), scene.say("test accuracy after")
    points = chosen(rows).encode(x=across("probe", probed), y=up("accuracy", final))
    lines = chosen(rows).mark_rule(strokeWidth=2, opacity=0.45, aria=False).encode(color=colour())
    whole = layered(
        lines.encode(x=across("probe_low", probed), x2="probe_high:Q", y=up("accuracy", final)),
        lines.encode(x=across("probe", probed), y=up("low", final), y2="high:Q"),
        *_numbered(points, scene.hover(told("probe", probed), told("accuracy", final))),
    )
    label = scene.say("Accuracy after training against that before; each point carries its rank, the table has both.")
    return figure("foretold", label, choosable(whole).properties(height=260), 460, scene.language)


def _numbered(points: "alt.Chart", hover: "list[alt.Tooltip]") -> "tuple[alt.Chart, alt.Chart]":
    """Return a disc for each of `points`, and on it the backbone's place."""
    return (
        points.mark_circle(size=290, opacity=1).encode(color=colour(), tooltip=hover),
        points.mark_text(fontSize=11, fontWeight="bold", fill=PAGE, baseline="middle", aria=False).encode(
            text="place:N"
        ),
    )


def _cost(costs: list[float], title: str) -> "alt.X":
    """Return the axis of a cost, logarithmic where costs lie far apart."""
    import altair as alt

    axis = alt.X("cost:Q").title(title)
    if max(costs) <= _WIDE * min(costs):
        return axis.scale(zero=True).axis(tickCount=5)
    ticks = logarithmic_ticks(min(costs), max(costs))
    return axis.scale(type="log", nice=False, padding=14).axis(values=ticks, format="~r", labelOverlap="greedy")


def _front(marks: "alt.Chart") -> "alt.Chart":
    """Mark the rows than which no other of those that are shown is both cheaper and more accurate."""
    import altair as alt

    order: list[alt.SortField | dict[str, str]] = [
        alt.SortField("cost", order="ascending"),
        alt.SortField("accuracy", order="descending"),
    ]
    return (
        marks.transform_window(best="max(accuracy)", sort=order)
        .transform_window(cheaper="lag(best)", sort=order)
        .transform_calculate(front="!isValid(datum.cheaper) || datum.accuracy > datum.cheaper")
    )


def training_images(scene: Scene) -> Figure:
    """Draw accuracy against the number of training images, a line for each backbone.

    The chosen one and those that were trained from nothing carry their intervals and their places.
    """
    import altair as alt

    rows = [scene.row(run, **share) for run in scene.ranking for share in run.metrics["shares"]]
    counts = sorted({row["training_images"] for row in rows})
    title, images = scene.say("test accuracy"), scene.say("training images")
    over = alt.selection_point("over", fields=["place"], on="pointerover", clear="pointerout", empty=True)
    fading = alt.when(over).then(alt.value(1)).otherwise(alt.value(_FADED))
    marks = chosen(rows).encode(
        x=alt.X("training_images:Q")
        .title(images)
        .scale(type="log", nice=False, padding=14)
        .axis(values=counts, format=COUNT, labelOverlap="greedy"),
        y=up("accuracy", title),
        detail="place:N",
        color=colour(),
    )
    whole = layered(
        *(_named(marks, title) if any(row["kind"] != "other" for row in rows) else ()),
        marks.mark_line(strokeWidth=2.5, aria=False).encode(opacity=fading),
        marks.mark_circle(size=70)
        .encode(
            opacity=fading,
            tooltip=scene.hover(told("accuracy", title), *scene.ends(), told("training_images", images, COUNT)),
        )
        # Altair would number the charts that it makes in this process.
        .properties(name="points")
        .add_params(over),
    )
    label = scene.say("Accuracy with fewer training images, a line for each backbone; the table has the numbers.")
    return figure("training-images", label, choosable(whole).properties(height=300), 560, scene.language)


def _named(marks: "alt.Chart", title: str) -> "tuple[alt.Chart, alt.Chart]":
    """Return intervals, and places beside the points of all the images, of the backbones that stand out."""
    named = marks.transform_filter("datum.kind !== 'other'")
    return (
        named.mark_rule(strokeWidth=1.5, opacity=0.4, aria=False).encode(y=up("low", title), y2="high:Q"),
        named.transform_filter("datum.share === 1")
        .mark_text(align="left", dx=9, fontWeight="bold", aria=False)
        .encode(text="place:N"),
    )
