"""Figures of the searches for hyperparameters: their history, what mattered, and where their trials lay."""

from collections.abc import Sequence

import altair as alt

from stages.pages.vega import Figure, chart, figure, layered
from stages.report.figures.context import COUNT, WHOLE, FigureContext, colour, filterable, number_tooltip, visible
from stages.report.runs import Run
from stages.report.tuning import display_name, history, hyperparameters, measure_name, parallel

_MEASURE = ".3f"


def histories(context: FigureContext, runs: Sequence[Run]) -> Figure:
    """Draw the best measure so far against the number of the trial, a line for each backbone that was searched."""
    rows = [context.row(run, **row) for run in runs for row in history(run)]
    measure = measure_name(runs[0], context.language)
    trial = context.say("trial")
    marks = visible(rows).encode(
        x=alt.X("trial:Q").title(trial).axis(format=COUNT, tickMinStep=1),
        y=alt.Y("best:Q").title(context.say("best %(measure)s so far", measure=measure)).scale(zero=False),
        detail="place:N",
        color=colour(),
    )
    whole = layered(
        marks.mark_line(interpolate="step-after", strokeWidth=2, aria=False),
        marks.mark_circle(size=40).encode(
            tooltip=context.tooltip(
                number_tooltip("trial", trial, COUNT),
                number_tooltip("value", measure, _MEASURE),
                number_tooltip("best", context.say("best"), _MEASURE),
            )
        ),
    )
    label = context.say("The best trial so far, a line for each backbone; the table has the numbers.")
    return figure("tuning-history", label, filterable(whole).properties(height=260), 560, context.language)


def importance(context: FigureContext, runs: Sequence[Run]) -> Figure:
    """Draw the share of the measure's variance that each hyperparameter explains, for each backbone."""
    names = {key: display_name(key, context.language) for key in hyperparameters(runs)}
    rows = [
        context.row(run, name=names[key], share=share)
        for run in runs
        for key, share in sorted(run.search["importance"].items(), key=lambda item: list(names).index(item[0]))
    ]
    share = context.say("share of the variance")
    whole = layered(
        visible(rows)
        .mark_rect()
        .encode(
            x=alt.X("name:N").sort(list(names.values())).title(None).axis(labelAngle=-30),
            y=alt.Y("backbone:N").sort(None).title(None),
            opacity=alt.Opacity("share:Q").scale(domain=[0, 1], range=[0.05, 1]).legend(None),
            tooltip=context.tooltip(
                alt.Tooltip("name:N", title=context.say("hyperparameter")), number_tooltip("share", share, WHOLE)
            ),
        )
    )
    label = context.say("How much each hyperparameter mattered to each backbone; the darker, the more.")
    return figure(
        "tuning-importance", label, filterable(whole).properties(height=26 * len(runs)), 560, context.language
    )


def trials(context: FigureContext, run: Run) -> Figure:
    """Draw a line for each trial of a backbone across the axes of the hyperparameters, the best ones in front."""
    keys = hyperparameters([run])
    names = [display_name(key, context.language) for key in keys]
    titles = dict(zip(keys, names, strict=True))
    rows = [{"name": titles[row["key"]]} | row for row in parallel(run)]
    marks = chart(rows).encode(
        x=alt.X("name:N").sort(names).title(None).scale(padding=0.3).axis(labelAngle=-30, grid=True),
        y=alt.Y("at:Q").title(None).axis(None),
        detail="trial:N",
        opacity=alt.Opacity("order:Q").scale(domain=[0, 0.5, 1], range=[1, 0.35, 0.1]).legend(None),
    )
    whole = layered(
        marks.mark_line(strokeWidth=1.5, aria=False),
        marks.mark_circle(size=45).encode(
            tooltip=[
                number_tooltip("trial", context.say("trial"), COUNT),
                alt.Tooltip("name:N", title=context.say("hyperparameter")),
                alt.Tooltip("value:N", title=context.say("value")),
            ]
        ),
    )
    label = context.say(
        "The trials of %(backbone)s across their hyperparameters, the best ones the darkest.", backbone=run.backbone
    )
    return figure(f"tuning-trials-{context.place(run)}", label, whole.properties(height=200), 560, context.language)
