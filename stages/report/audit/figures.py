"""Figures of the audit: how large the images are, and how wide for their height."""

import altair as alt
import numpy as np
import pandas as pd

from stages.pages.vega import RIGHT, Figure, chart, figure, logarithmic_ticks

_BARS = 30


def sizes(manifest: pd.DataFrame) -> Figure:
    """Draw how many images have how many megapixels."""
    megapixels = manifest["width"] * manifest["height"] / 1e6
    return _histogram("sizes", megapixels, "megapixels", "How many images have how many megapixels.")


def shapes(manifest: pd.DataFrame) -> Figure:
    """Draw how many images are how wide for their height."""
    ratio = manifest["width"] / manifest["height"]
    return _histogram("shapes", ratio, "width : height", "How wide the images are.")


def _histogram(name: str, values: "pd.Series[float]", title: str, label: str) -> Figure:
    """Draw positive numbers on a logarithmic axis: sizes and shapes differ by factors."""
    # At least half and twice the values: images of one size make one bar, not a full box.
    edges = np.geomspace(values.min() / 2, values.max() * 2, _BARS + 1)
    counts, _ = np.histogram(values, edges)
    bars = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    drawn = (
        chart([{"from": low, "to": high, "images": count} for low, high, count in bars if count])
        .mark_rect(color=RIGHT)
        .encode(
            x=alt.X("from:Q")
            .title(title)
            .scale(type="log", domain=[edges[0], edges[-1]], nice=False)
            .axis(values=logarithmic_ticks(edges[0], edges[-1]), format="~r", labelOverlap="greedy"),
            x2="to:Q",
            y=alt.Y("images:Q", stack=None).axis(tickCount=4, tickMinStep=1, format=",d"),
            y2=alt.datum(0),
        )
        .properties(height=140)
    )
    return figure(name, label, drawn, 380)
