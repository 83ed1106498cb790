"""Stage `benchmark@B`: what a fine-tuned backbone costs on this machine.

Writes `data/benchmarks/B.json`. The network is measured whole, from raw pictures to probabilities, by the
inference engine, in float32 or what `features.precision` chose. The part that was trained has no weights here
(`outline.xml`), since costs follow from the shape: another training of it measures nothing anew. Timings stay out
of the metrics: they differ from run to run.
"""

import logging
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from stages.errors import run
from stages.files import read_json, write_json
from stages.models.engine import FROZEN, OUTLINE, Choice, EngineParams, choose, compile_openvino, flops, join
from stages.params import Section, load, named_backbone, seed, threads

log = logging.getLogger(__name__)


class BenchmarkParams(Section):
    """Section `benchmark`: how often to measure."""

    warmup: int = Field(ge=0, le=100_000)
    repeats: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=65536)


def measure(network: Callable[[Any], Any], size: int, params: BenchmarkParams, seed: int) -> dict[str, float]:
    """Return latency of one picture (median, 95th percentile, ms) and throughput of batches (pictures a second)."""
    pictures = np.random.default_rng(seed).integers(0, 256, (params.batch_size, size, size, 3)).astype(np.float32)
    single = _seconds(network, pictures[:1], params.warmup, params.repeats)
    batches = _seconds(network, pictures, 1, max(params.repeats // params.batch_size, 3))
    return {
        "latency_ms_median": float(np.median(single)) * 1e3,
        "latency_ms_p95": float(np.percentile(single, 95)) * 1e3,
        "throughput_per_s": params.batch_size / float(np.median(batches)),
    }


def _seconds(network: Callable[[Any], Any], pictures: Any, warmup: int, repeats: int) -> list[float]:
    for _ in range(warmup):
        network(pictures)
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        network(pictures)
        taken.append(time.perf_counter() - begin)
    return taken


def processor() -> str:
    """Return the processor's name as Linux gives it, or the architecture's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_memory_mb() -> float:
    """Return the most memory this process has held so far, in MB: `VmHWM`, in KiB, of proc_pid_status(5).

    getrusage(2) keeps what the parent held, before this program was started.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def _cpu_choice(params: EngineParams) -> Choice:
    """Return how the features were computed, or how OpenVINO would choose to where TensorFlow computed them."""
    choice = choose(params, threads())
    if choice.engine == "openvino":
        return choice
    return choose(params.model_copy(update={"engine": "openvino", "precision": "auto"}), threads())


def main() -> None:
    """Write `data/benchmarks/B.json` for the backbone named on the command line."""
    name = named_backbone()
    weights, model = Path("data/weights") / name, Path("data/models") / name
    size = read_json(weights / "backbone.json")["input_size"]
    choice = _cpu_choice(load(EngineParams, "features"))
    frozen = weights / FROZEN
    whole = join(frozen if frozen.exists() else None, model / OUTLINE)
    network = compile_openvino(whole, choice)
    params = load(BenchmarkParams, "benchmark")
    figures = measure(network, size, params, seed())
    log.info(
        "%s: %.1f ms for one picture, %.0f a second", name, figures["latency_ms_median"], figures["throughput_per_s"]
    )
    write_json(
        Path("data/benchmarks") / f"{name}.json",
        figures
        | vars(choice)
        | read_json(model / "outline.json")
        | {
            "batch_size": params.batch_size,
            "flops": flops(whole, size),
            "peak_memory_mb": peak_memory_mb(),
            "processor": processor(),
        },
    )


if __name__ == "__main__":
    run(main)
