"""A sample has the same share of each class, and narrowed features keep what lies between images."""

import numpy as np
import pytest

from stages.core.dataset.features import project, stratified_sample


def test_a_sample_has_the_same_share_of_each_class_and_one_image_at_the_least() -> None:
    labels = np.repeat([0, 1, 2], [80, 38, 2])
    found = stratified_sample(np.arange(120), labels, 30, seed=3)
    assert np.bincount(labels[found]).tolist() == [19, 10, 1]
    assert (np.diff(found) > 0).all()


def test_only_the_positions_given_are_sampled_and_the_seed_decides_which() -> None:
    positions, labels = np.arange(0, 200, 2), np.arange(200) // 2 % 2
    found = stratified_sample(positions, labels, 20, seed=3)
    assert set(found) <= set(positions)
    assert (found == stratified_sample(positions, labels, 20, seed=3)).all()
    assert (found != stratified_sample(positions, labels, 20, seed=4)).any()


def test_as_many_as_there_are_stay_as_they_are() -> None:
    positions = np.array([5, 3, 9])
    assert stratified_sample(positions, np.zeros(10, np.int64), 3, seed=3) is positions


@pytest.mark.parametrize("size", [7, 60])
def test_wide_features_become_narrower_and_keep_the_angles_whatever_the_batches(size: int) -> None:
    features = np.random.default_rng(0).standard_normal((60, 5000), dtype=np.float32)
    features[30:] += features[:30]
    found = np.concatenate(list(project((features[start : start + size] for start in range(0, 60, size)), seed=3)))
    assert (found.shape, found.dtype) == ((60, 2048), np.float32)
    np.testing.assert_allclose(cosines(found), cosines(features), atol=0.1)
    (whole,) = project([features], seed=3)
    np.testing.assert_allclose(found, whole, atol=1e-3)
    (other,) = project([features], seed=4)
    assert np.abs(other - whole).max() > 1


def cosines(features: np.ndarray) -> np.ndarray:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit.T


def test_features_that_are_narrow_stay_as_they_are() -> None:
    features = np.ones((4, 2048), np.float32)
    (found,) = project([features], seed=3)
    assert found is features
