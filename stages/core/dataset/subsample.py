"""Fractions of the training images, to show how much more of them would help."""

import hashlib
from collections.abc import Sequence

import pandas as pd


def possible(labels: pd.Series, shares: Sequence[float]) -> list[float]:
    """Return those of the `shares` that leave at least one image of each class, given the label of each image."""
    smallest = labels.astype(str).value_counts().min()
    return [share for share in shares if round(share * smallest) > 0]


def subsample(images: pd.DataFrame, share: float, seed: int) -> "pd.Series[bool]":
    """Return which rows of `images`, with columns file, label and group, make up a `share` of each class."""
    return subsamples(images, [share], seed)[0]


def subsamples(images: pd.DataFrame, shares: Sequence[float], seed: int, draw: int = 0) -> "list[pd.Series[bool]]":
    """Return which rows of `images` make up each share of each class, in one of several draws.

    The places of a group, and of an image in it, follow from seed, draw and their names, which are made of their
    content: every backbone gets the same images, and a smaller share is a subset of a larger one. Images of a group
    come in together, for as many new images from as many known groups would teach less.
    """
    groups, files = (images[column].astype(str).map(lambda name: _place(seed, draw, name)) for column in _NAMES)
    classes = (groups + files).groupby(images["label"].astype(str))
    ranks, sizes = classes.rank(), classes.transform("size")
    return [ranks <= (share * sizes).round() for share in shares]


_NAMES = ("group", "file")


def _place(seed: int, draw: int, name: str) -> str:
    return hashlib.sha256(f"{seed} {draw} {name}".encode()).hexdigest()
