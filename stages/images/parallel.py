"""Work on many pictures at once, with results in the order of the pictures."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

# Results waiting for their turn, for each worker: enough that a slow picture stops nobody, few enough for memory.
WAITING = 4


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order of `items`, whatever the number of `workers`.

    Threads: Pillow, OpenCV and hashlib release the interpreter lock while they work. At most
    `WAITING` results a worker are held, so memory does not grow with the number of items.
    """
    workers = workers or processors()
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(items), desc=what, disable=None) as bar:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > WAITING * workers:
                yield pending.popleft().result()
                bar.update()
        while pending:
            yield pending.popleft().result()
            bar.update()
