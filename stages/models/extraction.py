"""Forward passes through the frozen part of a backbone, by either engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.models.engine import FROZEN, Choice, compile_openvino

Forward = Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]]


def forward(folder: Path, choice: Choice, only: str | None = None) -> Forward:
    """Return a function from a batch of raw pictures (n, size, size, 3), uint8, to the frozen part's named outputs.

    The outputs are "features" (n, width) and, where blocks are unfrozen, "cut" (n, ...), both float32. With
    `only` it is that one, and nothing is computed that it does not need.
    """
    if choice.engine == "openvino":
        return _openvino(folder, choice, only)
    from stages.models.keras_engine import forward as keras_forward

    return keras_forward(folder, choice.precision, only)


def _openvino(folder: Path, choice: Choice, only: str | None) -> Forward:
    import openvino

    network = openvino.Core().read_model(str(folder / FROZEN))
    if only:
        network = openvino.Model([network.output(only).get_node()], network.get_parameters(), only)
    steps = openvino.preprocess.PrePostProcessor(network)
    # The engine widens bytes on its own threads, and a quarter of the memory is handed over.
    steps.input().tensor().set_element_type(openvino.Type.u8)
    compiled = compile_openvino(steps.build(), choice)
    names = [output.get_any_name() for output in compiled.outputs]

    def run(pictures: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        found = compiled(pictures, share_inputs=True)
        return {name: found[index] for index, name in enumerate(names)}

    return run
