"""Results come in the order of the items, a bounded number of them at a time."""

import threading
import time

import pytest

from stages.images.parallel import WAITING, in_order, processors


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_results_keep_the_order_of_the_items(workers: int | None) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.01 if number < 3 else 0)
        return number * number

    assert list(in_order(slow_at_first, range(40), "squares", workers)) == [n * n for n in range(40)]


def test_no_more_results_are_held_than_wait_for_their_turn() -> None:
    started = []
    lock = threading.Lock()

    def note(number: int) -> int:
        with lock:
            started.append(number)
        return number

    results = in_order(note, range(100), "numbers", workers=2)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 2 * WAITING + 1
    results.close()


def test_an_exception_reaches_the_caller() -> None:
    def fail(number: int) -> int:
        raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 0"):
        list(in_order(fail, range(3), "failing"))


def test_there_is_a_processor() -> None:
    assert processors() >= 1
