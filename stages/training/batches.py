"""The rows of a training as batches, in an order of its own for each epoch that depends only on the seed."""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stages.core.dataset.prepared import Lazy

# Sizes of rows in float32: read at once, and held in memory. Larger data is read again in each epoch.
_READ_BYTES = 8 << 20
_HELD_BYTES = 128 << 20
# Batches per call to TensorFlow, between which training can be interrupted.
_MAX_AT_ONCE = 64


class BatchedDataset:
    """Rows with their targets and weights, as a dataset of batches.

    Small data is held in memory, other data is read as needed; the batches are the same.
    A batch is inputs (n, ...) float32, targets (n, classes) one-hot float32, smoothed by `smoothing` (Szegedy et
    al. 2016, section 7), and sample weights (n,) float32. With `seed` each epoch has its own order, which depends only
    on the seed and the number of the epoch.
    """

    def __init__(
        self,
        inputs: Lazy,
        targets: NDArray[np.int64],
        classes: int,
        batch_size: int,
        *,
        seed: int | None = None,
        class_weights: NDArray[np.float64] | None = None,
        smoothing: float = 0.0,
    ) -> None:
        if len(inputs) != len(targets):
            raise ValueError(f"{len(inputs)} rows with {len(targets)} targets")
        self.inputs = inputs
        self.targets, self.batch_size, self.seed = targets, batch_size, seed
        weights = np.ones(classes) if class_weights is None else class_weights
        self.weights = weights[targets].astype(np.float32)
        self.epoch = 0
        self._order: tf.Variable | None = None
        self._one_hot = np.eye(classes, dtype=np.float32) * np.float32(1 - smoothing) + np.float32(smoothing / classes)

    def __len__(self) -> int:
        return math.ceil(len(self.targets) / self.batch_size)

    @cached_property
    def read_at_once(self) -> int:
        """The number of batches that are read, and passed to TensorFlow, at once."""
        return min(max(1, _READ_BYTES // (self._row.nbytes * self.batch_size)), _MAX_AT_ONCE)

    @cached_property
    def _row(self) -> NDArray[np.float32]:
        row: NDArray[np.float32] = np.asarray(self.inputs[np.zeros(1, dtype=np.int64)], dtype=np.float32)[0]
        return row

    def begin(self, epoch: int) -> None:
        """Set the order of the next passes to that of `epoch`, from 0."""
        self.epoch = epoch
        if self._order is not None:
            self._order.assign(self.order())

    def order(self) -> NDArray[np.int64]:
        """Return the positions of the rows in the order of the epoch."""
        count = len(self.targets)
        if self.seed is None:
            return np.arange(count)
        return np.random.default_rng([self.seed, self.epoch]).permutation(count)

    def dataset(self) -> tf.data.Dataset:
        """Return the batches for Keras; each pass uses the order of the last call of `begin`."""
        return self._held() if len(self.targets) * self._row.nbytes <= _HELD_BYTES else self._read()

    def _held(self) -> tf.data.Dataset:
        """Return batches of rows held in memory, so that a pass does not wait for Python or the disk."""
        count = len(self.targets)
        inputs = np.concatenate([part for part, _, _ in self._parts(np.arange(count))])
        # tf.data runs on the CPU and cannot access the memory of a GPU.
        with tf.device("CPU"):
            held = tuple(tf.constant(array) for array in (inputs, self._one_hot[self.targets], self.weights))
            if self.seed is None:
                return tf.data.Dataset.from_tensor_slices(held).batch(self.batch_size)
            self._order = order = tf.Variable(self.order(), trainable=False)
        positions = tf.data.Dataset.range(count).batch(self.batch_size)
        return positions.map(lambda at: tuple(tf.gather(array, tf.gather(order, at)) for array in held))

    def _read(self) -> tf.data.Dataset:
        """Return batches of rows that are read as needed."""
        signature = [(None, *self._row.shape), (None, self._one_hot.shape[1]), (None,)]
        read = tf.data.Dataset.from_generator(
            lambda: self._parts(self.order()),
            output_signature=tuple(tf.TensorSpec(each, tf.float32) for each in signature),
        )
        # Keras's own PyDataset calls Python for every batch, which takes longer than a training step of a head.
        return read.rebatch(self.batch_size).apply(tf.data.experimental.assert_cardinality(len(self)))

    def _parts(self, order: NDArray[np.int64]) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """Yield inputs, targets and weights in this order, `read_at_once` batches at a time."""
        size = self.read_at_once * self.batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            inputs = np.asarray(self.inputs[rows], dtype=np.float32)
            yield inputs, self._one_hot[self.targets[rows]], self.weights[rows]
