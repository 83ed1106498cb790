"""Reference statistics of the embeddings of a classifier's own images, with which new images are compared.

The distance of an image from the training data is the Mahalanobis distance of its embedding to the nearest class mean,
with one covariance for all classes (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
samples and adversarial attacks", https://arxiv.org/abs/1807.03888), shrunk towards a multiple of the identity by an
amount that depends on the number of images (Chen et al. 2010, "Shrinkage algorithms for MMSE covariance estimation",
https://arxiv.org/abs/0907.4698, eq. 23). Wide embeddings are hashed to `COLUMNS` first, with signs, which keeps
distances on average (Weinberger et al. 2009, "Feature hashing for large scale multitask learning",
https://arxiv.org/abs/0902.2206).

Means and covariance are those of training images. Predicted classes, confidences and distances are those of the
validation images, predicted by fits that had not seen them: on images that it was fitted on a classifier is more
confident, and they lie closer to their own means, than on any new images. The exported head may be fitted on the
validation images too, so what it says of them is no reference.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from stages.core.params import Section

COLUMNS = 64
# Floor the variance at this fraction of the mean variance, so that near-constant columns are not amplified.
_MIN_VARIANCE_FRACTION = 1e-4

Vectors = NDArray[np.floating]


class Reference(Section):
    """The content of `reference.json`.

    `means` has a row of at most `COLUMNS` numbers for each class with training images, `whitening` is the square
    matrix that transforms differences from them to unit covariance. `validation` has the positions of the
    actual and the predicted class, the confidence (0 to 1) and the distance of each validation image.
    """

    training_images: int = Field(ge=1)
    means: tuple[tuple[float, ...], ...] = Field(min_length=1)
    whitening: tuple[tuple[float, ...], ...] = Field(min_length=1)
    validation: tuple[tuple[NonNegativeInt, NonNegativeInt, float, float], ...] = Field(min_length=1)

    def measure(self, embeddings: Vectors) -> NDArray[np.float64]:
        """Return the distance of each embedding (n, width) to the nearest class mean, (n,)."""
        return _distances(hashed(embeddings), np.array(self.means), np.array(self.whitening))


def hashed(embeddings: Vectors) -> NDArray[np.float64]:
    """Return embeddings (n, width) hashed to at most `COLUMNS` columns, for comparison.

    Each number of a wide one is added to or subtracted from one column, the same with any version of NumPy.
    """
    width = embeddings.shape[1]
    if width <= COLUMNS:
        return embeddings.astype(np.float64)
    # NumPy guarantees only that the raw bits of a generator never change (NEP 19).
    bits = np.random.PCG64(0).random_raw(width)
    signs = np.where(bits >> np.uint64(63), 1.0, -1.0)
    columns = (bits % np.uint64(COLUMNS)).astype(np.intp)
    found = np.zeros((len(embeddings), COLUMNS))
    np.add.at(found.T, columns, (embeddings * signs).T)
    return found


def fit(
    training: Vectors, labels: Sequence[int], validation: Vectors, actual: Sequence[int], probabilities: Vectors
) -> Reference:
    """Return the reference from training images with `labels` and validation images with `actual` classes.

    `training` (n, columns) and `validation` (m, columns) are `hashed` embeddings; classes are positions among the
    columns of `probabilities` (m, classes), which are those of the validation images by fits that had not seen them.
    """
    present, position = np.unique(labels, return_inverse=True)
    means = np.stack([training[position == number].mean(axis=0) for number in range(len(present))])
    whitening = _whitening(training - means[position])
    distances = _distances(validation, means, whitening)
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    return Reference(
        training_images=len(training),
        means=_rows(means),
        whitening=_rows(whitening),
        validation=tuple(
            (int(label), int(answer), float(confidence), float(distance))
            for label, answer, confidence, distance in zip(actual, predicted, confidences, distances, strict=True)
        ),
    )


def _distances(vectors: Vectors, means: Vectors, whitening: Vectors) -> NDArray[np.float64]:
    # One class at a time: all classes at once would take that many times the memory.
    found = [np.linalg.norm((vectors - mean) @ whitening, axis=1) for mean in means]
    return np.asarray(np.min(found, axis=0))


def _whitening(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix W for which the rows of `residuals` @ W have about unit covariance, after shrinking."""
    variance = np.mean(residuals**2, axis=0)
    scale = np.sqrt(np.maximum(variance, _MIN_VARIANCE_FRACTION * variance.mean()))
    scale[scale == 0] = 1
    standard = residuals / scale
    count, width = standard.shape
    covariance = standard.T @ standard / count
    trace, square = np.trace(covariance), np.sum(covariance**2)
    excess = (count + 1 - 2 / width) * (square - trace**2 / width)
    shrinkage = min(1.0, float(((1 - 2 / width) * square + trace**2) / excess)) if excess > 0 else 1.0
    shrunk = (1 - shrinkage) * covariance + shrinkage * (trace / width or 1.0) * np.eye(width)
    # With covariance = L L^T it is the inverse of L^T, divided by the scale of each column.
    return np.asarray(np.linalg.inv(np.linalg.cholesky(shrunk)).T / scale[:, None])


def _rows(matrix: Vectors) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in matrix)
