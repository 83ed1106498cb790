"""Parts of the images that train, to show what more of them would bring."""

import hashlib

import pandas as pd


def drawn(images: pd.DataFrame, share: float, seed: int) -> "pd.Series[bool]":
    """Return which rows of `images`, with columns file and label, belong to a `share` of each class, one at the least.

    An image's place in its class follows from the seed and its name, which is made of its content: every backbone gets
    the same, and a smaller share is a part of a larger.
    """
    places = images["file"].astype(str).map(lambda file: hashlib.sha256(f"{seed} {file}".encode()).hexdigest())
    classes = places.groupby(images["label"].astype(str))
    return classes.rank() <= (share * classes.transform("size")).round().clip(lower=1)
