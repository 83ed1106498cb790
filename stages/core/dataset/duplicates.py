"""Copies of one image: which belong together, and which contradict each other.

Copies are images of equal pixels. Near copies look the same: re-encoded, resized or slightly
retouched images, found by the distance of their perceptual hashes.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import isqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stages.core.settings.data import HASH_BITS

# Side of the square of frequencies that a perceptual hash keeps: 16 * 16 bits distinguish 100,000 images.
_HASH_SIDE = isqrt(HASH_BITS)
# Hex digits of the pixels' SHA-256 that name a group: 128 bits.
GROUP_DIGITS = 32
# Pairs of hashes compared at a time.
_COMPARED = 1 << 12


def perceptual_hash(image: Image.Image) -> str:
    """Return the pHash of an image, 256 bits in hex: the signs of its lowest frequencies about their median.

    Source: https://github.com/JohannesBuchner/imagehash, `phash`.
    """
    import imagehash

    return str(imagehash.phash(image, hash_size=_HASH_SIDE))


def groups(table: pd.DataFrame, limit: int | None) -> "pd.Series[str]":
    """Return the group of each image in `table`: equal for images that must lie in the same split.

    These are copies, near copies (hashes that differ in at most `limit` bits; None: copies only) and
    images that the source groups together, joined transitively. A group is named after the smallest
    `pixels_sha256` in it.
    """
    sources, _ = pd.factorize(table["source_group"].where(table["source_group"] != ""))
    rows = np.flatnonzero(sources >= 0)
    links = [same(digests(table["pixels_sha256"], len(table))), rows[same(sources[rows])]]
    if limit is not None:
        links.append(near(digests(table["phash"], len(table)), limit))
    component = components(links, len(table))
    return table["pixels_sha256"].str[:GROUP_DIGITS].groupby(component).transform("min")


def digests(values: Iterable[str], count: int) -> NDArray[np.bytes_]:
    """Return `count` digests or hashes of 64 hex digits as (count,) 32 bytes, a tenth of the memory of the text."""
    return np.fromiter(map(bytes.fromhex, values), f"S{HASH_BITS // 8}", count)


def components(links: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.int32]:
    """Return the number of the connected component of each of `count` rows, joined by `links`, (2, n) each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(ends.shape[1], dtype=bool), ends), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return component


def same(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return links, (2, n), between rows with equal `keys`, each to the next such row."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    equal = np.flatnonzero(ordered[1:] == ordered[:-1])
    return np.stack([order[equal], order[equal + 1]])


def near(hashes: NDArray[np.bytes_], limit: int) -> NDArray[np.int64]:
    """Return links, (2, n), of rows whose `hashes` differ in at most `limit` bits.

    Two such hashes share at least one of `limit` + 1 bands of bits (the pigeonhole principle;
    Manku, Jain and Das Sarma 2007, "Detecting near-duplicates for web crawling"), so only hashes that
    share a band are compared: time grows with the images, not with their square.
    """
    distinct, first = np.unique(hashes, return_index=True)
    links, fresh = [same(hashes)], 0
    edges = np.linspace(0, HASH_BITS, limit + 2).astype(int).tolist()
    for start, stop in pairwise(edges):
        for pairs in _within(_band(distinct, start, stop), distinct, limit):
            links.append(first[pairs])
            fresh += pairs.shape[1]
            if fresh > len(hashes):
                # Many near copies of one image would be joined over and over.
                links, fresh = [same(components(links, len(hashes)))], 0
    return np.concatenate(links, axis=1)


def _band(hashes: NDArray[np.bytes_], start: int, stop: int) -> NDArray[np.bytes_]:
    """Return the bits from `start` to `stop` of each hash, the bits around them in the same bytes set to 0."""
    octets = hashes.view(np.uint8).reshape(-1, HASH_BITS // 8)[:, start // 8 : -(-stop // 8)].copy()
    octets[:, 0] &= 0xFF >> start % 8
    octets[:, -1] &= 0xFF << -stop % 8 & 0xFF
    return octets.view(f"S{octets.shape[1]}")[:, 0]


def _within(band: NDArray[np.bytes_], hashes: NDArray[np.bytes_], limit: int) -> Iterator[NDArray[np.int64]]:
    """Yield pairs, (2, n), of hashes with equal `band` that differ in at most `limit` bits."""
    words = hashes.view(np.uint64).reshape(-1, HASH_BITS // 64)
    order = np.argsort(band, kind="stable")
    ordered = band[order]
    apart = 1
    while (equal := np.flatnonzero(ordered[apart:] == ordered[:-apart])).size:
        for begin in range(0, equal.size, _COMPARED):
            at = equal[begin : begin + _COMPARED]
            one, other = order[at], order[at + apart]
            close = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= limit
            if close.any():
                yield np.stack([one[close], other[close]])
        apart += 1
