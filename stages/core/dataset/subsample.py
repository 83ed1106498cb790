"""Fractions of the training images, to show how much more of them would help."""

import hashlib

import pandas as pd


def subsample(images: pd.DataFrame, share: float, seed: int) -> "pd.Series[bool]":
    """Return which rows of `images`, with columns file and label, make up a `share` of each class, at least one image.

    An image's rank in its class follows from the seed and its name, which is made of its content: every backbone gets
    the same images, and a smaller share is a subset of a larger one.
    """
    places = images["file"].astype(str).map(lambda file: hashlib.sha256(f"{seed} {file}".encode()).hexdigest())
    classes = places.groupby(images["label"].astype(str))
    return classes.rank() <= (share * classes.transform("size")).round().clip(lower=1)
