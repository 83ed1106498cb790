"""Stage benchmark measures what a network costs, one picture at a time and in the batches that suit it."""

import time

import numpy as np
import pytest

from stages.benchmark import BenchmarkParams, latency, throughput

PARAMS = BenchmarkParams(warmup=2, repeats=8, batch_sizes=[2, 8, 32])


class Network:
    """Takes so many ms, as `cost` says of the number of pictures, and notes what it is given."""

    def __init__(self, cost: float, power: float) -> None:
        self.cost, self.power = cost, power
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pictures: np.ndarray) -> None:
        self.shapes.append(pictures.shape)
        time.sleep(self.cost / 1e3 * len(pictures) ** self.power)


def test_latency_is_that_of_one_picture_after_warming_up() -> None:
    network = Network(1, 1)
    found = latency(network, 40, PARAMS, seed=1)
    assert network.shapes == [(1, 40, 40, 3)] * (2 + 8)
    assert 1 <= found["latency_ms_median"] <= found["latency_ms_p95"]


def test_the_largest_batch_is_best_where_a_pass_takes_the_same_for_any_number() -> None:
    network = Network(2, 0)
    found = throughput(network, 32, PARAMS, single=500, seed=1)
    assert found["batch_size"] == 32
    assert found["throughput_per_s"] > 500
    # One pass to warm up, then as many pictures as `repeats` says, three passes at least.
    assert [shape[0] for shape in network.shapes] == [2] * (1 + 4) + [8] * (1 + 3) + [32] * (1 + 3)


def test_larger_batches_are_not_tried_once_one_is_no_faster() -> None:
    network = Network(1, 2)
    assert throughput(network, 32, PARAMS, single=1000, seed=1) == {"throughput_per_s": 1000, "batch_size": 1}
    assert {shape[0] for shape in network.shapes} == {2}


def test_without_batches_the_throughput_is_that_of_one_picture_at_a_time() -> None:
    params = PARAMS.model_copy(update={"batch_sizes": ()})
    assert throughput(Network(1, 1), 32, params, single=12.5, seed=1) == {"throughput_per_s": 12.5, "batch_size": 1}


@pytest.mark.parametrize("sizes", [[16, 4], [4, 4]])
def test_batches_are_named_once_the_smallest_first(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="each number once, the smallest first"):
        BenchmarkParams(warmup=1, repeats=1, batch_sizes=sizes)
