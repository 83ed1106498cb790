"""Intermediate activations, below the trained blocks: computed once and kept on disk during training."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core.dataset.prepared import ArrayWriter, Filed, Lazy, MappedRows
from stages.networks.extraction import Forward

log = logging.getLogger(__name__)
_BATCH = 32


def size_gb(network: Forward, name: str, images: Lazy) -> float:
    """Return the size of the activations `name` of the images on disk, GB."""
    return len(images) * network(images[:1])[name].size * np.float16().nbytes / 1e9


def kept(network: Forward, name: str, images: Lazy, path: Path) -> Lazy:
    """Compute the activations `name` of raw images and write them to the file `path`; return them, float32.

    The file has float16, multiplied by a power of two that brings them to the order of 1: features of random networks
    are around 1e-10, and half precision has no values below 6e-8.
    """
    first = network(images[:1])[name]
    scale = _scale(first)
    with (
        ArrayWriter(path, len(images), first.shape[1:], np.float16) as writer,
        tqdm(total=len(images), unit="image", desc=path.stem, disable=None) as progress,
    ):
        for batch in images.batches(_BATCH):
            writer.append(_halved(network(batch)[name], scale))
            progress.update(len(batch))
    return MappedRows(Filed(path, len(images)), lambda rows: rows.astype(np.float32) / np.float32(scale))


def recomputed(network: Forward, name: str, images: Lazy) -> Lazy:
    """Return the activations `name` of raw images, computed on each access."""
    return MappedRows(images, lambda batch: network(batch)[name])


def _scale(activations: NDArray[np.float32]) -> float:
    usual = float(np.sqrt(np.mean(np.square(activations, dtype=np.float64))))
    return float(2.0 ** -np.round(np.log2(usual))) if np.isfinite(usual) and usual else 1.0


def _halved(found: NDArray[np.float32], scale: float) -> NDArray[np.float16]:
    """Return `found` times `scale` in float16; values some 60,000 times above the usual are clipped."""
    largest = float(np.finfo(np.float16).max) / scale
    return (found.clip(-largest, largest) * np.float32(scale)).astype(np.float16)
