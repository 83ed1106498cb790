"""Running an exported classifier over many images: the engine computes while the next batch is made ready."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.core.manifest import EMBEDDING, IMAGES, PROBABILITIES
from stages.networks.engine import Choice, compile_openvino

# Images per forward pass.
BATCH = 32
# Batches that the engine has at a time: one that it computes, and one that waits so that it never does.
_AHEAD = 2

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class Outputs:
    """What the network says of a batch: `probabilities` (n, classes) and `embedding` (n, width), float32."""

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]


def outputs(
    path: Path, threads: int, batches: Iterable[tuple[Tag, NDArray[np.uint8]]]
) -> Iterator[tuple[Tag, Outputs]]:
    """Yield what the OpenVINO form at `path` says of each batch of images (n, size, size, 3), in their order.

    Each batch brings along anything that comes back with its outputs. Computed in float32, in which the form was
    compared with Keras, on so many CPU `threads`. `_AHEAD` batches are in memory.
    """
    compiled = compile_openvino(path, Choice("openvino", "float32", threads))
    idle = [compiled.create_infer_request() for _ in range(_AHEAD)]
    # With its images, which the engine reads where they lie.
    busy: deque[tuple[Any, Tag, NDArray[np.uint8]]] = deque()
    try:
        for tag, images in batches:
            finished = None
            if not idle:
                request, done, _ = busy.popleft()
                finished = done, _outputs(request)
                idle.append(request)
            request = idle.pop()
            request.start_async({IMAGES: images}, share_inputs=True)
            busy.append((request, tag, images))
            # Only now: the engine is at work again while the outputs are looked at.
            if finished:
                yield finished
        for request, done, _ in busy:
            yield done, _outputs(request)
    finally:
        # Images must not go while the engine reads them, whatever ended this.
        for request, *_ in busy:
            request.wait()


def _outputs(request: Any) -> Outputs:
    """Wait for a batch; copy what was found, since the engine writes the next batch's into the same memory."""
    request.wait()
    return Outputs(*(np.array(request.get_tensor(name).data) for name in (PROBABILITIES, EMBEDDING)))
