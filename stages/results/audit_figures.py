"""Figures of the audit: how large the pictures are, and how wide for their height."""

import numpy as np
import pandas as pd

from stages.results.drawing import BLUE, new_figure, style, svg

_BARS = 30


def sizes(manifest: pd.DataFrame) -> str:
    """Draw how many pictures have how many megapixels."""
    megapixels = manifest["width"] * manifest["height"] / 1e6
    return _histogram(megapixels, "megapixels", "How many pictures have how many megapixels.")


def shapes(manifest: pd.DataFrame) -> str:
    """Draw how many pictures are how wide for their height."""
    return _histogram(manifest["width"] / manifest["height"], "width : height", "How wide the pictures are.")


def _histogram(values: "pd.Series[float]", name: str, label: str) -> str:
    """Draw positive numbers on a logarithmic axis: sizes and shapes differ by factors."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    # At least half and twice the values: pictures of one size make one bar, not a full box.
    edges = np.geomspace(values.min() / 2, values.max() * 2, _BARS + 1)
    counts, _ = np.histogram(values, edges)
    with style():
        figure = new_figure(4.6, 2.2)
        axes = figure.subplots()
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="none")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(edges[0], edges[-1])
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(axis="y")
        axes.set_xlabel(name)
        axes.set_ylabel("pictures")
        return svg(figure, name, label)
