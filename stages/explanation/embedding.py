"""A map of images by their features, on which those that a network finds similar lie close together."""

import numpy as np
from numpy.typing import NDArray

from stages.core.dataset.features import Positions, stratified_sample

_COMPONENTS = 50
# With fewer images t-SNE has no neighbourhoods to preserve.
_MIN_IMAGES = 5
# Effective number of neighbours: van der Maaten and Hinton 2008 call 5 to 50 typical. t-SNE uses three times as many
# neighbours, which must exist.
_PERPLEXITY = 30.0
_NEIGHBOURS_PER_PERPLEXITY = 3
# Features in memory; the wider they are, the fewer images are shown.
_MAX_BYTES = 128 << 20
_BATCH = 256
# Floor of a feature's variance, as a fraction of the mean variance.
_MIN_VARIANCE_FRACTION = 1e-4


def sample(labels: Positions, width: int, most: int, seed: int) -> Positions:
    """Return the positions of at most `most` images, the same fraction of each class, drawn from `seed`."""
    affordable = max(1, _MAX_BYTES // (np.float32().nbytes * width))
    return stratified_sample(np.arange(len(labels)), labels, min(most, affordable), seed)


def embed(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return a position in the plane, (n, 2), for each row of the features (n, width), standardised here.

    Principal components (at most 50), then t-SNE (van der Maaten and Hinton 2008, "Visualizing Data using t-SNE",
    Journal of Machine Learning Research 9), initialised with the first two. Fewer than five images are placed by
    these alone; constant features give 0.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Sums over several threads differ in their last digits from run to run, and so would the map.
    with threadpool_limits(1):
        components = _components(features, seed)
        if len(features) < _MIN_IMAGES or not components.any():
            return components[:, :2]
        perplexity = min(_PERPLEXITY, (len(features) - 1) / _NEIGHBOURS_PER_PERPLEXITY)
        places = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(components)
    return np.asarray(places, dtype=np.float64)


def _components(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return the principal components of the standardised features, (n, at least 2), padded with 0."""
    from sklearn.decomposition import PCA

    standard = _standardised(features)
    if not standard.any():
        return np.zeros((len(features), 2))
    count = min(_COMPONENTS, *standard.shape)
    found = PCA(count, copy=False, random_state=seed).fit_transform(standard).astype(np.float64)
    return np.pad(found, ((0, 0), (0, max(2 - count, 0))))


def _standardised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features with mean 0, and rows of a norm of about 1; near-constant ones stay small."""
    mean, variance = features.mean(axis=0, dtype=np.float64), features.var(axis=0, dtype=np.float64)
    # Features of random networks are around 1e-10, so there is no absolute threshold.
    least = _MIN_VARIANCE_FRACTION * float(variance.mean()) or 1.0
    scale = 1 / np.sqrt(np.maximum(variance, least) * len(variance))
    batches = [features[start : start + _BATCH] for start in range(0, len(features), _BATCH)]
    return np.concatenate([((batch - mean) * scale).astype(np.float32) for batch in batches])
