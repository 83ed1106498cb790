"""Forward passes through the frozen part of a backbone, by either engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.models.engine import FROZEN, Choice, compile_openvino

Forward = Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]]


def forward(folder: Path, choice: Choice) -> Forward:
    """Return a function from a batch of raw pictures (n, size, size, 3) to the frozen part's named outputs.

    The outputs are "features" (n, width) and, where blocks are unfrozen, "cut" (n, ...), both float32.
    """
    if choice.engine == "openvino":
        return _openvino(folder, choice)
    from stages.models.keras_engine import forward as keras_forward

    return keras_forward(folder, choice.precision)


def _openvino(folder: Path, choice: Choice) -> Forward:
    compiled = compile_openvino(folder / FROZEN, choice)
    names = [output.get_any_name() for output in compiled.outputs]

    def run(pictures: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        found = compiled(pictures.astype(np.float32), share_inputs=True)
        return {name: found[index] for index, name in enumerate(names)}

    return run
