"""How long forward passes take, and whether other programs slowed them down.

The kernel counts for how long the threads of a process were ready to run and had to wait for a processor (run_delay of
https://docs.kernel.org/scheduler/sched-stats.html). It sees a steady load, under which all passes are equally slow; the
spread of the passes sees what comes and goes, such as a virtual machine that stands still, and is known everywhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# The fraction of their time that threads wait, and the median by the fastest pass: 0.01 and 1.02 at most on two quiet
# cores (60 ms a pass), 0.84 to 0.88 and 1.2 to 1.6 on the same with ten other programs.
_MAX_WAITED = 0.1
_MAX_SPREAD = 1.5
_TASKS = Path("/proc/self/task")
# Pauses before measuring again, in the hope of a quiet moment.
_PAUSES_SECONDS = (2, 5)


@dataclass(frozen=True)
class Passes:
    """How many seconds each forward pass took.

    `waited` is the fraction of their time, 0 to 1, that the threads of this process waited for a processor, None where
    the kernel does not say. More threads than processors wait for one another.
    """

    seconds: list[float]
    waited: float | None

    @property
    def median(self) -> float:
        """The median, seconds."""
        return float(np.median(self.seconds))

    @property
    def under_load(self) -> bool:
        """Whether the passes were slowed down by something else."""
        return (self.waited or 0) > _MAX_WAITED or self.median > _MAX_SPREAD * min(self.seconds)

    def latency(self) -> dict[str, Any]:
        """Return the latency, ms: median and 95th percentile; and whether it was measured under load."""
        return {
            "latency_ms_median": self.median * 1e3,
            "latency_ms_p95": float(np.percentile(self.seconds, 95)) * 1e3,
            "latency_under_load": self.under_load,
        }


def measure(forward: Callable[[], Any], warmup: int, repeats: int) -> Passes:
    """Measure `repeats` forward passes after `warmup` others."""
    for _ in range(warmup):
        forward()
    before, taken = _run_and_waited(), []
    for _ in range(repeats):
        begin = time.perf_counter()
        forward()
        taken.append(time.perf_counter() - begin)
    after = _run_and_waited()
    if before is None or after is None:
        return Passes(taken, None)
    run, waited = (max(now - was, 0) for was, now in zip(before, after, strict=True))
    return Passes(taken, waited / max(run + waited, 1))


def measure_quietly(forward: Callable[[], Any], warmup: int, repeats: int) -> Passes:
    """Measure, and under load once more after a pause, a few times; return the fastest of these."""
    found = [measure(forward, warmup, repeats)]
    for pause in _PAUSES_SECONDS:
        if not found[-1].under_load:
            return found[-1]
        time.sleep(pause)
        found.append(measure(forward, warmup, repeats))
    return min(found, key=lambda passes: (passes.under_load, passes.median))


def _run_and_waited() -> tuple[int, int] | None:
    """Return for how long the threads of this process have run, and waited for a processor, ns; None where unknown."""
    try:
        times = [path.read_text(encoding="ascii").split() for path in _TASKS.glob("*/schedstat")]
    except OSError:
        # A thread has ended meanwhile, which a network at rest does not do: better no answer than a wrong one.
        return None
    return (sum(int(one[0]) for one in times), sum(int(one[1]) for one in times)) if times else None
