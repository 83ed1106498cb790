"""Running an exported classifier on many images: the engine computes while the next batch is prepared."""

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
# Batches submitted to the engine at a time: one in progress, and one waiting so that the engine is never idle.
_AHEAD = 2

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class Outputs:
    """The outputs for a batch: `probabilities` (n, classes) and `embedding` (n, width), float32."""

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]


def outputs(
    path: Path, threads: int, batches: Iterable[tuple[Tag, NDArray[np.uint8]]]
) -> Iterator[tuple[Tag, Outputs]]:
    """Yield the outputs of the OpenVINO form at `path` for each batch of images (n, size, size, 3), in order.

    Each batch has a tag that is returned with its outputs. Computed in float32, in which the form was compared with
    Keras, on `threads` CPU threads. `_AHEAD` batches are in memory.
    """
    compiled = compile_openvino(path, Choice("openvino", "float32", threads))
    idle = [compiled.create_infer_request() for _ in range(_AHEAD)]
    # With the images, whose memory the engine reads directly.
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
            # Only now, so that the engine is busy while the caller handles the outputs.
            if finished:
                yield finished
        for request, done, _ in busy:
            yield done, _outputs(request)
    finally:
        # Images must not be freed while the engine reads them, even after an exception.
        for request, *_ in busy:
            request.wait()


def _outputs(request: Any) -> Outputs:
    """Wait for a batch; copy its outputs, since the engine reuses their memory for the next batch."""
    request.wait()
    return Outputs(*(np.array(request.get_tensor(name).data) for name in (PROBABILITIES, EMBEDDING)))
