"""Stage benchmark measures what a network costs, one image at a time and in the batches that suit it."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages import benchmark
from stages.benchmark import latency, throughput
from stages.core.files import read_json, write_json
from stages.core.head import Head, Layer
from stages.core.settings.benchmark import BenchmarkParams
from stages.networks import architectures, keras_engine, timing
from stages.networks.engine import write_architecture
from tests.support.clone import environment
from tests.support.tiny_backbone import write_small_cnn

ROOT = Path(__file__).parents[2]

PARAMS = BenchmarkParams(warmup=2, repeats=8, batch_sizes=[2, 8, 32])


@pytest.fixture(autouse=True)
def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_PAUSES_SECONDS", ())


def single(milliseconds: float, *, under_load: bool = False) -> dict[str, float | bool]:
    """Return the latency of one image."""
    return {"latency_ms_median": milliseconds, "latency_ms_p95": milliseconds, "latency_under_load": under_load}


class Network:
    """Takes `cost` ms, depending on the number of images, and records its inputs."""

    def __init__(self, cost: float, power: float) -> None:
        self.cost, self.power = cost, power
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: np.ndarray) -> None:
        self.shapes.append(images.shape)
        time.sleep(self.cost / 1e3 * len(images) ** self.power)


def test_latency_is_that_of_one_image_after_warming_up() -> None:
    network = Network(1, 1)
    found = latency(network, 40, PARAMS, seed=1)
    assert network.shapes == [(1, 40, 40, 3)] * (2 + 8)
    assert 1 <= found["latency_ms_median"] <= found["latency_ms_p95"]


def test_the_largest_batch_is_best_where_a_pass_takes_the_same_for_any_number() -> None:
    network = Network(2, 0)
    found = throughput(network, 32, PARAMS, single(2), seed=1)
    assert found["batch_size"] == 32
    assert found["throughput_per_s"] > 500
    # One pass to warm up, then as many images as `repeats` says, three passes at least.
    assert [shape[0] for shape in network.shapes] == [2] * (1 + 4) + [8] * (1 + 3) + [32] * (1 + 3)


def test_larger_batches_are_not_tried_once_one_is_no_faster() -> None:
    network = Network(1, 2)
    found = throughput(network, 32, PARAMS, single(1), seed=1)
    assert (found["throughput_per_s"], found["batch_size"]) == (1000, 1)
    assert {shape[0] for shape in network.shapes} == {2}


def test_without_batches_the_throughput_is_that_of_one_image_at_a_time() -> None:
    params = PARAMS.model_copy(update={"batch_sizes": ()})
    assert throughput(Network(1, 1), 32, params, single(80), seed=1) == {
        "throughput_per_s": 12.5,
        "batch_size": 1,
        "throughput_under_load": False,
    }


@pytest.mark.parametrize("sizes", [(), (2,)])
def test_a_throughput_found_from_a_latency_under_load_is_marked(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "measure_quietly", lambda *_: timing.Passes([0.5, 0.5, 0.5], waited=0.0))
    params = PARAMS.model_copy(update={"batch_sizes": sizes})
    for under_load in (False, True):
        found = throughput(Network(1, 1), 32, params, single(80, under_load=under_load), seed=1)
        assert (found["throughput_per_s"], found["throughput_under_load"]) == (12.5, under_load)


@pytest.mark.parametrize("sizes", [[16, 4], [4, 4]])
def test_batches_are_named_once_the_smallest_first(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="each number once, the smallest first"):
        BenchmarkParams(warmup=1, repeats=1, batch_sizes=sizes)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Return a project with classifiers whose blocks are frozen, trained in part, and trained from scratch."""
    root = tmp_path_factory.mktemp("benchmark")
    write_network(root, "frozen", "random", "features")
    write_network(root, "partly", "random", "block_1")
    write_network(root, "scratch", "none", "image")
    params = {
        "seed": 1,
        "threads": 1,
        "warmup": 1,
        "repeats": 3,
        "batch_sizes": [2],
    }
    for name in ("frozen", "partly", "scratch"):
        write_json(root / f"data/recipes/{name}/benchmark.json", params)
    (root / "params.yaml").write_text("backbones: {frozen: {}, partly: {}, scratch: {}}\n", encoding="utf-8")
    return root


def write_network(root: Path, name: str, origin: str, start: str) -> None:
    network = write_small_cnn(root / "data/weights" / name, origin)
    head, upper = Head((Layer(np.ones((8, 3), np.float32), np.ones(3, np.float32)),)), None
    if start != "features":
        part = architectures.top(network, start)
        upper = keras_engine.convert(part.input, {"features": part.output})
    write_architecture(root / "data/models" / name / "architecture", head, 500_000, start, upper)


@pytest.mark.parametrize("name", ["frozen", "partly", "scratch"])
def test_the_whole_network_is_measured_without_tensorflow(project: Path, name: str) -> None:
    code = "import sys; from stages.benchmark import main; main(); print({'tensorflow', 'keras'} & set(sys.modules))"
    command, settings = [sys.executable, "-c", code, name], environment(project) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
    found = read_json(project / f"data/benchmarks/{name}.json")
    assert [*found] == [
        "batch_size", "engine", "flops", "latency_ms_median", "latency_ms_p95", "latency_under_load", "parameters",
        "peak_memory_mb", "precision", "processor", "size_mb", "threads", "throughput_per_s", "throughput_under_load",
    ]  # fmt: skip
    assert (found["parameters"], found["size_mb"]) == (500_000, 2.0)
    # As predict and the exports run it, whatever this processor computes fastest.
    assert (found["engine"], found["precision"]) == ("openvino", "float32")
    # Two convolutions and the classes, whatever of them was trained.
    assert found["flops"] == 2 * (32 * 32 * 4 * 27 + 16 * 16 * 8 * 36 + 8 * 3)
    assert 0 < found["latency_ms_median"] <= found["latency_ms_p95"]
