"""Copies of one picture: which belong together, and which contradict each other.

Copies are pictures of equal pixels. Near copies look the same: re-encoded, resized or slightly
retouched pictures, found by the distance of their perceptual hashes.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stages.images.listing import Reject

# Side of the square of frequencies that a perceptual hash keeps: 16 * 16 bits set 100,000 pictures apart.
_HASH_SIDE = 16
HASH_BITS = _HASH_SIDE**2
# Hex digits of the pixels' SHA-256 that name a group: 128 bits.
GROUP_DIGITS = 32
# Paths that a reason names before it only counts.
_NAMED = 3


def perceptual_hash(image: Image.Image) -> str:
    """Return the pHash of a picture, 256 bits in hex: the signs of its lowest frequencies about their median.

    Source: https://github.com/JohannesBuchner/imagehash, `phash`.
    """
    import imagehash

    return str(imagehash.phash(image, hash_size=_HASH_SIDE))


def groups(table: pd.DataFrame, limit: int | None) -> "pd.Series[str]":
    """Return the group of each picture in `table`: equal for those that must not lie on two sides of a split.

    These are copies, near copies (hashes that differ in at most `limit` bits; None: copies alone) and
    what the source says belongs together, joined transitively. A group is named after the smallest
    `pixels_sha256` in it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = [_same(table["pixels_sha256"]), _same(table["source_group"].where(table["source_group"] != ""))]
    if limit is not None:
        links.append(_near(table["phash"], limit))
    ends = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(ends.shape[1], dtype=bool), ends), shape=(len(table), len(table)))
    _, component = connected_components(graph, directed=False)
    return table["pixels_sha256"].str[:GROUP_DIGITS].groupby(component).transform("min")


def _same(values: "pd.Series[str]") -> NDArray[np.int64]:
    """Return links, (2, n), of rows with equal `values`, each to the first of them; missing values are alone."""
    codes, _ = pd.factorize(values)
    rows = np.flatnonzero(codes >= 0)
    _, first, number = np.unique(codes[rows], return_index=True, return_inverse=True)
    return np.stack([rows, rows[first][number]])


def _near(hashes: "pd.Series[str]", limit: int) -> NDArray[np.int64]:
    """Return links, (2, n), of rows whose `hashes` differ in at most `limit` bits.

    Of `limit` + 1 bands of bits, two such hashes have one at least in common (the pigeonhole principle;
    Manku, Jain and Das Sarma 2007, "Detecting near-duplicates for web crawling"), so only hashes that
    share a band are compared: time grows with the pictures, not with their square.
    """
    rows = np.frombuffer(bytes.fromhex("".join(hashes)), f"S{HASH_BITS // 8}")
    distinct, first, number = np.unique(rows, return_index=True, return_inverse=True)
    words = distinct.view(np.uint8).reshape(-1, HASH_BITS // 8)
    bits = np.unpackbits(words, axis=1)
    found = [np.stack([np.arange(len(hashes)), first[number]])]
    edges = np.linspace(0, HASH_BITS, limit + 2).astype(int)
    for start, stop in pairwise(edges):
        found += [first[pair] for pair in _within(np.packbits(bits[:, start:stop], axis=1), words, limit)]
    return np.concatenate(found, axis=1)


def _within(band: NDArray[np.uint8], words: NDArray[np.uint8], limit: int) -> list[NDArray[np.int64]]:
    """Return pairs, (2, n), of hashes with equal `band` that differ in at most `limit` bits."""
    _, key = np.unique(band, axis=0, return_inverse=True)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    pairs = []
    apart = 1
    while (equal := np.flatnonzero(ordered[apart:] == ordered[:-apart])).size:
        one, other = order[equal], order[equal + apart]
        near = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= limit
        pairs.append(np.stack([one[near], other[near]]))
        apart += 1
    return pairs


def conflicting(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows show a picture, the same to the pixel, that stands under another label too."""
    return table.groupby("pixels_sha256")["label"].transform("nunique") > 1


def conflicts(table: pd.DataFrame) -> list[Reject]:
    """Return a reject for each of `table`'s rows, all of them `conflicting`, that names the others."""
    rejects: list[Reject] = []
    for _, copies in table.groupby("pixels_sha256"):
        for path, label in zip(copies["path"], copies["label"], strict=True):
            others = copies.loc[copies["label"] != label, "path"].tolist()
            rejects.append(Reject(path, f"two labels: the same picture as {_some(others)}", label))
    return rejects


def _some(paths: list[str]) -> str:
    named = ", ".join(f"'{path}'" for path in paths[:_NAMED])
    return f"{named} and {len(paths) - _NAMED} more" if len(paths) > _NAMED else named
