"""Work on many images at once, with results in the order of the images.

Threads share memory, and the interpreter lock: they gain where Pillow, OpenCV and hashlib have much to do
outside it. Processes gain with small images as well, and send to each other what they work on.
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
# Processes at work, by the connection to each.
Crew = dict[Connection, BaseProcess]

# Results waiting for their turn, for each worker: enough that a slow image stops nobody, few enough for memory.
WAITING = 4
# Images that a process is sent at a time: sending costs little then, and a few images start no process.
BATCH = 8
# prctl(2): the signal that a process gets when the one that started it ends.
_PR_SET_PDEATHSIG = 1


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order of `items`, whatever the number of `workers`.

    At most `WAITING` results a worker are held, so memory does not grow with the number of items.
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
    """Give `function(item)` for each of the `total` items, in their order, whatever the number of `workers`.

    At most `WAITING` batches of results a worker are held. A single worker is this process itself. The others
    end with the block, whatever they are at, and with this process, however it ends. Raises UserError
    when one of them ends before.
    """
    workers = min(workers or processors(), -(-total // BATCH))
    if workers <= 1:
        with tqdm(total=total, desc=what, disable=None) as bar:
            yield _counted(([function(item)] for item in items), bar)
        return
    # The bar starts a thread, which a process had better not be copied with.
    with _crew(function, workers) as crew, tqdm(total=total, desc=what, disable=None) as bar:
        yield _counted(_answers(crew, items, what), bar)


def apart(function: Callable[[Item], Result], item: Item, what: str) -> Result:
    """Return `function(item)`, computed in a process of its own, which ends with this one, however that ends.

    Raises UserError when that process ends before.
    """
    with _crew(function, 1) as crew:
        (connection,) = crew
        _ask(crew, connection, [item], what)
        (result,) = _answer(crew, connection, what)
    found: Result = result
    return found


def _counted(batches: Iterable[list[Result]], bar: "tqdm[Any]") -> Iterator[Result]:
    for results in batches:
        yield from results
        bar.update(len(results))


def _answers(crew: Crew, items: Iterable[Item], what: str) -> Iterator[list[Any]]:
    """Yield what comes back of each batch, in order.

    Only an idle process is sent something: it reads then, so that the two never wait for each other to read.
    """
    rest = iter(items)
    idle, busy, done = list(crew), dict[Connection, int](), dict[int, list[Any]]()
    sent = given = 0
    while True:
        while idle and sent - given < WAITING * len(crew) and (batch := list(islice(rest, BATCH))):
            busy[idle[-1]] = sent
            _ask(crew, idle.pop(), batch, what)
            sent += 1
        if given in done:
            yield done.pop(given)
            given += 1
        elif busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                done[busy.pop(connection)] = _answer(crew, connection, what)
                idle.append(connection)
        else:
            return


def _ask(crew: Crew, connection: Connection, batch: list[Any], what: str) -> None:
    try:
        connection.send(batch)
    except OSError as error:
        raise _ended(crew[connection], what) from error


def _answer(crew: Crew, connection: Connection, what: str) -> list[Any]:
    try:
        answer: list[Any] | Exception = connection.recv()
    except (EOFError, OSError) as error:
        raise _ended(crew[connection], what) from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _ended(process: BaseProcess, what: str) -> UserError:
    process.join()
    code = process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return UserError(
        f"a process of {what} was {how}",
        "it at work until the end",
        "if memory ran out, make room or use fewer processors (taskset --cpu-list 0), and run again",
    )


@contextmanager
def _crew(function: Callable[[Any], Any], workers: int) -> Iterator[Crew]:
    """Start processes that answer what they are sent, a batch of items, by `function` of each; end them afterwards.

    Copies of this process start at once, but only Linux is safe to copy so (multiprocessing, "Contexts and
    start methods").
    """
    context = get_context("fork") if sys.platform == "linux" else get_context("spawn")
    crew: Crew = {}
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_serve, args=(function, theirs, [*crew, ours], os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            crew[ours] = process
        yield crew
    finally:
        for process in crew.values():
            process.kill()
        for connection, process in crew.items():
            process.join()
            connection.close()


def _serve(function: Callable[[Any], Any], connection: Connection, others: list[Connection], parent: int) -> None:
    """Answer until the process `parent` ends, whatever way. What is wrong with the code itself is an answer too."""
    from threadpoolctl import threadpool_limits

    # Ctrl-C reaches all processes of a terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        # Copied along; while one copy is open, the end of the parent goes unnoticed.
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
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent raises it)
        error.add_note(traceback.format_exc())
        return error
