"""The linear probe predicts each picture without having seen it, whatever the scale and width of its features."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from stages.results import linear_probe
from stages.results.linear_probe import out_of_fold, reduction, usable_folds

LABELS = np.repeat([0, 1, 2], 20)
ALONE = np.arange(60)


def separable(width: int = 8, scale: float = 1.0) -> NDArray[np.float32]:
    """Return features of 60 pictures whose three classes lie apart."""
    random = np.random.default_rng(1)
    features = random.standard_normal((60, width)) + 4 * random.standard_normal((3, width))[LABELS]
    return (scale * features).astype(np.float32)


def standard(features: NDArray[np.float32], size: int = 60) -> NDArray[np.float32]:
    batches = [features[start : start + size] for start in range(0, len(features), size)]
    reduce = reduction(batches, seed=3)
    return np.concatenate([reduce(batch) for batch in batches])


def predicted(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int = 3
) -> NDArray[np.float64]:
    return out_of_fold(features.__getitem__, labels, groups, folds, seed)


def accuracy(found: NDArray[np.float64], labels: NDArray[np.int64] = LABELS) -> float:
    return float((found.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e6])
@pytest.mark.parametrize("width", [8, 3000])
def test_classes_that_lie_apart_are_told_apart_whatever_the_scale_and_the_width(scale: float, width: int) -> None:
    features = standard(separable(width, scale))
    assert features.shape == (60, min(width, 2048))
    assert float((features**2).sum(axis=1).mean()) == pytest.approx(1, rel=0.1)
    found = predicted(features, LABELS, ALONE, 5)
    assert accuracy(found) == 1
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_wide_features_of_few_pictures_predict_as_fits_on_all_their_columns_do() -> None:
    features = standard(np.random.default_rng(5).standard_normal((60, 300)).astype(np.float32))
    training, held_out = next(iter(StratifiedGroupKFold(5, shuffle=True, random_state=3).split(LABELS, LABELS, ALONE)))
    model = LogisticRegression(C=30.0, max_iter=1000).fit(features[training], LABELS[training])
    expected = model.predict_proba(features[held_out])
    np.testing.assert_allclose(predicted(features, LABELS, ALONE, 5)[held_out], expected, atol=2e-3)


def test_features_may_come_in_batches_of_any_size() -> None:
    whole = standard(separable(3000))
    np.testing.assert_allclose(standard(separable(3000), 7), whole, atol=1e-6)


def test_a_feature_that_never_varies_and_one_that_hardly_does_do_no_harm() -> None:
    features = separable()
    features[:, 0] = 5
    features[:, 1] = 1 + 1e-6 * np.arange(60)
    found = standard(features)
    assert np.isfinite(found).all()
    assert np.abs(found[:, :2]).max() < 0.01
    assert np.isfinite(standard(np.ones((60, 4), np.float32))).all()


def test_nothing_is_learnt_from_a_copy_of_the_same_group() -> None:
    random = np.random.default_rng(0)
    # Ten groups of six copies; which class a group has is chance, so a copy alone would give it away.
    labels = np.repeat(np.tile([0, 1], 5), 6)
    features = standard(np.repeat(random.standard_normal((10, 50)), 6, axis=0).astype(np.float32), 60)
    together = predicted(features, labels, np.repeat(np.arange(10), 6), 5)
    apart = predicted(features, labels, ALONE, 5)
    assert accuracy(apart, labels) == 1
    assert accuracy(together, labels) < 0.8


def test_pictures_of_a_class_that_is_one_group_are_not_predicted() -> None:
    groups = ALONE.copy()
    groups[LABELS == 2] = 99
    found = predicted(standard(separable()), LABELS, groups, usable_folds(LABELS, groups, 5))
    assert np.isnan(found[LABELS == 2]).all()
    assert np.isfinite(found[LABELS != 2]).all()


def test_nothing_is_predicted_where_nothing_can_be_held_out() -> None:
    labels, features = np.array([0, 1]), np.eye(2, dtype=np.float32)
    assert np.isnan(predicted(features, labels, np.array([0, 1]), 2)).all()
    assert np.isnan(predicted(separable(), LABELS, np.zeros(60, np.int64), 2)).all()


def test_a_fit_sees_a_bounded_number_of_pictures_of_each_class_the_same_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "MOST_FITTED", 30)
    labels = np.repeat([0, 1, 2], [80, 38, 2])
    features = (10 * np.eye(3)[labels] + np.random.default_rng(1).standard_normal((120, 3))).astype(np.float32)
    asked: list[NDArray[np.int64]] = []

    def read(positions: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append(positions)
        return features[positions]

    found = out_of_fold(read, labels, np.arange(120), 2, seed=3)
    assert accuracy(found, labels) == 1
    assert [len(positions) for positions in asked] == [30] * 6
    assert np.bincount(labels[asked[0]]).tolist() == [19, 10, 1]


def test_there_are_never_more_folds_than_the_smallest_class_has_groups() -> None:
    assert usable_folds(LABELS, ALONE, 5) == 5
    assert usable_folds(LABELS, ALONE // 7, 5) == 3
    assert usable_folds(LABELS, ALONE // 20, 5) == 2


def test_the_same_seed_gives_the_same_bits() -> None:
    first = predicted(standard(separable(3000)), LABELS, ALONE, 5)
    assert (predicted(standard(separable(3000)), LABELS, ALONE, 5) == first).all()
    assert (predicted(standard(separable(3000)), LABELS, ALONE, 5, 4) != first).any()
