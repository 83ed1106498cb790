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
from ctypes import c_int
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from typing import Any, Generic, TypeVar, cast

from tqdm import tqdm

from stages.core.cost import Cost, ExceededError, limited_memory
from stages.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Results held back for each worker until their turn: enough that a slow image blocks no one, few enough for memory.
WAITING = 4
# Images sent to a process at a time: sending then costs little.
BATCH = 8
# Signals that end a process in which native code fails, as a decoder does that a broken image leads astray.
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
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


@dataclass(frozen=True)
class Guard(Generic[Item, Result]):
    """What an item may cost, and the result of one that costs more or ends its process, with the reason."""

    cost: Cost
    refuse: Callable[[Item, str], Result]


@dataclass(frozen=True)
class _Refused:
    """Stands for an item that has ended a process, when its batch is sent again."""

    item: Any
    reason: str


@contextmanager
def in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    total: int,
    what: str,
    guard: Guard[Item, Result],
    workers: int | None = None,
) -> Iterator[Iterator[Result]]:
    """Provide `function(item)` for each of the `total` items, in their order, with any number of `workers`.

    At most `WAITING` batches of results per worker are held. The worker processes are killed when the block is left, or
    when this process ends for any reason. One that takes too long over an item, or crashes at it, is replaced, and the
    item refused. Raises UserError when one ends otherwise.
    """
    workers = min(workers or processors(), -(-total // BATCH))
    within = partial(_within, function=function, guard=guard)
    # The bar starts a thread, and forking a process that has threads is unsafe.
    with _started(within, what, workers, guard.cost.seconds) as pool, tqdm(total=total, desc=what, disable=None) as bar:
        yield _counted(_answers(pool, items), bar)


def apart(function: Callable[[Item], Result], item: Item, what: str) -> Result:
    """Return `function(item)`, computed in a separate process that never outlives this one.

    Raises UserError when that process ends early.
    """
    with _started(function, what, 1) as pool:
        (connection,) = pool.workers
        pool.ask(connection, [item])
        (result,) = pool.answer(connection)
    found: Result = result
    return found


def _within(item: Item | _Refused, function: Callable[[Item], Result], guard: Guard[Item, Result]) -> Result:
    """Return `function(item)`. When that takes too much processor time the kernel ends this process, even in C."""
    if isinstance(item, _Refused):
        return guard.refuse(item.item, item.reason)
    signal.setitimer(signal.ITIMER_PROF, 0 if guard.cost.seconds == inf else guard.cost.seconds)
    try:
        with limited_memory(guard.cost.memory):
            return function(item)
    except ExceededError:
        return guard.refuse(item, f"too much memory: more than {guard.cost.memory / 1e9:g} GB to read it")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _counted(batches: Iterable[list[Result]], bar: "tqdm[Any]") -> Iterator[Result]:
    for results in batches:
        yield from results
        bar.update(len(results))


@dataclass(frozen=True)
class _Worker:
    """A process, and the place in its batch of the item that it is at, -1 between batches."""

    process: BaseProcess
    place: c_int


class _EndedError(UserError):
    """A process that has ended although it had work to do, by a signal or (a negative number) with an exit status."""

    def __init__(self, what: str, worker: _Worker) -> None:
        worker.process.join()
        code = worker.process.exitcode or 0
        self.signal, self.place = -code, worker.place.value
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        super().__init__(
            f"a process of {what} was {how}",
            "a process that runs to the end",
            "if memory ran out, free some or use fewer processors (taskset --cpu-list 0), and run again",
        )


class _Pool:
    """Processes, by the connection to each, that answer each batch of items with `function` of each item."""

    def __init__(self, function: Callable[[Any], Any], what: str, seconds: float) -> None:
        self.workers: dict[Connection, _Worker] = {}
        self._function, self._what, self._seconds = function, what, seconds

    def start(self, method: str) -> Connection:
        """Start a process. Forked copies of this one start at once, but are only safe on Linux, without threads.

        Source: multiprocessing, "Contexts and start methods".
        """
        context: Any = get_context(method)
        ours, theirs = context.Pipe()
        others = [*self.workers, ours] if method == "fork" else []
        place = RawValue(c_int, -1)
        process: BaseProcess = context.Process(
            target=_serve, args=(self._function, place, theirs, others, os.getpid()), daemon=True
        )
        process.start()
        theirs.close()
        self.workers[ours] = _Worker(process, place)
        return cast("Connection", ours)

    def ask(self, connection: Connection, batch: list[Any]) -> None:
        """Send a batch to an idle process."""
        try:
            connection.send(batch)
        except OSError as error:
            raise _EndedError(self._what, self.workers[connection]) from error

    def answer(self, connection: Connection) -> list[Any]:
        """Return the results of the batch that was sent."""
        try:
            answer: list[Any] | Exception = connection.recv()
        except (EOFError, OSError) as error:
            raise _EndedError(self._what, self.workers[connection]) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def replace(self, ended: _EndedError, batch: list[Any]) -> Connection:
        """Return a new process that is sent what another has `ended` at, the item that it was at marked as refused."""
        reason = self._reason(ended.signal)
        if ended.place < 0 or not reason:
            raise ended
        batch[ended.place] = _Refused(batch[ended.place], reason)
        # There may be threads by now.
        connection = self.start("spawn")
        self.ask(connection, batch)
        return connection

    def _reason(self, number: int) -> str:
        if number == signal.SIGPROF:
            return f"too slow: more than {self._seconds:g} s of processor time to read it"
        return f"broken: reading it crashes ({signal.Signals(number).name})" if number in _CRASHES else ""

    def close(self) -> None:
        """Kill all processes."""
        for worker in self.workers.values():
            worker.process.kill()
        for connection, worker in self.workers.items():
            worker.process.join()
            connection.close()


@contextmanager
def _started(function: Callable[[Any], Any], what: str, count: int, seconds: float = inf) -> Iterator[_Pool]:
    """Provide `count` processes; kill them afterwards."""
    pool = _Pool(function, what, seconds)
    try:
        for _ in range(count):
            pool.start("fork" if sys.platform == "linux" else "spawn")
        yield pool
    finally:
        pool.close()


def _answers(pool: _Pool, items: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the results of each batch, in order.

    Only an idle process is sent a batch: it is reading then, so the two never deadlock waiting for each other to read.
    """
    rest = iter(items)
    most = WAITING * len(pool.workers)
    idle, busy, done = list(pool.workers), dict[Connection, tuple[int, list[Any]]](), dict[int, list[Any]]()
    sent = given = 0
    while True:
        while idle and sent - given < most and (batch := list(islice(rest, BATCH))):
            busy[idle[-1]] = sent, batch
            pool.ask(idle.pop(), batch)
            sent += 1
        if given in done:
            yield done.pop(given)
            given += 1
        elif busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                number, batch = busy.pop(connection)
                try:
                    done[number] = pool.answer(connection)
                    idle.append(connection)
                except _EndedError as ended:
                    busy[pool.replace(ended, batch)] = number, batch
        else:
            return


def _serve(
    function: Callable[[Any], Any], place: c_int, connection: Connection, others: list[Connection], parent: int
) -> None:
    """Answer until the process `parent` ends, for any reason. An exception of `function` is an answer too."""
    from threadpoolctl import threadpool_limits

    # Ctrl-C reaches all processes of a terminal; the parent kills this one, and cleans up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
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
            connection.send(_each(function, items, place))


def _each(function: Callable[[Any], Any], items: list[Any], place: c_int) -> list[Any] | Exception:
    results = []
    try:
        for place.value, item in enumerate(items):
            results.append(function(item))
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        error.add_note(traceback.format_exc())
        return error
    place.value = -1
    return results
