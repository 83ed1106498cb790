"""Results come in the order of the items, a bounded number of them at a time, and no process is left behind."""

import faulthandler
import hashlib
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from stages.core.cost import UNLIMITED, Cost, ExceededError, limited_memory
from stages.core.errors import ParameterError, UserError
from stages.core.parallel import BATCH, WAITING, Guard, apart, in_processes, in_threads, processors
from tests.support.processes import alive, await_end

ROOT = Path(__file__).parents[2]
# Of items, for as many processes.
MANY = 12 * BATCH


def test_there_is_a_processor() -> None:
    assert processors() >= 1


# --- threads ---


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_results_keep_the_order_of_the_items(workers: int | None) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * number

    assert list(in_threads(slow_at_first, range(40), "squares", workers)) == [n * n for n in range(40)]


def test_no_more_results_are_held_than_wait_for_their_turn() -> None:
    started = []
    lock = threading.Lock()

    def note(number: int) -> int:
        with lock:
            started.append(number)
        return number

    results = in_threads(note, range(100), "numbers", workers=2)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 2 * WAITING + 1
    results.close()


def test_an_exception_reaches_the_caller() -> None:
    def fail(number: int) -> int:
        raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 0"):
        list(in_threads(fail, range(3), "failing"))


# --- processes ---


def refuse(item: Any, reason: str) -> Any:
    return item, reason


ANY = Guard[Any, Any](UNLIMITED, refuse)


def slow_at_first(number: int) -> tuple[int, int]:
    time.sleep(0.01 if number < BATCH else 0)
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_of_processes_keep_the_order_of_the_items(workers: int) -> None:
    with in_processes(slow_at_first, iter(range(MANY + 1)), MANY + 1, "squares", ANY, workers) as results:
        numbers, processes = zip(*results, strict=True)
    assert list(numbers) == [n * n for n in range(MANY + 1)]
    assert len(set(processes)) == workers
    assert os.getpid() not in processes
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("total", "processes"), [(0, 0), (1, 1), (BATCH, 1)])
def test_few_items_start_few_processes(total: int, processes: int) -> None:
    with in_processes(slow_at_first, range(total), total, "squares", ANY, workers=4) as results:
        assert len(multiprocessing.active_children()) == processes
        assert len(list(results)) == total


def touch(number: int, folder: Path) -> None:
    (folder / str(number)).touch()


def test_processes_work_no_further_ahead_than_results_may_wait(tmp_path: Path) -> None:
    with in_processes(partial(touch, folder=tmp_path), range(MANY), MANY, "files", ANY, workers=2) as results:
        next(results)
        time.sleep(0.05)
        assert len(list(tmp_path.iterdir())) <= 2 * WAITING * BATCH


def test_a_process_computes_with_one_thread() -> None:
    def threads(_: int) -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    assert np.dot([1.0], [1.0]) == 1
    with in_processes(threads, range(MANY), MANY, "threads", ANY, workers=2) as results:
        assert {number for numbers in results for number in numbers} == {1}


def fail(number: int) -> int:
    raise ValueError(f"number {number}")


def test_an_exception_in_a_process_reaches_the_caller_with_its_place() -> None:
    with (
        pytest.raises(ValueError, match=r"number \d+") as caught,
        in_processes(fail, range(MANY), MANY, "failing", ANY, workers=2) as results,
    ):
        list(results)
    assert "in fail" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


def sleep(number: int, folder: Path) -> None:
    touch(os.getpid(), folder)
    time.sleep(600)


def pids(folder: Path, count: int) -> list[int]:
    """Return the processes that have registered in `folder`, once there are `count`."""
    while len(names := list(folder.iterdir())) < count:
        time.sleep(0.01)
    return [int(path.name) for path in names]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_survives_an_end_of_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    program = f"""
from functools import partial
from pathlib import Path
from stages.core.parallel import in_processes
from tests.core.test_parallel import ANY, sleep
with in_processes(partial(sleep, folder=Path({str(tmp_path)!r})), range(1000), 1000, "sleeping", ANY, 3) as results:
    list(results)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        workers = pids(tmp_path, 3)
        assert all(map(alive, workers))
        process.send_signal(how)
    await_end(workers)


def end(number: int, how: signal.Signals | None) -> int:
    if number == BATCH:
        if how:
            os.kill(os.getpid(), how)
        os._exit(3)
    return number


@pytest.mark.parametrize(
    ("how", "said"),
    [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGTERM, "killed by SIGTERM"), (None, "ended with 3")],
)
def test_a_process_that_ends_early_is_one_line(how: signal.Signals | None, said: str) -> None:
    with (
        pytest.raises(UserError, match=rf"^a process of work was {said}; expected a process that runs to the end; if"),
        in_processes(partial(end, how=how), range(MANY), MANY, "work", ANY, workers=2) as results,
    ):
        list(results)
    assert multiprocessing.active_children() == []


# --- what an item may cost ---


def hash_for_ever() -> None:
    """Take processor time within a single call of C."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000_000)


def hold(gigabytes: float) -> int:
    return len(bytearray(int(gigabytes * 1e9)))


def crash(number: int) -> None:
    # pytest's would print where, amid the dots.
    faulthandler.disable()
    os.kill(os.getpid(), number)


SLOW: dict[str, tuple[Callable[[], object], str]] = {
    "processor time in C": (hash_for_ever, "too slow: more than 1 s of processor time to read it"),
    "processor time in Python": (partial(sum, repeat(0)), "too slow: more than 1 s of processor time to read it"),
}
LARGE: dict[str, tuple[Callable[[], object], str]] = {
    "memory at once": (partial(hold, 0.8), "too much memory: more than 0.5 GB to read it"),
    "memory bit by bit": (partial(list, map(bytearray, repeat(10**7))), "too much memory: more than 0.5 GB to read it"),
    "a crash": (partial(crash, signal.SIGSEGV), "broken: reading it crashes (SIGSEGV)"),
    "an abort": (partial(crash, signal.SIGABRT), "broken: reading it crashes (SIGABRT)"),
}
EXCESSIVE = SLOW | LARGE


def costly(item: tuple[int, str]) -> int:
    number, kind = item
    if kind:
        EXCESSIVE[kind][0]()
    return number


@pytest.mark.parametrize(
    ("excessive", "cost"),
    # Half a gigabyte bit by bit may itself take a second, on a busy machine.
    [(SLOW, Cost(seconds=1, memory=0.5e9)), (LARGE, Cost(seconds=60, memory=0.5e9))],
    ids=["time", "memory and crashes"],
)
def test_an_item_that_costs_too_much_or_crashes_is_refused_for_it_and_all_others_are_done(
    excessive: dict[str, Any], cost: Cost
) -> None:
    kinds = {BATCH * place + place: kind for place, kind in enumerate(excessive)}
    # Two in one batch.
    kinds |= {place + 2: kind for place, kind in kinds.items() if kind == "an abort"}
    items = [(number, kinds.get(number, "")) for number in range(MANY)]
    guard = Guard[Any, Any](cost, refuse)
    with in_processes(costly, items, MANY, "work", guard, workers=2) as results:
        found = list(results)
    assert found == [(item, EXCESSIVE[item[1]][1]) if item[1] else item[0] for item in items]
    assert multiprocessing.active_children() == []


def test_what_the_machine_does_not_allow_is_no_fault_of_the_item() -> None:
    program = """
import resource
from stages.core.cost import limited_memory
resource.setrlimit(resource.RLIMIT_AS, (8 * 10**9, 8 * 10**9))
with limited_memory(9e9):
    pass
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert re.fullmatch(r"machine: .*`ulimit -v` allows 8\.0.*; expected more memory; .*\n", ended.stderr)


def test_a_limit_of_memory_ends_with_its_block() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ExceededError), limited_memory(0.1e9):
        hold(0.2)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


# --- a process for one item ---


def test_what_is_computed_apart_comes_back_from_another_process() -> None:
    (square, process), text = apart(lambda number: (slow_at_first(number), "é" * 100_000), 3, "squares")
    assert (square, len(text)) == (9, 100_000)
    assert process != os.getpid()
    assert multiprocessing.active_children() == []


def test_nothing_of_a_process_apart_stays() -> None:
    kept: list[int] = []
    assert apart(lambda number: kept.append(number) or len(kept), 3, "appending") == 1
    assert kept == []


def fault(number: int) -> int:
    raise ParameterError(f"n = {number}", "another number", "change it", "some.n")


def test_a_fault_found_apart_is_the_fault_that_it_was() -> None:
    with pytest.raises(ParameterError, match=r"^n = 3; expected another number") as caught:
        apart(fault, 3, "refusing")
    assert (str(caught.value), caught.value.key) == ("n = 3; expected another number; change it", "some.n")
    assert "in fault" in caught.value.__notes__[0]


def test_a_process_apart_that_is_killed_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^a process of the search was killed by SIGKILL; expected a process"):
        apart(partial(end, how=signal.SIGKILL), BATCH, "the search")
    assert multiprocessing.active_children() == []


def test_a_process_apart_ends_with_its_parent(tmp_path: Path) -> None:
    program = f"""
from functools import partial
from pathlib import Path
from stages.core.parallel import apart
from tests.core.test_parallel import sleep
apart(partial(sleep, folder=Path({str(tmp_path)!r})), 1, "sleeping")
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        workers = pids(tmp_path, 1)
        assert workers != [process.pid]
        process.kill()
    await_end(workers)
