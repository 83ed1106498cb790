"""Batches come back in their order, with what they brought along, whatever their size."""

from pathlib import Path

import numpy as np
import pytest

from stages.core.manifest import PATHS
from stages.exports.prediction import outputs
from tests.support import tiny_export
from tests.support.tiny_export import arrays


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prediction")
    return folder / PATHS["openvino"], tiny_export.write(folder)


def test_each_batch_comes_back_in_its_order_with_its_own_outputs(exported) -> None:
    path, model = exported
    parts = np.split(arrays(60, seed=1), [7, 7 + 20, 7 + 20 + 1, 7 + 20 + 1 + 20])
    found = list(outputs(path, 1, list(enumerate(parts))))
    assert [number for number, _ in found] == list(range(len(parts)))
    for part, (_, said) in zip(parts, found, strict=True):
        np.testing.assert_allclose(said.probabilities, model.predict(part, verbose=0), atol=1e-5)
        expected = model.get_layer("backbone").predict(part, verbose=0)
        np.testing.assert_allclose(said.embedding, expected, atol=1e-5 * np.abs(expected).max())


def test_batches_are_taken_two_ahead_and_no_more(exported) -> None:
    path, _ = exported
    taken, given = [], []

    def batches():
        for number in range(10):
            taken.append(number)
            yield number, arrays(4, seed=number)

    for number, _ in outputs(path, 1, batches()):
        given.append(number)
        assert len(taken) <= len(given) + 2
    assert given == list(range(10))


def test_no_batches_give_no_outputs_and_one_that_is_broken_off_ends(exported) -> None:
    path: Path = exported[0]
    assert list(outputs(path, 1, [])) == []
    started = outputs(path, 1, [(number, arrays(32, seed=1)) for number in range(5)])
    assert next(started)[0] == 0
    started.close()
