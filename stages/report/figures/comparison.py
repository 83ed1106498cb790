"""Figures of all backbones beside one another."""

from collections.abc import Mapping, Sequence

import altair as alt

from stages.core.intervals import Interval
from stages.pages.vega import DOTTED, INK, PAGE, Figure, chart, figure, layered, logarithmic_ticks
from stages.report.figures.context import (
    COUNT,
    FigureContext,
    Row,
    colour,
    filterable,
    number_tooltip,
    row_per_backbone,
    share_x,
    share_y,
    visible,
)
from stages.report.runs import Run

# Costs that differ by more than this factor are drawn on a logarithmic axis.
_WIDE = 8
# Height of a backbone's row, pixels.
_STEP = 26
_FADED = 0.2
_FAINT = 0.2
_DASHED = [6, 4]
_FORECAST = ("accuracy", "low", "high")


def accuracy(context: FigureContext, largest_class: float) -> Figure:
    """Draw each backbone's accuracy with its interval, the best on top, and those of its repeats as ticks.

    `largest_class` is the accuracy of always predicting the class with the most test images.
    """
    rows = [context.row(run, accuracy=run.metrics["accuracy"], **run.interval._asdict()) for run in context.ranking]
    again = [context.row(run, accuracy=value) for run in context.ranking for value in run.repeated]
    title = context.say("test accuracy")
    marks, ticks = row_per_backbone(rows), row_per_backbone(again).mark_tick(thickness=1.5, bandSize=14, aria=False)
    whole = layered(
        chart([{"level": largest_class}]).mark_rule(strokeDash=DOTTED, opacity=0.6).encode(x="level:Q"),
        marks.mark_rule(strokeWidth=3, aria=False).encode(x=share_x("low", title), x2="high:Q"),
        *([ticks.encode(x=share_x("accuracy", title))] if again else ()),
        marks.mark_circle(size=110, opacity=1).encode(
            x=share_x("accuracy", title),
            tooltip=context.tooltip(number_tooltip("accuracy", title), *context.interval_tooltips()),
        ),
    )
    label = context.say("Accuracy of each backbone with its interval; the ranking has the numbers.")
    return figure("accuracy", label, filterable(whole).properties(height=_STEP * len(rows)), 560, context.language)


def folds(context: FigureContext, by_folds: Sequence[Run]) -> Figure:
    """Draw each backbone's accuracy in each fold as a dot, the mean as a tick, and the mean's interval.

    `by_folds` is the ranking by the mean over folds.
    """
    each = [
        context.row(run, accuracy=found, fold=fold)
        for run in by_folds
        for fold, found in enumerate(run.folds["accuracy"])
    ]
    means = [context.row(run, accuracy=run.folds["accuracy_mean"], **run.fold_interval._asdict()) for run in by_folds]
    title = context.say("accuracy")
    marks = row_per_backbone(means)
    whole = layered(
        marks.mark_rule(strokeWidth=3, opacity=0.5, aria=False).encode(x=share_x("low", title), x2="high:Q"),
        row_per_backbone(each).mark_circle(size=45, opacity=0.7).encode(
            x=share_x("accuracy", title),
            tooltip=context.tooltip(
                number_tooltip("accuracy", title), number_tooltip("fold", context.say("fold"), COUNT)
            ),
        ),
        marks.mark_tick(thickness=2, bandSize=16, color=INK).encode(
            x=share_x("accuracy", title),
            tooltip=context.tooltip(number_tooltip("accuracy", context.say("mean")), *context.interval_tooltips()),
        ),
    )  # fmt: skip
    label = context.say("Accuracy of each backbone in each fold, with the mean; the table has the numbers.")
    return figure("folds", label, filterable(whole).properties(height=_STEP * len(means)), 560, context.language)


def cost(context: FigureContext, name: str, title: str, costs: Mapping[str, float]) -> Figure:
    """Draw accuracy against a cost, of the backbones that `costs` has, each point with its place; and the Pareto front.

    No backbone is both cheaper and more accurate than one on the front.
    """
    rows = [
        context.row(run, cost=costs[run.backbone], accuracy=run.metrics["accuracy"], **run.interval._asdict())
        for run in context.ranking
        if run.backbone in costs
    ]
    accurate = context.say("test accuracy")
    marks = _front(visible(rows)).encode(x=_cost(list(costs.values()), title))
    points = marks.encode(y=share_y("accuracy", accurate))
    whole = layered(
        points.transform_filter("datum.front").mark_line(
            interpolate="step-after", strokeDash=[4, 3], opacity=0.5, aria=False
        ),
        marks.mark_rule(strokeWidth=2, opacity=0.45, aria=False).encode(
            y=share_y("low", accurate), y2="high:Q", color=colour()
        ),
        *_numbered(
            points, context.tooltip(number_tooltip("accuracy", accurate), number_tooltip("cost", title, ",.3~r"))
        ),
    )
    label = context.say("Accuracy against cost; each point carries its rank, the tables have the numbers.")
    return figure(f"cost-{name}", f"{label} {title}.", filterable(whole).properties(height=230), 330, context.language)


def ranking_agreement(context: FigureContext, before: Mapping[str, tuple[float, Interval]]) -> Figure:
    """Draw test accuracy against the probe's before training, which `before` has by backbone, with its interval."""
    rows = [
        context.row(
            run,
            probe=before[run.backbone][0],
            probe_low=before[run.backbone][1].low,
            probe_high=before[run.backbone][1].high,
            accuracy=run.metrics["accuracy"],
            **run.interval._asdict(),
        )
        for run in context.ranking
        if run.backbone in before
    ]
    probed, final = context.say("probe accuracy before training"), context.say("test accuracy after")
    points = visible(rows).encode(x=share_x("probe", probed), y=share_y("accuracy", final))
    lines = visible(rows).mark_rule(strokeWidth=2, opacity=0.45, aria=False).encode(color=colour())
    whole = layered(
        lines.encode(x=share_x("probe_low", probed), x2="probe_high:Q", y=share_y("accuracy", final)),
        lines.encode(x=share_x("probe", probed), y=share_y("low", final), y2="high:Q"),
        *_numbered(points, context.tooltip(number_tooltip("probe", probed), number_tooltip("accuracy", final))),
    )
    label = context.say("Accuracy after training against that before; each point carries its rank, the table has both.")
    return figure("ranking-agreement", label, filterable(whole).properties(height=260), 460, context.language)


def _numbered(points: alt.Chart, tooltips: list[alt.Tooltip]) -> tuple[alt.Chart, alt.Chart]:
    """Return a disc for each of `points`, and on it the backbone's place."""
    return (
        points.mark_circle(size=290, opacity=1).encode(color=colour(), tooltip=tooltips),
        points.mark_text(fontSize=11, fontWeight="bold", fill=PAGE, baseline="middle", aria=False).encode(
            text="place:N"
        ),
    )


def _cost(costs: list[float], title: str) -> alt.X:
    """Return the axis of a cost, logarithmic where costs differ by a large factor."""
    axis = alt.X("cost:Q").title(title)
    if max(costs) <= _WIDE * min(costs):
        return axis.scale(zero=True).axis(tickCount=5)
    ticks = logarithmic_ticks(min(costs), max(costs))
    return axis.scale(type="log", nice=False, padding=14).axis(values=ticks, format="~r", labelOverlap="greedy")


def _front(marks: alt.Chart) -> alt.Chart:
    """Mark the rows on the Pareto front: no other that is shown is both cheaper and more accurate."""
    order: list[alt.SortField | dict[str, str]] = [
        alt.SortField("cost", order="ascending"),
        alt.SortField("accuracy", order="descending"),
    ]
    return (
        marks.transform_window(best="max(accuracy)", sort=order)
        .transform_window(cheaper="lag(best)", sort=order)
        .transform_calculate(front="!isValid(datum.cheaper) || datum.accuracy > datum.cheaper")
    )


def training_images(context: FigureContext) -> Figure:
    """Draw accuracy with its interval against the number of training images, a line for each backbone.

    Dashed curves go on to twice the images where these can be foreseen. The chosen backbone and those trained from
    scratch carry their places.
    """
    rows = [context.row(run, **share) for run in context.ranking for share in run.metrics["shares"]]
    fitted, foreseen = _foreseen(context)
    counts = sorted({row["training_images"] for row in (*rows, *foreseen)})
    title, images = context.say("test accuracy"), context.say("training images")
    over = alt.selection_point("over", fields=["place"], on="pointerover", clear="pointerout", empty=True)
    fading = alt.when(over).then(alt.value(1)).otherwise(alt.value(_FADED))
    marks, curves, ends = (_over_images(each, counts, images, title) for each in (rows, fitted, foreseen))
    tooltip = context.tooltip(
        number_tooltip("accuracy", title),
        *context.interval_tooltips(),
        number_tooltip("training_images", images, COUNT),
    )
    whole = layered(
        *(_interval(each, title) for each in ((marks, ends) if foreseen else (marks,))),
        *([_place(marks)] if any(row["kind"] != "other" for row in rows) else ()),
        *([curves.mark_line(strokeWidth=1.5, strokeDash=_DASHED, aria=False).encode(opacity=fading)] if fitted else []),
        *([ends.mark_tick(thickness=3, bandSize=12).encode(opacity=fading, tooltip=tooltip)] if foreseen else ()),
        marks.mark_line(strokeWidth=2.5, aria=False).encode(opacity=fading),
        marks.mark_circle(size=70)
        .encode(opacity=fading, tooltip=tooltip)
        # Altair would number the charts that it makes in this process.
        .properties(name="points")
        .add_params(over),
    )
    label = context.say(
        "Accuracy with fewer training images, a line for each backbone, and foreseen with more; the table has the "
        "numbers."
    )
    return figure("training-images", label, filterable(whole).properties(height=300), 560, context.language)


def _foreseen(context: FigureContext) -> tuple[list[Row], list[Row]]:
    """Return the points of the fitted curves, and the forecasts at their ends, of what can be foreseen."""
    known = [(run, run.metrics["learning_curve"]) for run in context.ranking if run.metrics["learning_curve"]]
    said = [(run, curve) for run, curve in known if curve["unknown"] is None]
    points = [
        context.row(run, training_images=images, accuracy=accuracy)
        for run, curve in said
        for images, accuracy in curve["line"]
    ]
    ends = [
        context.row(
            run, training_images=curve["twice"]["images"], **{key: curve["twice"][key] for key in _FORECAST}
        )
        for run, curve in said
    ]  # fmt: skip
    return points, ends


def _over_images(rows: list[Row], counts: list[int], images: str, title: str) -> alt.Chart:
    """Return a chart of accuracies over the number of training images."""
    return visible(rows).encode(
        x=alt.X("training_images:Q")
        .title(images)
        .scale(type="log", nice=False, padding=14)
        .axis(values=counts, format=COUNT, labelOverlap="greedy"),
        y=share_y("accuracy", title),
        detail="place:N",
        color=colour(),
    )


def _interval(marks: alt.Chart, title: str) -> alt.Chart:
    """Return the intervals, fainter where a backbone is not highlighted."""
    faint = alt.when("datum.kind === 'other'").then(alt.value(_FAINT)).otherwise(alt.value(2 * _FAINT))
    rule: alt.Chart = marks.mark_rule(strokeWidth=1.5, aria=False)
    return rule.encode(y=share_y("low", title), y2="high:Q", opacity=faint)


def _place(marks: alt.Chart) -> alt.Chart:
    """Return the places of the highlighted backbones, beside the points of all the images."""
    named: alt.Chart = marks.transform_filter("datum.kind !== 'other' && datum.share === 1")
    text: alt.Chart = named.mark_text(align="left", dx=9, fontWeight="bold", aria=False).encode(text="place:N")
    return text
