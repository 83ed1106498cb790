"""The linear head is scikit-learn's, whatever the shape and scale of the rows, and nothing leaks into its choice."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from stages.core.dataset import features
from stages.core.dataset.features import class_weights
from stages.core.head import Head
from stages.heads import coordinates, linear, logistic
from stages.heads.linear import Settings, Solved, fit, solve
from stages.heads.logistic import ConvergenceError

ROOT = Path(__file__).parents[2]
PATH = (0.1, 1, 10, 100, 1000)
Drawn = tuple[NDArray[np.float32], NDArray[np.int64]]
Solve = Callable[..., Solved]
Fit = Callable[..., Head]


def draw(count: int = 400, width: int = 12, classes: int = 4, apart: float = 1.0) -> Drawn:
    """Return correlated features of classes of different sizes, whose centres lie so far apart."""
    random = np.random.default_rng(count + width)
    labels = np.sort(random.choice(classes, count, p=np.arange(1, classes + 1) / sum(range(classes + 1))))
    labels[:classes] = np.arange(classes)
    latent = random.standard_normal((count, width)) + apart * random.standard_normal((classes, width))[labels]
    return (latent @ random.standard_normal((width, width)) + 3).astype(np.float32), labels


@pytest.fixture
def solved(tmp_path: Path) -> Solve:
    """Return a function that solves: every image a group of its own, five folds, but for what is said."""

    def found(
        drawn: Drawn, classes: int = 4, groups: NDArray[np.int64] | None = None, weight: str = "none", **changes: object
    ) -> Solved:
        alone = np.arange(len(drawn[0]))
        settings = Settings(**{"strengths": PATH, "folds": 5, "class_weight": weight} | changes)
        return solve(*drawn, alone if groups is None else groups, classes, settings, tmp_path)

    return found


@pytest.fixture
def fitted(tmp_path: Path) -> Fit:
    def found(drawn: Drawn, classes: int, strength: float, weight: str = "none") -> Head:
        return fit(*drawn, classes, weight, strength, tmp_path)

    return found


def reference(
    head: Head, fitted: Drawn, asked: NDArray[np.float32], strength: float, weight: str = "none"
) -> NDArray[np.float64]:
    """Return scikit-learn's probabilities for features `asked` by a fit on others, both normalised as the head does it.

    Of two classes it has one vector w where a softmax has w/2 and -w/2, whose penalty is half as large: twice the C.
    """
    c, weights = 2 * strength if len(np.unique(fitted[1])) == 2 else strength, None if weight == "none" else weight
    model = LogisticRegression(C=c, tol=1e-9, solver="newton-cholesky", class_weight=weights)
    model.fit(head.normalise(fitted[0]).astype(np.float64), fitted[1])
    return np.asarray(model.predict_proba(head.normalise(asked).astype(np.float64)))


WAYS = {
    "few wide rows": ({}, 60, 150),
    "many rows": ({}, 400, 12),
    "too many columns to rotate": ({"_LARGEST_SQUARE": 8}, 400, 12),
    "coordinates on disk": ({"_HELD_BYTES": 0}, 400, 12),
    "columns on disk": ({"_LARGEST_SQUARE": 8, "_HELD_BYTES": 0}, 400, 12),
}


@pytest.fixture(params=WAYS)
def shape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Return how many rows and columns are solved in one of the ways, which is made the one that is taken."""
    constants, count, width = WAYS[request.param]
    monkeypatch.setattr(features, "_PIECE_BYTES", 16_000)
    for name, value in constants.items():
        monkeypatch.setattr(coordinates, name, value)
    return count, width


@pytest.mark.parametrize("weight", ["none", "balanced"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("strength", [0.1, 10, 1000])
def test_probabilities_are_scikit_learns_in_each_way_of_solving(
    shape: tuple[int, int], fitted: Fit, weight: str, classes: int, strength: float
) -> None:
    drawn = draw(*shape, classes)
    head = fitted(drawn, classes, strength, weight)
    expected = reference(head, drawn, drawn[0], strength, weight)
    np.testing.assert_allclose(head.probabilities(drawn[0]), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-10, 1e6])
def test_the_unit_of_the_features_does_not_count(shape: tuple[int, int], fitted: Fit, scale: float) -> None:
    features, labels = draw(*shape)
    found = fitted((features * np.float32(scale), labels), 4, 10).probabilities(features * np.float32(scale))
    np.testing.assert_allclose(found, fitted((features, labels), 4, 10).probabilities(features), atol=1e-4)


def test_columns_that_do_not_vary_change_nothing_but_the_width(shape: tuple[int, int], fitted: Fit) -> None:
    features, labels = draw(*shape)
    constant = np.hstack([features, np.full((len(features), 2), 0.3, np.float32)])
    head = fitted((constant, labels), 4, 10)
    np.testing.assert_allclose(
        head.probabilities(constant), reference(head, (constant, labels), constant, 10), atol=1e-4
    )
    assert not head.layers[0].kernel[-2:].any()


def test_rows_twice_are_worth_twice_the_strength(shape: tuple[int, int], fitted: Fit) -> None:
    features, labels = draw(*shape)
    once = fitted((features, labels), 4, 20).probabilities(features)
    twice = fitted((features.repeat(2, axis=0), labels.repeat(2)), 4, 10).probabilities(features)
    np.testing.assert_allclose(twice, once, atol=1e-4)


def test_of_equal_rows_the_shares_of_the_classes_are_all_that_is_known(shape: tuple[int, int], solved: Solve) -> None:
    count, width = shape
    features, labels = np.full((count, width), 0.7, np.float32), np.arange(count) % 4 // 2 * 2
    found = solved((features, labels))
    np.testing.assert_allclose(found.head.probabilities(features)[:, [0, 2]], 0.5, atol=1e-4)
    # No strength is better than another: the lowest is taken, and two more show it.
    assert (found.strength, [*found.losses]) == (0.1, [0.1, 1, 10])


def test_few_images_and_clear_classes_are_learned(solved: Solve) -> None:
    drawn = draw(50, 300, 3, 4.0)
    found = solved(drawn, 3)
    assert (found.out_of_fold.argmax(axis=1) == drawn[1]).mean() == 1
    assert (found.head.probabilities(drawn[0]).argmax(axis=1) == drawn[1]).all()


@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_every_image_is_predicted_by_the_fit_on_the_other_folds(
    shape: tuple[int, int], solved: Solve, weight: str
) -> None:
    features, labels = draw(*shape, 3)
    order = np.random.default_rng(0).permutation(len(labels))
    features, labels = features[order], labels[order]
    found = solved((features, labels), 3, weight=weight, strengths=[10])
    settings = Settings([10], 5, weight)
    folds = linear._folds(labels, np.arange(len(labels)), settings)
    assert set(folds) == set(range(5))
    losses = []
    for fold in range(5):
        others, mine = folds != fold, folds == fold
        expected = reference(found.head, (features[others], labels[others]), features[mine], 10, weight)
        # In float32 rounding hides a little more.
        np.testing.assert_allclose(found.out_of_fold[mine], expected, atol=1e-3)
        losses.append(-np.log(expected[np.arange(len(expected)), labels[mine]]))
    weights = np.concatenate([class_weights(labels, 3, weight)[labels[folds == fold]] for fold in range(5)])
    assert found.losses == {10: pytest.approx(np.average(np.concatenate(losses), weights=weights), abs=1e-4)}


def test_labels_that_are_chance_want_the_lowest_strength_and_clear_classes_the_highest(solved: Solve) -> None:
    features, _ = draw(200, 30, 2, 0.0)
    chance = solved((features, np.random.default_rng(0).integers(0, 2, 200)), 2)
    # The loss rises from the beginning, and after two rises no more is tried.
    assert (chance.strength, [*chance.losses]) == (0.1, [0.1, 1, 10])
    assert [*chance.losses.values()] == sorted(chance.losses.values())
    clear = solved(draw(200, 30, 2, 9.0), 2)
    assert (clear.strength, [*clear.losses]) == (1000, [*PATH])
    assert [*clear.losses.values()] == sorted(clear.losses.values(), reverse=True)


def test_the_head_is_that_of_the_strength_with_the_lowest_loss(solved: Solve, fitted: Fit) -> None:
    drawn = draw(150, 30, 3, 0.5)
    found = solved(drawn, 3, strengths=[0.1, 1, 3, 10, 30, 100, 300, 1000])
    assert 0.1 < found.strength < 100
    assert found.losses[found.strength] == min(found.losses.values())
    assert len(found.losses) == [*found.losses].index(found.strength) + 3 < 8
    expected = fitted(drawn, 3, found.strength).probabilities(drawn[0])
    np.testing.assert_allclose(found.head.probabilities(drawn[0]), expected, atol=1e-4)
    # What is out of fold is of that strength too, not of the last one tried.
    alone = solved(drawn, 3, strengths=[found.strength]).out_of_fold
    np.testing.assert_allclose(found.out_of_fold, alone, atol=1e-4)


def test_nothing_is_learned_from_a_copy_of_the_same_group(solved: Solve) -> None:
    # Twenty groups of six copies; which class a group has is chance, so a copy alone gives it away.
    features = np.random.default_rng(0).standard_normal((20, 60)).astype(np.float32).repeat(6, axis=0)
    labels, groups = np.repeat(np.tile([0, 1], 10), 6), np.repeat(np.arange(20), 6)
    order = np.random.default_rng(1).permutation(120)
    drawn = features[order], labels[order]
    apart, together = solved(drawn, 2), solved(drawn, 2, groups[order])
    assert (apart.out_of_fold.argmax(axis=1) == drawn[1]).all()
    assert (together.out_of_fold.argmax(axis=1) == drawn[1]).mean() < 0.7
    # That copies are worth nothing is known to the choice as well.
    assert together.strength < apart.strength


def test_groups_stay_whole_classes_are_spread_evenly_the_same_way_each_time() -> None:
    random = np.random.default_rng(0)
    groups = np.sort(random.integers(0, 150, 400))
    labels = np.append(random.choice(4, 150, p=[0.6, 0.2, 0.15, 0.05])[groups], [4, 4])
    # A group that lies in two classes.
    groups, labels[0] = np.append(groups, [150, 151]), 4
    found = linear._folds(labels, groups, Settings(PATH, 5, "none"))
    assert all(len(set(found[groups == group])) == 1 for group in np.unique(groups))
    counts = np.array([np.bincount(found[labels == label], minlength=5) for label in range(5)])
    assert (np.ptp(counts, axis=1) <= [2, 2, 2, 3, 1]).all(), counts
    assert (found == linear._folds(labels, groups, Settings(PATH, 5, "none"))).all()


def test_of_many_images_every_fold_is_a_half(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(100) % 2
    assert linear._folds(labels, np.arange(100), Settings(PATH, 5, "none")).max() == 4
    monkeypatch.setattr(linear, "_MANY", 99)
    assert np.bincount(linear._folds(labels, np.arange(100), Settings(PATH, 5, "none"))).tolist() == [50, 50]


def test_the_same_images_give_the_same_bits_and_the_number_of_threads_hardly_counts(solved: Solve) -> None:
    drawn, found = draw(300, 96, 3), []
    for threads in (1, 1, 2):
        with threadpool_limits(threads):
            found.append(solved(drawn, 3, strengths=[1, 10, 100]))
    first, again, threaded = found
    assert (first.out_of_fold == again.out_of_fold).all()
    assert (first.head.layers[0].kernel == again.head.layers[0].kernel).all()
    # What is added in another order ends in other digits, and the search within its tolerance elsewhere.
    np.testing.assert_allclose(threaded.out_of_fold, first.out_of_fold, atol=1e-5)
    assert (threaded.out_of_fold.argmax(axis=1) == first.out_of_fold.argmax(axis=1)).all()
    assert threaded.strength == first.strength


def test_a_class_of_one_image_is_not_predicted_out_of_fold_and_known_to_the_head(solved: Solve) -> None:
    features, labels = draw(60, 100, 3, 4.0)
    lonely = np.flatnonzero(labels == 0)[1:]
    drawn = np.delete(features, lonely, axis=0), np.delete(labels, lonely)
    found = solved(drawn, 3)
    assert np.isnan(found.out_of_fold).all(axis=1).tolist() == (drawn[1] == 0).tolist()
    # The fits that hold others out know it.
    assert (found.out_of_fold[1:, 0] > 0).any()
    assert found.head.probabilities(drawn[0][:1]).argmax() == 0


def test_images_of_a_class_that_is_one_group_are_not_predicted_out_of_fold(solved: Solve) -> None:
    features, labels = draw(90, 20, 3, 3.0)
    found = solved((features, labels), 3, np.where(labels == 2, 99, np.arange(90)))
    assert np.isnan(found.out_of_fold).all(axis=1).tolist() == (labels == 2).tolist()
    known = found.out_of_fold[labels != 2]
    np.testing.assert_allclose(known.sum(axis=1), 1)


ONE_GROUP, ONE_CLASS_A_FOLD = np.zeros(40, np.int64), np.arange(40) % 2


@pytest.mark.parametrize("groups", [ONE_GROUP, ONE_CLASS_A_FOLD])
def test_where_nothing_can_be_held_out_the_lowest_strength_is_taken_and_tells_clear_classes_apart(
    solved: Solve, groups: NDArray[np.int64]
) -> None:
    labels = np.arange(40) % 2
    features = (4 * np.eye(2)[labels] + np.random.default_rng(0).standard_normal((40, 2))).astype(np.float32)
    found = solved((features, labels), 2, groups)
    assert (found.strength, found.losses) == (0.1, {})
    assert np.isnan(found.out_of_fold).all()
    assert (found.head.probabilities(features).argmax(axis=1) == labels).mean() > 0.9


def test_of_a_single_class_every_image_is(solved: Solve) -> None:
    features, _ = draw(30, 5)
    found = solved((features, np.full(30, 2)))
    assert (found.head.probabilities(features).argmax(axis=1) == 2).all()
    assert np.isnan(found.out_of_fold).all()


def test_classes_without_an_image_are_never_predicted_and_have_a_probability(solved: Solve) -> None:
    features, labels = draw(200, 10, 2)
    found = solved((features, labels + 3), 6)
    far = np.random.default_rng(0).standard_normal((500, 10)).astype(np.float32) * 1000
    probabilities = found.head.probabilities(np.vstack([features, far]))
    assert set(probabilities.argmax(axis=1)) == {3, 4}
    assert np.isfinite(probabilities).all()
    assert probabilities[:200, [0, 1, 2, 5]].max() < 1e-3
    assert probabilities[:200, [0, 1, 2, 5]].min() > 0
    assert (found.out_of_fold[:, [0, 1, 2, 5]] == 0).all()


def test_a_thousand_classes_are_learned(solved: Solve) -> None:
    random, labels = np.random.default_rng(0), np.arange(2000) % 1000
    features = 4 * random.standard_normal((1000, 16))[labels] + random.standard_normal((2000, 16))
    found = solved((features.astype(np.float32), labels), 1000, strengths=[1], folds=2)
    assert (found.out_of_fold.argmax(axis=1) == labels).mean() > 0.7


def test_balanced_classes_count_the_same_and_one_without_images_nothing() -> None:
    labels = np.repeat([0, 2], [30, 10])
    assert class_weights(labels, 3, "none").tolist() == [1, 1, 1]
    assert class_weights(labels, 3, "balanced").tolist() == [40 / 60, 0, 2]


def test_a_fit_that_does_not_converge_is_one_line(fitted: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "_MAX_ITERATIONS", 2)
    expected = r"a linear head of C = 100 whose loss still falls by \S+ after 2 steps; expected .*; lower .*linear.c"
    with pytest.raises(ConvergenceError, match=expected) as caught:
        fitted(draw(), 4, 100)
    assert "\n" not in str(caught.value)


MEASURE = """
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.optimize

from stages.core.dataset import features
from stages.core.dataset.prepared import Rows
from stages.heads import coordinates, linear, logistic


def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


coordinates._HELD_BYTES = 0
features._PIECE_BYTES = 2 << 20
table = pd.DataFrame({"split": "train", "row": np.arange(30_000)})
labels = np.arange(30_000) % 5
rows = Rows(table, {"train": Path("train.npy")})
# What NumPy's libraries take once.
np.linalg.eigh(np.eye(512))
before = peak()
found = linear.solve(rows, labels, np.arange(30_000), 5, linear.Settings([1.0], 5, "none"), Path())
assert (found.out_of_fold.argmax(axis=1) == labels).mean() > 0.9
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_number_of_rows_and_columns(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((30_000, 512), dtype=np.float32)
    features[:, :5] += 4 * np.eye(5, dtype=np.float32)[np.arange(30_000) % 5]
    np.save(tmp_path / "train.npy", features)
    environment = {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # In float64 the rows alone take 123 MB, in float32 half of that.
    assert int(done.stdout) < 50e6
