"""Stage `benchmark@B`: what a classifier costs on this machine.

Writes `data/benchmarks/B.json`. The network is measured whole, from raw images to probabilities, as `stages.predict`
and the exports run it: by OpenVINO in float32, whatever precision the features are computed in. Costs depend only on
the architecture, so the trained layers have no weights here (`data/models/B/architecture/`), and retraining does not
rerun the stage. Timings are not metrics: they differ from run to run. What is measured on a busy machine is measured
again after a pause, and if that does not help it is marked: `latency_under_load`, `throughput_under_load`. Peak memory
is that of a process that holds the network and has classified images one by one; larger batches are measured
afterwards.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import run
from stages.core.files import read_json, write_json
from stages.core.params import named_backbone
from stages.core.settings.benchmark import BenchmarkParams
from stages.core.settings.recipes import BenchmarkRecipe, read_recipe
from stages.networks.engine import FROZEN, Choice, compile_openvino, flops, join, read_architecture
from stages.networks.processor import processor
from stages.networks.timing import measure_quietly

log = logging.getLogger(__name__)
BENCHMARKS = Path("data/benchmarks")
# Minimum number of passes for a batch of any size.
_MIN_PASSES = 3


Network = Callable[[Any], Any]


def latency(network: Network, size: int, params: BenchmarkParams, seed: int) -> dict[str, Any]:
    """Return the latency of one image of `size` pixels (`Passes.latency`)."""
    return measure_quietly(partial(network, _images(1, size, seed)), params.warmup, params.repeats).latency()


def throughput(
    network: Network, size: int, params: BenchmarkParams, single: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Return the highest throughput, images per second, its batch size, and whether it was measured under load.

    `single` is the latency of one image (`Passes.latency`), the first that batches are compared with. They grow as long
    as the throughput does: where a smaller batch already saturates the processor, a larger one only takes longer.
    """
    best = {"throughput_per_s": 1e3 / single["latency_ms_median"], "batch_size": 1}
    under_load = single["latency_under_load"]
    for count in params.batch_sizes:
        forward = partial(network, _images(count, size, seed))
        passes = measure_quietly(forward, 1, max(params.repeats // count, _MIN_PASSES))
        under_load = under_load or passes.under_load
        reached = count / passes.median
        if reached <= best["throughput_per_s"]:
            break
        best = {"throughput_per_s": reached, "batch_size": count}
    return best | {"throughput_under_load": under_load}


def _images(count: int, size: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.float32)


def peak_memory_mb() -> float:
    """Return the peak memory of this process so far, MB: `VmHWM`, in KiB, of proc_pid_status(5).

    getrusage(2) would include the memory of the parent before this program was started.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Write `data/benchmarks/B.json` for the backbone named on the command line."""
    name = named_backbone()
    weights, shape = Path("data/weights") / name, Path("data/models") / name / "architecture"
    size = read_json(weights / "backbone.json")["input_size"]
    recipe = read_recipe(BenchmarkRecipe, name)
    choice = Choice("openvino", "float32", recipe.threads)
    whole = join(weights / FROZEN, shape)
    network = compile_openvino(whole, choice)
    figures = latency(network, size, recipe, recipe.seed)
    memory = peak_memory_mb()
    figures |= throughput(network, size, recipe, figures, recipe.seed)
    log.info(
        "%s: %.1f ms for one image, %.0f per second in batches of %d",
        name, *(figures[key] for key in ("latency_ms_median", "throughput_per_s", "batch_size")),
    )  # fmt: skip
    if figures["latency_under_load"] or figures["throughput_under_load"]:
        log.warning(
            "%s was measured on a busy machine; 'dvc repro -f -s benchmark@%s' measures it again", name, name,
        )  # fmt: skip
    architecture = read_architecture(shape)
    known = vars(choice) | {key: architecture[key] for key in ("parameters", "size_mb")}
    measured = figures | {"flops": flops(whole, size), "peak_memory_mb": memory}
    write_json(BENCHMARKS / f"{name}.json", measured | known | {"processor": processor()})


if __name__ == "__main__":
    run(main)
