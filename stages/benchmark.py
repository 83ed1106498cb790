"""Stage `benchmark@B`: what a classifier costs on this machine.

Writes `data/benchmarks/B.json`. The network is measured whole, from raw images to probabilities, by the inference
engine, in float32 or the precision of `features.precision`. Costs depend only on the architecture, so the trained
layers have no weights here (`data/models/B/architecture/`), and retraining does not rerun the stage. Timings are not
metrics: they differ from run to run. Peak memory is that of a process that holds the network and has classified images
one by one; larger batches are measured afterwards.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import run
from stages.core.files import read_json, write_json
from stages.core.params import named_backbone
from stages.core.settings.benchmark import BenchmarkParams
from stages.core.settings.recipes import BenchmarkRecipe, read_recipe
from stages.networks.engine import FROZEN, Choice, choose, compile_openvino, flops, join, read_architecture
from stages.networks.processor import processor

log = logging.getLogger(__name__)
BENCHMARKS = Path("data/benchmarks")
# Minimum number of passes for a batch of any size.
_MIN_PASSES = 3


Network = Callable[[Any], Any]


def latency(network: Network, size: int, params: BenchmarkParams, seed: int) -> dict[str, float]:
    """Return the latency of one image of `size` pixels, ms: median and 95th percentile."""
    taken = _seconds(network, _images(1, size, seed), params.warmup, params.repeats)
    return {
        "latency_ms_median": float(np.median(taken)) * 1e3,
        "latency_ms_p95": float(np.percentile(taken, 95)) * 1e3,
    }


def throughput(network: Network, size: int, params: BenchmarkParams, single: float, seed: int) -> dict[str, float]:
    """Return the highest throughput, images per second, and its batch size.

    `single` is the throughput of one image at a time. Batches grow as long as the throughput does: where a smaller
    batch already saturates the processor, a larger one only takes longer.
    """
    best = {"throughput_per_s": single, "batch_size": 1}
    for count in params.batch_sizes:
        taken = _seconds(network, _images(count, size, seed), 1, max(params.repeats // count, _MIN_PASSES))
        reached = count / float(np.median(taken))
        if reached <= best["throughput_per_s"]:
            break
        best = {"throughput_per_s": reached, "batch_size": count}
    return best


def _images(count: int, size: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.float32)


def _seconds(network: Network, images: Any, warmup: int, repeats: int) -> list[float]:
    for _ in range(warmup):
        network(images)
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        network(images)
        taken.append(time.perf_counter() - begin)
    return taken


def peak_memory_mb() -> float:
    """Return the peak memory of this process so far, MB: `VmHWM`, in KiB, of proc_pid_status(5).

    getrusage(2) would include the memory of the parent before this program was started.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def _cpu_choice(recipe: BenchmarkRecipe) -> Choice:
    """Return the engine and precision of the features, or those of OpenVINO if TensorFlow computed them."""
    choice = choose(recipe.features, recipe.threads)
    if choice.engine == "openvino":
        return choice
    on_cpu = recipe.features.model_copy(update={"engine": "openvino", "precision": "auto"})
    return choose(on_cpu, recipe.threads)


def main() -> None:
    """Write `data/benchmarks/B.json` for the backbone named on the command line."""
    name = named_backbone()
    weights, shape = Path("data/weights") / name, Path("data/models") / name / "architecture"
    size = read_json(weights / "backbone.json")["input_size"]
    recipe = read_recipe(BenchmarkRecipe, name)
    choice = _cpu_choice(recipe)
    whole = join(weights / FROZEN, shape)
    network = compile_openvino(whole, choice)
    figures = latency(network, size, recipe, recipe.seed)
    memory = peak_memory_mb()
    figures |= throughput(network, size, recipe, 1e3 / figures["latency_ms_median"], recipe.seed)
    log.info(
        "%s: %.1f ms for one image, %.0f per second in batches of %d",
        name, *(figures[key] for key in ("latency_ms_median", "throughput_per_s", "batch_size")),
    )  # fmt: skip
    architecture = read_architecture(shape)
    known = vars(choice) | {key: architecture[key] for key in ("parameters", "size_mb")}
    measured = figures | {"flops": flops(whole, size), "peak_memory_mb": memory}
    write_json(BENCHMARKS / f"{name}.json", measured | known | {"processor": processor()})


if __name__ == "__main__":
    run(main)
