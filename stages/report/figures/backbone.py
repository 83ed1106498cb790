"""Figures of one backbone: its learning curves, its calibration, and the map of its features."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from stages.pages.templates import printable
from stages.pages.vega import DOTTED, INK, RIGHT, TRAINING, WRONG, Figure, chart, figure, layered
from stages.report.figures.context import COUNT, TENTHS, WHOLE, FigureContext, Row, number_tooltip
from stages.report.runs import Run

# More colours than these are hard to tell apart.
_MOST_COLOURS = 10


def curves(context: FigureContext, run: Run, quantity: Literal["accuracy", "loss"], top: float) -> Figure:
    """Draw accuracy or loss of a backbone over its epochs, up to `top`: both phases, and the epoch kept, if any."""
    views, images = context.say("training views"), context.say("validation images")
    name = {"accuracy": context.say("accuracy"), "loss": context.say("loss")}[quantity]
    number = TENTHS if quantity == "accuracy" else ".3f"
    lines = chart(_epochs(run.history, {views: quantity, images: f"val_{quantity}"})).encode(
        x=alt.X("epoch:Q")
        .title(context.say("epoch"))
        .scale(domain=[0.5, len(run.history) + 0.5], nice=False)
        .axis(tickMinStep=1, format="d"),
        y=alt.Y("value:Q")
        .title(name)
        .scale(domain=[0, top])
        .axis(format=WHOLE if quantity == "accuracy" else "~g", tickCount=5),
        color=alt.Color("of:N", scale=alt.Scale(domain=[images, views], range=[RIGHT, TRAINING]), legend=None),
    )
    dashes = alt.StrokeDash("of:N", scale=alt.Scale(domain=[images, views], range=[[1, 0], [4, 3]]), legend=None)
    whole = layered(
        chart(_second_phase(run.history))
        .mark_rect(color=WRONG, opacity=0.13, aria=False)
        .encode(x="begin:Q", x2="end:Q"),
        chart([{"kept": epoch} for epoch in [run.best_epoch] if epoch])
        .mark_rule(strokeDash=DOTTED, opacity=0.7, aria=False)
        .encode(x="kept:Q"),
        lines.mark_line(strokeWidth=2, clip=True, aria=False).encode(strokeDash=dashes),
        lines.mark_circle(size=24 if len(run.history) > 1 else 60, clip=True, opacity=1).encode(
            tooltip=[
                number_tooltip("epoch", context.say("epoch"), COUNT),
                alt.Tooltip("of:N", title=context.say("on")),
                number_tooltip("value", name, number),
            ]
        ),
    )
    label = {
        "accuracy": context.say("Accuracy of %(backbone)s over its epochs.", backbone=run.backbone),
        "loss": context.say("Loss of %(backbone)s over its epochs.", backbone=run.backbone),
    }[quantity]
    return figure(f"{quantity}-{context.place(run)}", label, whole.properties(height=130), 320, context.language)


def _epochs(history: pd.DataFrame, columns: Mapping[str, str]) -> list[Row]:
    """Return a row for each epoch of each of the `columns`, by their names; none where the value is not finite."""
    return [
        {"epoch": int(epoch), "of": name, "value": float(value)}
        for name, column in columns.items()
        for epoch, value in zip(history["epoch"], history[column], strict=True)
        if pd.notna(value)
    ]


def _second_phase(history: pd.DataFrame) -> list[Row]:
    """Return where fine-tuning begins and ends, nothing where there was none."""
    second = history.loc[history["phase"] != "head", "epoch"]
    return [] if second.empty else [{"begin": int(second.min()) - 0.5, "end": int(second.max()) + 0.5}]


def top_of_losses(runs: Sequence[Run]) -> float:
    """Return an upper end for the loss axis that all backbones share; a diverged one may exceed it."""
    losses = pd.concat([run.history[name] for run in runs for name in ("loss", "val_loss")])
    top = 1.05 * losses.quantile(0.98)
    return float(top) if top > 0 else 1.0


def reliability(context: FigureContext, run: Run) -> Figure:
    """Draw the accuracy of a backbone against its confidence, before and after temperature scaling."""
    before, after = context.say("as trained"), context.say("scaled")
    rows = [
        {"of": name} | {key: float(row[key]) for key in ("confidence", "accuracy", "images")}
        for name, table in ((before, run.calibration), (after, run.calibration_scaled))
        for row in table[table["images"] > 0].to_dict("records")
    ]
    axis: dict[str, Any] = {
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(format=WHOLE, values=[0, 0.25, 0.5, 0.75, 1], labelOverlap="greedy"),
    }
    confidence, accuracy = context.say("confidence"), context.say("accuracy")
    marks = chart(rows).encode(
        x=alt.X("confidence:Q", title=confidence, **axis),
        y=alt.Y("accuracy:Q", title=accuracy, **axis),
        color=alt.Color("of:N", scale=alt.Scale(domain=[before, after], range=[WRONG, RIGHT]), legend=None),
    )
    whole = layered(
        chart([{"at": 0}, {"at": 1}]).mark_line(strokeDash=DOTTED, opacity=0.6, aria=False).encode(x="at:Q", y="at:Q"),
        marks.mark_line(strokeWidth=2, aria=False),
        marks.mark_circle(opacity=0.85).encode(
            size=alt.Size("images:Q", scale=alt.Scale(range=[20, 260], domainMin=0), legend=None),
            tooltip=[
                alt.Tooltip("of:N", title=confidence),
                number_tooltip("confidence", context.say("mean confidence")),
                number_tooltip("accuracy", accuracy),
                number_tooltip("images", context.say("images"), COUNT),
            ],
        ),
    )
    label = context.say(
        "Accuracy of %(backbone)s against its confidence, before and after temperature scaling.",
        backbone=run.backbone,
    )
    return figure(f"reliability-{context.place(run)}", label, whole.properties(height=210), 260, context.language)


def embedding(context: FigureContext, run: Run, mapped: pd.DataFrame, thumbnails: Mapping[str, str]) -> Figure:
    """Draw the test images where a backbone's features put them: similar ones lie close together.

    `mapped` has columns file, label, predicted, confidence, x and y; `thumbnails` the data URLs of files' images.
    Classes have colours where there are few enough, else right and wrong have.
    """
    right, wrong = context.say("right"), context.say("wrong")
    few = mapped["label"].nunique() <= _MOST_COLOURS
    field = "label" if few else "outcome"
    colours = alt.Scale(scheme="tableau10") if few else alt.Scale(domain=[right, wrong], range=[RIGHT, WRONG])
    picked = alt.selection_point("picked", fields=[field], bind="legend")
    bare: dict[str, Any] = {"axis": None, "scale": alt.Scale(zero=False, padding=12)}
    is_wrong = alt.when(alt.datum.outcome == wrong)
    whole = (
        chart([_image(row, thumbnails, right, wrong) for row in mapped.to_dict("records")])
        .mark_point(filled=True, strokeWidth=1)
        .encode(
            x=alt.X("x:Q", **bare),
            y=alt.Y("y:Q", **bare),
            color=alt.Color(f"{field}:N", scale=colours).legend(columns=3, labelLimit=90),
            shape=alt.Shape("outcome:N", scale=alt.Scale(domain=[right, wrong], range=["circle", "cross"])).legend(
                symbolFillColor=INK, symbolStrokeColor=INK
            ),
            size=is_wrong.then(alt.value(130)).otherwise(alt.value(45)),
            opacity=alt.when(picked).then(alt.value(0.9)).otherwise(alt.value(0.1)),
            tooltip=[
                alt.Tooltip("image:N"),
                alt.Tooltip("label:N", title=context.say("class")),
                alt.Tooltip("predicted:N", title=context.say("predicted")),
                number_tooltip("confidence", context.say("confidence"), WHOLE),
            ],
        )
        .properties(name="images", height=460)
        .add_params(picked)
    )
    label = context.say(
        "The test images as %(backbone)s sees them: images with like features lie close together.",
        backbone=run.backbone,
    )
    return figure("embedding", label, whole, 760, context.language)


def _image(row: Mapping[Any, Any], thumbnails: Mapping[str, str], right: str, wrong: str) -> Row:
    """Return one point of the map; its place to a thousandth of the map's unit."""
    return {
        "x": round(row["x"], 3),
        "y": round(row["y"], 3),
        "label": printable(row["label"]),
        "predicted": printable(row["predicted"]),
        "confidence": row["confidence"],
        "outcome": right if row["label"] == row["predicted"] else wrong,
        "image": thumbnails.get(row["file"]),
    }
