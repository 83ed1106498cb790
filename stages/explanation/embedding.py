"""A map of images by their features: those that a network sees as alike lie close together."""

import numpy as np
from numpy.typing import NDArray

from stages.heads.sampling import Positions, stratified

_COMPONENTS = 50
# Of fewer images t-SNE has no neighbourhoods to keep.
_FEWEST = 5
# Neighbours that an image is kept close to: van der Maaten and Hinton 2008 call 5 to 50 typical. t-SNE looks at
# three times as many, and there must be so many.
_PERPLEXITY = 30.0
_LOOKED_AT = 3
# Features in memory; of wider ones fewer images are taken.
_MOST_BYTES = 128 << 20
_BATCH = 256
# Of the mean variance: no feature counts as varying less.
_LEAST_SHARE_OF_VARIANCE = 1e-4


def sample(labels: Positions, width: int, most: int, seed: int) -> Positions:
    """Return the positions of the images to show: at most `most`, of each class the same share, drawn from `seed`."""
    affordable = max(1, _MOST_BYTES // (np.float32().nbytes * width))
    return stratified(np.arange(len(labels)), labels, min(most, affordable), seed)


def embed(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return a place in the plane, (n, 2), for each row of the features (n, width), standardised here.

    Principal components (at most 50), then t-SNE (van der Maaten and Hinton 2008, "Visualizing Data using t-SNE",
    Journal of Machine Learning Research 9), begun at the first two. These alone are the place of fewer than five
    images; features that do not vary give 0.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Sums over several threads end in other digits, and t-SNE in other places, from run to run.
    with threadpool_limits(1):
        components = _components(features, seed)
        if len(features) < _FEWEST or not components.any():
            return components[:, :2]
        perplexity = min(_PERPLEXITY, (len(features) - 1) / _LOOKED_AT)
        places = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(components)
    return np.asarray(places, dtype=np.float64)


def _components(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return the principal components of the standardised features, (n, at least 2): what is missing is 0."""
    from sklearn.decomposition import PCA

    standard = _standardised(features)
    if not standard.any():
        return np.zeros((len(features), 2))
    count = min(_COMPONENTS, *standard.shape)
    found = PCA(count, copy=False, random_state=seed).fit_transform(standard).astype(np.float64)
    return np.pad(found, ((0, 0), (0, max(2 - count, 0))))


def _standardised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features with mean 0, and rows of a norm of about 1; one that hardly varies stays small."""
    mean, variance = features.mean(axis=0, dtype=np.float64), features.var(axis=0, dtype=np.float64)
    # Features of random networks lie around 1e-10: nothing here compares them with a fixed number.
    least = _LEAST_SHARE_OF_VARIANCE * float(variance.mean()) or 1.0
    scale = 1 / np.sqrt(np.maximum(variance, least) * len(variance))
    batches = [features[start : start + _BATCH] for start in range(0, len(features), _BATCH)]
    return np.concatenate([((batch - mean) * scale).astype(np.float32) for batch in batches])
