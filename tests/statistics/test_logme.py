"""LogME is the largest evidence of the paper's linear model, found without a table of all images in memory."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from stages.statistics.logme import logme


def evidence(features: NDArray[np.float64], wanted: NDArray[np.float64], alpha: float, beta: float) -> float:
    """Return log p(y | F, alpha, beta) as You et al. 2021 write it."""
    count, width = features.shape
    precision = alpha * np.eye(width) + beta * features.T @ features
    mean = beta * np.linalg.solve(precision, features.T @ wanted)
    return (
        count / 2 * math.log(beta)
        + width / 2 * math.log(alpha)
        - count / 2 * math.log(2 * math.pi)
        - beta / 2 * np.sum((features @ mean - wanted) ** 2)
        - alpha / 2 * mean @ mean
        - np.linalg.slogdet(precision)[1] / 2
    )


def reference(features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return LogME by searching both precisions of each class, from several starts."""
    exact, found = features.astype(np.float64), []
    for number in np.unique(labels):
        wanted = (labels == number).astype(np.float64)

        def lost(logs: NDArray[np.float64], wanted: NDArray[np.float64] = wanted) -> float:
            return -evidence(exact, wanted, *np.exp(logs))

        bounds = [(-18, 18)] * 2
        starts = ([0.0, 0.0], [5.0, 2.0], [-4.0, 3.0])
        found.append(-min(minimize(lost, start, bounds=bounds, method="L-BFGS-B", tol=1e-12).fun for start in starts))
    return float(np.mean(found)) / len(labels)


def drawn(count: int, width: int, classes: int, apart: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features of classes that lie so far apart, with scales of the features from 0.1 to 1."""
    random, labels = np.random.default_rng(count + width), np.arange(count) % classes
    centres = apart * random.standard_normal((classes, width))
    found = (centres[labels] + random.standard_normal((count, width))) * np.linspace(0.1, 1, width) + 0.5
    return found.astype(np.float32), labels


def batches(features: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(features), size):
        yield features[start : start + size]


def test_the_evidence_that_is_searched_is_the_density_of_the_targets() -> None:
    features, labels = drawn(12, 5, 2, 1.0)
    exact, wanted = features.astype(np.float64), (labels == 1).astype(np.float64)
    density = multivariate_normal(np.zeros(12), np.eye(12) / 3.0 + exact @ exact.T / 0.7)
    assert evidence(exact, wanted, 0.7, 3.0) == pytest.approx(density.logpdf(wanted), abs=1e-9)


@pytest.mark.parametrize(
    ("count", "width", "classes", "apart"),
    [(60, 4, 2, 0.3), (60, 4, 3, 2.0), (90, 20, 3, 0.0), (80, 30, 5, 1.0), (24, 40, 2, 1.0), (20, 60, 4, 0.3)],
)
def test_it_is_the_largest_evidence_with_more_and_with_fewer_images_than_features(
    count: int, width: int, classes: int, apart: float
) -> None:
    features, labels = drawn(count, width, classes, apart)
    assert logme([features], labels) == pytest.approx(reference(features, labels), abs=1e-5)


@pytest.mark.parametrize("size", [1, 7, 33, 200])
def test_features_may_come_in_batches_of_any_size(size: int) -> None:
    features, labels = drawn(200, 12, 3, 0.5)
    assert logme(batches(features, size), labels) == pytest.approx(logme([features], labels), abs=1e-10)


@pytest.mark.parametrize("scale", [1e-10, 1e-3, 1e6])
def test_the_unit_of_the_features_does_not_count(scale: float) -> None:
    features, labels = drawn(100, 10, 3, 0.5)
    assert logme([features * np.float32(scale)], labels) == pytest.approx(logme([features], labels), abs=1e-5)


def test_features_that_are_all_nothing_leave_the_noise_alone() -> None:
    # Of 8 targets half are 1: the best variance is 1/2, and the density of each -ln(2 pi / 2)/2 - 1/2 on average.
    found = logme([np.zeros((8, 3), np.float32)], np.arange(8) % 2)
    assert found == pytest.approx(-(math.log(math.pi) + 1) / 2)


def test_one_feature_that_is_as_good_as_none_is_worked_by_hand() -> None:
    # A feature of norm 1 at right angles to the targets: its weight shrinks to nothing.
    feature = np.array([[0.5], [-0.5], [0.5], [-0.5]], np.float32)
    found = logme([feature], np.array([0, 0, 1, 1]))
    assert found == pytest.approx(-(math.log(math.pi) + 1) / 2)


def test_classes_that_lie_further_apart_have_a_higher_score() -> None:
    found = [logme([features], labels) for features, labels in (drawn(120, 8, 3, apart) for apart in (0, 0.5, 1, 2))]
    assert found == sorted(found)
    assert found[0] < found[-1] - 0.1


def test_features_that_explain_all_without_noise_and_copies_of_features_give_a_number() -> None:
    labels = np.arange(30) % 3
    exact = np.eye(3, dtype=np.float32)[labels]
    assert math.isfinite(logme([exact], labels))
    features, labels = drawn(50, 6, 2, 0.5)
    assert math.isfinite(logme([np.hstack([features, features])], labels))


def test_labels_may_skip_numbers() -> None:
    features, labels = drawn(60, 5, 3, 1.0)
    assert logme([features], labels * 4) == logme([features], labels)
