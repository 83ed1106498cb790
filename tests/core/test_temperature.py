"""One temperature makes probabilities as sure as they may be, and changes no prediction."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from stages.core.predictions import apply_temperature, fit_temperature
from stages.statistics import metrics
from tests.support import artefacts
from tests.support.populations import calibrated


class Given(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn's whose probabilities are its inputs."""

    def fit(self, probabilities: np.ndarray, actual: np.ndarray) -> "Given":
        self.classes_, self.n_features_in_ = np.unique(actual), probabilities.shape[1]
        return self

    def predict(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.argmax(axis=1)

    def predict_proba(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities


def sure(confidence: float, right: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return actual classes and probabilities of images that are all given to the first of two classes."""
    actual = np.repeat([0, 1], [right, images - right])
    return actual, np.tile([confidence, 1 - confidence], (images, 1))


def made(right: float, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return actual classes and probabilities of five classes, as sure as `sharpness` says."""
    table = artefacts.predictions(artefacts.POSES, right, seed)
    found = table[[f"p:{name}" for name in artefacts.POSES]].to_numpy()
    actual = table["label"].map({name: number for number, name in enumerate(artefacts.POSES)}).to_numpy()
    return actual, apply_temperature(found, 1 / sharpness)


def test_the_temperature_agrees_with_an_example_worked_by_hand() -> None:
    # Odds of 9 are claimed, and 3 of 4 are right, odds of 3: ln 9 / ln 3 = 2.
    actual, probabilities = sure(0.9, 75_000, 100_000)
    assert fit_temperature(actual, probabilities) == pytest.approx(2, abs=1e-3)
    np.testing.assert_allclose(apply_temperature(probabilities, 2), np.tile([0.75, 0.25], (100_000, 1)))


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_with_many_images_the_temperature_agrees_with_scikit_learns(sharpness: float) -> None:
    few = made(0.7, sharpness)
    actual, probabilities = np.tile(few[0], 500), np.tile(few[1], (500, 1))
    model = FrozenEstimator(Given().fit(probabilities, actual))
    theirs = CalibratedClassifierCV(model, method="temperature").fit(probabilities, actual)
    ours = apply_temperature(probabilities, fit_temperature(actual, probabilities))
    np.testing.assert_allclose(ours, theirs.predict_proba(probabilities), atol=1e-3)


def test_no_other_temperature_has_a_lower_loss_with_the_prior() -> None:
    actual, probabilities = made(0.7, 2.5)
    best = fit_temperature(actual, probabilities)
    losses = [
        metrics.log_loss(actual, apply_temperature(probabilities, found)) + (np.log(found) / 0.5) ** 2 / 2 / len(actual)
        for found in best * np.array([0.98, 1, 1.02])
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_what_was_too_sure_is_cooled_down_and_calibrated_better() -> None:
    actual, probabilities = made(0.7, 3)
    predicted = probabilities.argmax(axis=1)
    error = [
        metrics.expected_calibration_error(metrics.calibration(actual, predicted, each, 10))
        for each in (probabilities, apply_temperature(probabilities, fit_temperature(actual, probabilities)))
    ]
    assert fit_temperature(actual, probabilities) > 1
    assert error[1] < error[0] / 2


def test_a_temperature_changes_no_prediction_and_every_row_sums_to_one() -> None:
    _, probabilities = made(0.7, 1)
    for temperature in (0.05, 0.5, 3, 20):
        found = apply_temperature(probabilities, temperature)
        assert (found.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)


def test_one_changes_nothing() -> None:
    _, probabilities = made(0.7, 1)
    np.testing.assert_allclose(apply_temperature(probabilities, 1), probabilities)


def test_probabilities_of_zero_stay_close_to_zero() -> None:
    found = apply_temperature(np.array([[1.0, 0.0], [0.5, 0.5]]), 2.0)
    assert np.isfinite(found).all()
    assert found[0, 1] == pytest.approx(np.sqrt(np.finfo(float).eps), rel=1e-3)


def test_equal_chances_have_no_temperature_of_their_own() -> None:
    assert fit_temperature(np.array([0, 1, 1]), np.full((3, 2), 0.5)) == 1


@pytest.mark.parametrize(("confidence", "images"), [(0.6, 1), (0.9, 10), (0.99, 300), (1.0, 68)])
def test_images_that_are_all_right_make_no_network_surer(confidence: float, images: int) -> None:
    assert fit_temperature(*sure(confidence, images, images)) == 1


def test_constant_predictions_that_are_always_wrong_are_hot_the_more_the_more_images_say_so() -> None:
    found = [fit_temperature(*sure(0.9, 0, images)) for images in (1, 10, 100_000)]
    assert 1 < found[0] < found[1] < found[2] <= 20


@pytest.mark.parametrize("images", [20, 68, 300])
@pytest.mark.parametrize("accuracy", [0.97, 0.98, 0.995])
def test_a_good_calibrated_network_loses_nothing_on_average(accuracy: float, images: int) -> None:
    draw = np.random.default_rng(0)
    tested = calibrated(draw, accuracy, 20_000)
    before = metrics.log_loss(*tested)
    found = [fit_temperature(*calibrated(draw, accuracy, images)) for _ in range(30)]
    losses = [metrics.log_loss(tested[0], apply_temperature(tested[1], temperature)) for temperature in found]
    # 0.31 before there was a prior, with 68 images and an accuracy of 98 %.
    assert np.mean(losses) < before + 0.02
    assert max(losses) < before + 0.06
