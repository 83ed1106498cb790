"""A load on the machine is recognised by the time that threads wait for a processor, or by the spread of the passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.networks import timing
from stages.networks.timing import Passes, measure, measure_quietly


@pytest.mark.parametrize(
    ("seconds", "waited", "expected"),
    [
        ([1.0, 1.1, 1.2], 0.0, False),
        ([1.0, 1.1, 1.2], 0.09, False),
        # A steady load slows all passes down alike.
        ([1.0, 1.0, 1.0], 0.5, True),
        ([1.0, 1.6, 1.7], 0.0, True),
        # Where the kernel does not say, only the spread does.
        ([1.0, 1.1, 1.2], None, False),
        ([1.0, 1.6, 1.7], None, True),
        # A few slow passes do not move the median.
        ([1.0, 1.0, 9.0], 0.0, False),
    ],
)
def test_a_load_is_recognised(seconds: list[float], waited: float | None, *, expected: bool) -> None:
    assert Passes(seconds, waited).under_load is expected
    assert Passes(seconds, waited).latency()["latency_under_load"] is expected


def test_latency_is_the_median_and_the_95th_percentile_in_milliseconds() -> None:
    found = Passes([number / 1000 for number in range(1, 102)], 0.0).latency()
    assert found["latency_ms_median"] == pytest.approx(51)
    assert found["latency_ms_p95"] == pytest.approx(96)


def write_times(folder: Path, times: list[tuple[int, int]]) -> None:
    for number, (run, waited) in enumerate(times):
        (folder / str(number)).mkdir(exist_ok=True)
        (folder / str(number) / "schedstat").write_text(f"{run} {waited} 7\n")


def test_waiting_is_a_fraction_of_the_time_of_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_TASKS", tmp_path)
    write_times(tmp_path, [(1000, 50), (0, 0)])
    found = measure(lambda: write_times(tmp_path, [(1300, 50), (300, 200)]), warmup=0, repeats=1)
    assert found.waited == pytest.approx(200 / 800)


def test_nothing_is_said_where_the_kernel_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_TASKS", tmp_path / "none")
    assert measure(lambda: None, warmup=1, repeats=3).waited is None


@pytest.mark.parametrize(
    ("waited", "kept", "pauses"),
    [
        ([0.0], 0, []),
        ([0.5, 0.01], 1, [2]),
        ([0.5, 0.5, 0.02], 2, [2, 5]),
        # The fastest of those that were all slowed down.
        ([0.5, 0.3, 0.4], 1, [2, 5]),
    ],
)
def test_it_is_measured_again_after_a_pause_a_few_times(
    waited: list[float], kept: int, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Passes([1 + share] * 3, share) for share in waited]
    coming: Iterator[Passes] = iter(found)
    slept: list[int] = []
    monkeypatch.setattr(timing, "measure", lambda *_: next(coming))
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    assert measure_quietly(lambda: None, 1, 3) is found[kept]
    assert slept == pauses
