import numpy as np
import pytest

from stages.explanation import embedding
from stages.explanation.embedding import embed, sample


def clouds(count: int, width: int = 64, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return features of `count` images around three centres, and which centre each belongs to."""
    draw = np.random.default_rng(0)
    labels = np.arange(count) % 3
    features = 6 * draw.standard_normal((3, width))[labels] + draw.standard_normal((count, width))
    return (scale * features).astype(np.float32), labels


def nearest_alike(places: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the places whose nearest other has the same label."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(axis=1)] == labels).mean())


# Random networks give features around 1e-10.
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e6])
@pytest.mark.parametrize("count", [12, 90])
def test_what_is_alike_lies_close_together(count: int, scale: float) -> None:
    features, labels = clouds(count, scale=scale)
    places = embed(features, 1)
    assert (places.shape, places.dtype) == ((count, 2), np.float64)
    assert nearest_alike(places, labels) > 0.95


def test_the_same_features_and_seed_give_the_same_places_to_the_last_bit() -> None:
    features, _ = clouds(60, width=700)
    np.testing.assert_array_equal(embed(features, 1), embed(features.copy(), 1))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_of_fewer_than_five_images_distances_are_kept_as_they_are(count: int) -> None:
    features = np.zeros((count, 3), np.float32)
    features[:, 1] = np.arange(count)
    places = embed(features, 1)
    steps = np.diff(places[:, 0])
    assert places.shape == (count, 2)
    np.testing.assert_allclose(steps, steps[:1].repeat(count - 1), rtol=1e-5)
    assert (np.abs(steps) > 0.1).all()


@pytest.mark.parametrize("count", [5, 6, 10])
@pytest.mark.parametrize("width", [1, 2, 300])
def test_few_images_and_narrow_features_have_places_too(count: int, width: int) -> None:
    places = embed(clouds(count, width)[0], 1)
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == count


@pytest.mark.parametrize("count", [1, 3, 40])
def test_features_that_do_not_vary_put_all_images_in_one_place(count: int) -> None:
    assert not embed(np.full((count, 8), 0.3, np.float32), 1).any()


def test_many_equal_images_have_places() -> None:
    features, _ = clouds(6)
    assert np.isfinite(embed(features.repeat(10, axis=0), 1)).all()


def test_a_sample_has_the_same_share_of_each_class_and_is_drawn_from_the_seed() -> None:
    labels = np.array([0] * 600 + [1] * 300 + [2] * 3)
    found = sample(labels, 10, 90, 1)
    assert (len(found), len(set(found))) == (90, 90)
    assert np.bincount(labels[found]).tolist() == [59, 30, 1]
    assert found.tolist() == sorted(found)
    assert found.tolist() == sample(labels, 10, 90, 1).tolist() != sample(labels, 10, 90, 2).tolist()


def test_as_many_as_there_are_is_all() -> None:
    assert sample(np.zeros(7, np.int64), 10, 7, 1).tolist() == list(range(7))


def test_of_very_wide_features_fewer_images_are_taken(monkeypatch) -> None:
    monkeypatch.setattr(embedding, "_MAX_BYTES", 4 * 1000 * 5)
    assert len(sample(np.zeros(9, np.int64), 1000, 9, 1)) == 5
