"""Copies of one image: which belong together, and which contradict each other.

Copies are images of equal pixels. Near copies look the same: re-encoded, resized or slightly retouched images, found by
the distance of their perceptual hashes, which know no colour, and of their colours. An image without structure, such as
a plain colour, is a near copy of those in the same colour alone.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import isqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageStat

from stages.core.settings.data import HASH_BITS

# Side of the square of frequencies that a perceptual hash keeps: 16 * 16 bits distinguish 100,000 images.
_HASH_SIDE = isqrt(HASH_BITS)
# Hex digits of the pixels' SHA-256 that name a group: 128 bits.
GROUP_DIGITS = 32
HASH_BYTES = HASH_BITS // 8
# Side of the grid in which colours are compared, and the bytes of a hash followed by Cb and Cr in each of its fields.
_COLOUR_SIDE = 2
LOOKS_BYTES = HASH_BYTES + 2 * _COLOUR_SIDE**2
# Side of the grey image that a perceptual hash is made of, as imagehash has it, and the standard deviation of its grey
# levels below which the hash would be that of noise.
_GREY_SIDE, _MIN_DEVIATION = 4 * _HASH_SIDE, 0.5
# Cb and Cr of grey.
_NEUTRAL = 128
# Pairs of hashes compared at a time.
_COMPARED = 1 << 12


def perceptual_hash(image: Image.Image) -> str:
    """Return the pHash of an RGB image, 256 bits in hex: the signs of its lowest frequencies about their median.

    That of an image without structure is a digest of its colours. Source:
    https://github.com/JohannesBuchner/imagehash, `phash`.
    """
    import imagehash

    grey = image.convert("L").resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.LANCZOS)
    if ImageStat.Stat(grey).stddev[0] < _MIN_DEVIATION:
        return hashlib.sha256(_averaged(image).tobytes()).hexdigest()
    return str(imagehash.phash(grey, hash_size=_HASH_SIDE))


def colours(image: Image.Image) -> str:
    """Return the colours of an RGB image, 64 bits in hex: Cb and Cr in a grid of 2 x 2, each from 0 to 255."""
    return np.asarray(_averaged(image).convert("YCbCr"))[..., 1:].tobytes().hex()


def _averaged(image: Image.Image) -> Image.Image:
    return image.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)


def groups(table: pd.DataFrame, limit: int | None) -> "pd.Series[str]":
    """Return the group of each image in `table`: equal for images that must lie in the same split.

    These are copies, near copies (hashes that differ in at most `limit` bits, and colours in at most a quarter as many
    levels; None: copies only) and images that the source groups together, joined transitively. A group is named after
    the smallest `pixels_sha256` in it.
    """
    sources, _ = pd.factorize(table["source_group"].where(table["source_group"] != ""))
    rows = np.flatnonzero(sources >= 0)
    links = [same(digests(table["pixels_sha256"], len(table))), rows[same(sources[rows])]]
    if limit is not None:
        links.append(near(digests(table["phash"] + table["colours"], len(table), LOOKS_BYTES), limit))
    component = components(links, len(table))
    return table["pixels_sha256"].str[:GROUP_DIGITS].groupby(component).transform("min")


def digests(values: Iterable[str], count: int, size: int = HASH_BYTES) -> NDArray[np.bytes_]:
    """Return `count` digests in hex digits as (count,) values of `size` bytes, a tenth of the memory of the text."""
    return np.fromiter(map(bytes.fromhex, values), f"S{size}", count)


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


def near(looks: NDArray[np.bytes_], limit: int) -> NDArray[np.int64]:
    """Return links, (2, n), of rows whose hashes differ in at most `limit` bits, and whose colours agree.

    Each of `looks` is a perceptual hash followed by the colours.

    Two such hashes share at least one of `limit` + 1 bands of bits (the pigeonhole principle;
    Manku, Jain and Das Sarma 2007, "Detecting near-duplicates for web crawling"), so only hashes that
    share a band are compared: time grows with the images, not with their square.
    """
    distinct, first = np.unique(looks, return_index=True)
    octets = distinct.view(np.uint8).reshape(-1, LOOKS_BYTES)
    tints = octets[:, HASH_BYTES:]
    links, fresh = [same(looks)], 0
    edges = np.linspace(0, HASH_BITS, limit + 2).astype(int).tolist()
    for start, stop in pairwise(edges):
        for close in _within(_band(octets, start, stop), octets, limit):
            pairs = close[:, _alike(tints[close], limit / 4)]
            links.append(first[pairs])
            fresh += pairs.shape[1]
            if fresh > len(looks):
                # Many near copies of one image would be joined over and over.
                links, fresh = [same(components(links, len(looks)))], 0
    return np.concatenate(links, axis=1)


def _alike(tints: NDArray[np.uint8], most: float) -> NDArray[np.bool_]:
    """Return which of the pairs `tints`, (2, n, bytes), have the same colours but for saturation: grey fits all.

    They may differ by half the strength of the paler one: in a root mean square of `most` levels, or a quarter of that
    if it is hardly coloured.
    """
    pale, vivid = tints.astype(np.float32) - _NEUTRAL
    swapped = _strength(pale) > _strength(vivid)
    pale[swapped], vivid[swapped] = vivid[swapped], pale[swapped]
    share = (pale * vivid).sum(axis=1) / np.maximum(np.square(vivid).sum(axis=1), 1)
    difference = _strength(pale - np.clip(share, 0, 1)[:, None] * vivid)
    return np.asarray(difference <= np.clip(_strength(pale) / 2, most / 4, most))


def _strength(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the root mean square of colours, (n, values), as distances from grey."""
    return np.asarray(np.sqrt(np.square(colours).mean(axis=1)))


def _band(looks: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.bytes_]:
    """Return the bits from `start` to `stop` of each hash, the bits around them in the same bytes set to 0."""
    octets = looks[:, start // 8 : -(-stop // 8)].copy()
    octets[:, 0] &= 0xFF >> start % 8
    octets[:, -1] &= 0xFF << -stop % 8 & 0xFF
    return octets.view(f"S{octets.shape[1]}")[:, 0]


def _within(band: NDArray[np.bytes_], looks: NDArray[np.uint8], limit: int) -> Iterator[NDArray[np.int64]]:
    """Yield pairs, (2, n), of hashes with equal `band` that differ in at most `limit` bits."""
    words = looks.view(np.uint64)[:, : HASH_BITS // 64]
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
