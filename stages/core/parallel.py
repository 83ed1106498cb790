"""Work on many images at once, with results in the order of the images.

Threads share memory and the interpreter lock: they pay off where Pillow, OpenCV and hashlib release it for long.
Processes pay off for small images as well, but everything they work on is sent between them.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from tqdm import tqdm

from stages.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
# Worker processes by the connection to each.
Workers = dict[Connection, BaseProcess]

# Results held back for each worker until their turn: enough that a slow image blocks no one, few enough for memory.
WAITING = 4
# Images sent to a process at a time: sending then costs little, and a handful of images starts no process.
BATCH = 8
# prctl(2): the signal that a process gets when the one that started it ends.
_PR_SET_PDEATHSIG = 1


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order of `items`, with any number of `workers`.

    At most `WAITING` results per worker are held, so memory does not grow with the number of items.
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


# Processes -----------------------------------------------------------------------------------------------


@contextmanager
def in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], total: int, what: str, workers: int | None = None
) -> Iterator[Iterator[Result]]:
    """Provide `function(item)` for each of the `total` items, in their order, with any number of `workers`.

    At most `WAITING` batches of results per worker are held. A single worker is this process itself. Otherwise the
    worker processes are killed when the block is left, or when this process ends for any reason. Raises UserError
    when one of them ends earlier.
    """
    workers = min(workers or processors(), -(-total // BATCH))
    if workers <= 1:
        with tqdm(total=total, desc=what, disable=None) as bar:
            yield _counted(([function(item)] for item in items), bar)
        return
    # The bar starts a thread, and forking a process that has threads is unsafe.
    with _start_workers(function, workers) as started, tqdm(total=total, desc=what, disable=None) as bar:
        yield _counted(_answers(started, items, what), bar)


def apart(function: Callable[[Item], Result], item: Item, what: str) -> Result:
    """Return `function(item)`, computed in a separate process that never outlives this one.

    Raises UserError when that process ends early.
    """
    with _start_workers(function, 1) as workers:
        (connection,) = workers
        _ask(workers, connection, [item], what)
        (result,) = _answer(workers, connection, what)
    found: Result = result
    return found


def _counted(batches: Iterable[list[Result]], bar: "tqdm[Any]") -> Iterator[Result]:
    for results in batches:
        yield from results
        bar.update(len(results))


def _answers(workers: Workers, items: Iterable[Item], what: str) -> Iterator[list[Any]]:
    """Yield the results of each batch, in order.

    Only an idle process is sent a batch: it is reading then, so the two never deadlock waiting for each other to read.
    """
    rest = iter(items)
    idle, busy, done = list(workers), dict[Connection, int](), dict[int, list[Any]]()
    sent = given = 0
    while True:
        while idle and sent - given < WAITING * len(workers) and (batch := list(islice(rest, BATCH))):
            busy[idle[-1]] = sent
            _ask(workers, idle.pop(), batch, what)
            sent += 1
        if given in done:
            yield done.pop(given)
            given += 1
        elif busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                done[busy.pop(connection)] = _answer(workers, connection, what)
                idle.append(connection)
        else:
            return


def _ask(workers: Workers, connection: Connection, batch: list[Any], what: str) -> None:
    try:
        connection.send(batch)
    except OSError as error:
        raise _ended(workers[connection], what) from error


def _answer(workers: Workers, connection: Connection, what: str) -> list[Any]:
    try:
        answer: list[Any] | Exception = connection.recv()
    except (EOFError, OSError) as error:
        raise _ended(workers[connection], what) from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _ended(process: BaseProcess, what: str) -> UserError:
    process.join()
    code = process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return UserError(
        f"a process of {what} was {how}",
        "a process that runs to the end",
        "if memory ran out, free some or use fewer processors (taskset --cpu-list 0), and run again",
    )


@contextmanager
def _start_workers(function: Callable[[Any], Any], count: int) -> Iterator[Workers]:
    """Start `count` processes that answer each batch of items with `function` of each item; kill them afterwards.

    Forked copies of this process start at once, but forking is only safe on Linux (multiprocessing, "Contexts and
    start methods").
    """
    context = get_context("fork") if sys.platform == "linux" else get_context("spawn")
    workers: Workers = {}
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_serve, args=(function, theirs, [*workers, ours], os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            workers[ours] = process
        yield workers
    finally:
        for process in workers.values():
            process.kill()
        for connection, process in workers.items():
            process.join()
            connection.close()


def _serve(function: Callable[[Any], Any], connection: Connection, others: list[Connection], parent: int) -> None:
    """Answer until the process `parent` ends, for any reason. An exception of `function` is an answer too."""
    from threadpoolctl import threadpool_limits

    # Ctrl-C reaches all processes of a terminal; the parent kills this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        # Inherited by the fork; while one copy is open, the end of the parent goes unnoticed.
        other.close()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return
    # There is a process for each processor.
    with threadpool_limits(1):
        while True:
            try:
                items = connection.recv()
            except EOFError:
                return
            connection.send(_each(function, items))


def _each(function: Callable[[Any], Any], items: list[Any]) -> list[Any] | Exception:
    try:
        return [function(item) for item in items]
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        error.add_note(traceback.format_exc())
        return error
