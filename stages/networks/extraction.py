"""Forward passes through the frozen network of a backbone, by either engine."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages.core.dataset.prepared import ArrayWriter
from stages.core.errors import EngineError
from stages.networks.engine import FROZEN, Choice, compile_openvino

Forward = Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]]


def forward(folder: Path, choice: Choice, outputs: tuple[str, ...]) -> Forward:
    """Return a function from a batch of raw images (n, size, size, 3), uint8, to outputs of the frozen network.

    `outputs` are names of outputs of the network in `folder`, `data/weights/B`: "features" (n, width), "map" and
    "block_1", "block_2", ... (n, ...), float32. Only what they depend on is computed.
    """
    if choice.engine == "openvino":
        return _openvino(folder / FROZEN, choice, outputs)

    from stages.networks.keras_engine import forward as keras_forward

    return keras_forward(folder, choice.precision, outputs)


def _openvino(path: Path, choice: Choice, outputs: tuple[str, ...]) -> Forward:
    import openvino

    steps = openvino.preprocess.PrePostProcessor(openvino.Core().read_model(str(path)))
    # The engine converts bytes to floats on its own threads, and a quarter of the memory is copied.
    steps.input().tensor().set_element_type(openvino.Type.u8)
    return run(steps.build(), choice, outputs)


def run(network: Any, choice: Choice, outputs: tuple[str, ...]) -> Forward:
    """Return a function from a batch of inputs of an OpenVINO model to its named `outputs`."""
    import openvino

    results = [network.output(name).get_node() for name in outputs]
    compiled = compile_openvino(openvino.Model(results, network.get_parameters(), "wanted"), choice)

    def computed(batch: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        found = compiled(batch, share_inputs=True)
        return {name: found[position] for position, name in enumerate(outputs)}

    return computed


def write_features(path: Path, network: Forward, batches: Iterable[NDArray[np.uint8]], shape: tuple[int, int]) -> None:
    """Write the features of batches of raw images to a `.npy` file of `shape`, (images, width), float32.

    Raises EngineError when the network overflows in its precision.
    """
    count, width = shape
    with (
        ArrayWriter(path, count, (width,), np.float32) as writer,
        tqdm(total=count, unit="image", desc=path.stem, disable=None) as bar,
    ):
        for batch in batches:
            writer.append(_finite(network(batch)["features"]))
            bar.update(len(batch))


def _finite(features: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(features).all():
        raise EngineError(
            "features that are not finite", "finite numbers", "set features.precision to float32 or bfloat16"
        )
    return features
