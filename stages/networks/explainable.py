"""Keras networks run by OpenVINO that return the feature map beside the features, for heatmaps."""

# First: it loads TensorFlow without the messages of its C++ code.
from stages.networks import keras_engine

# isort: split
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stages.networks import architectures, extraction
from stages.networks.engine import Choice


def of(part: keras.Model, choice: Choice) -> tuple[extraction.Forward, list[dict[str, Any]] | None]:
    """Return a function from a batch of inputs of `part` to its "features" and "map", and `architectures.tail`.

    `part` is a backbone or the top of one. If the tail is None there is no map.
    """
    known = architectures.outputs(part)
    outputs = {name: tensor for name, tensor in known.items() if name in {"features", "map"}}
    network = extraction.run(keras_engine.convert(part.input, outputs), choice, tuple(outputs))

    def forward(batch: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        return network(batch.astype(np.float32, copy=False))

    return forward, architectures.tail(part)
