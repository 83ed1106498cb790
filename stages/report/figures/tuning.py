"""Figures of the searches for hyperparameters: how each went, what mattered, and where its trials lay."""

from collections.abc import Sequence

from stages.pages.vega import Figure, chart, figure, layered
from stages.report.figures.context import COUNT, WHOLE, Scene, choosable, chosen, colour, told
from stages.report.runs import Run
from stages.report.tuning import called, history, hyperparameters, parallel

_MEASURE = ".3f"


def histories(scene: Scene, runs: Sequence[Run]) -> Figure:
    """Draw the best measure so far against the number of the trial, a line for each backbone that was searched."""
    import altair as alt

    rows = [scene.row(run, **row) for run in runs for row in history(run)]
    measure = called(runs[0].search["measure"], scene.language)
    trial = scene.say("trial")
    marks = chosen(rows).encode(
        x=alt.X("trial:Q").title(trial).axis(format=COUNT, tickMinStep=1),
        y=alt.Y("best:Q").title(scene.say("best %(measure)s so far", measure=measure)).scale(zero=False),
        detail="place:N",
        color=colour(),
    )
    whole = layered(
        marks.mark_line(interpolate="step-after", strokeWidth=2, aria=False),
        marks.mark_circle(size=40).encode(
            tooltip=scene.hover(
                told("trial", trial, COUNT), told("value", measure, _MEASURE), told("best", scene.say("best"), _MEASURE)
            )
        ),
    )
    label = scene.say("How the best of the trials grew better, a line for each backbone; the table has the numbers.")
    return figure("tuning-history", label, choosable(whole).properties(height=260), 560, scene.language)


def importance(scene: Scene, runs: Sequence[Run]) -> Figure:
    """Draw the share of the measure's variance that each hyperparameter explains, for each backbone."""
    import altair as alt

    names = {key: called(key, scene.language) for key in hyperparameters(runs)}
    rows = [
        scene.row(run, name=names[key], share=share)
        for run in runs
        for key, share in sorted(run.search["importance"].items(), key=lambda item: list(names).index(item[0]))
    ]
    share = scene.say("share of the variance")
    whole = layered(
        chosen(rows)
        .mark_rect()
        .encode(
            x=alt.X("name:N").sort(list(names.values())).title(None).axis(labelAngle=-30),
            y=alt.Y("backbone:N").sort(None).title(None),
            opacity=alt.Opacity("share:Q").scale(domain=[0, 1], range=[0.05, 1]).legend(None),
            tooltip=scene.hover(alt.Tooltip("name:N", title=scene.say("hyperparameter")), told("share", share, WHOLE)),
        )
    )
    label = scene.say("How much each hyperparameter mattered to each backbone; the darker, the more.")
    return figure("tuning-importance", label, choosable(whole).properties(height=26 * len(runs)), 560, scene.language)


def trials(scene: Scene, run: Run) -> Figure:
    """Draw a line for each trial of a backbone across the axes of the hyperparameters, the best ones in front."""
    import altair as alt

    keys = hyperparameters([run])
    names = [called(key, scene.language) for key in keys]
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
                told("trial", scene.say("trial"), COUNT),
                alt.Tooltip("name:N", title=scene.say("hyperparameter")),
                alt.Tooltip("value:N", title=scene.say("value")),
            ]
        ),
    )
    label = scene.say(
        "The trials of %(backbone)s across their hyperparameters, the best ones the darkest.", backbone=run.backbone
    )
    return figure(f"tuning-trials-{scene.place(run)}", label, whole.properties(height=200), 560, scene.language)
