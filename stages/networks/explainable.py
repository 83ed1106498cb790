"""Networks in Keras as heatmaps need them: run by OpenVINO, with the feature map beside the features."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stages.networks import architectures, extraction, keras_engine
from stages.networks.engine import Choice


def of(part: keras.Model, choice: Choice) -> tuple[extraction.Forward, list[dict[str, Any]] | None]:
    """Return what computes "features" and "map" of a batch of what `part` takes, and how features come from the map.

    `part` is a backbone or the top of one; the latter is `architectures.tail`. Where that is None there is no map.
    """
    known = architectures.outputs(part)
    outputs = {name: tensor for name, tensor in known.items() if name in {"features", "map"}}
    network = extraction.run(keras_engine.convert(part.input, outputs), choice, tuple(outputs))

    def forward(batch: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        return network(batch.astype(np.float32, copy=False))

    return forward, architectures.tail(part)
