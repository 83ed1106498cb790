"""Each metric agrees with an example worked by hand or published, and none warns at an edge."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import top_k_accuracy_score

from stages.statistics import metrics

# The example of scikit-learn's f1_score and precision_recall_fscore_support.
ACTUAL = np.array([0, 1, 2, 0, 1, 2])
PREDICTED = np.array([0, 2, 1, 0, 0, 1])


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert metrics.accuracy(ACTUAL, PREDICTED) == pytest.approx(2 / 6)


def test_macro_f1_is_the_mean_of_the_classes() -> None:
    # F1 of the classes: 2*2/(2*2+1+0) = 0.8, 0, 0.
    assert metrics.macro_f1(ACTUAL, PREDICTED) == pytest.approx(0.8 / 3)


def test_macro_f1_counts_no_class_that_is_neither_shown_nor_predicted() -> None:
    assert metrics.macro_f1(np.array([0, 2]), np.array([0, 2])) == 1.0


def test_macro_f1_counts_a_class_that_is_predicted_but_never_shown_as_zero() -> None:
    # Class 0: TP 1, FN 1, F1 = 2/3; class 1: FP 1, F1 = 0.
    assert metrics.macro_f1(np.array([0, 0]), np.array([0, 1])) == pytest.approx((2 / 3 + 0) / 2)


def test_balanced_accuracy_agrees_with_scikit_learns_example() -> None:
    # Recall 3/4 and 1/2.
    actual, predicted = np.array([0, 1, 0, 0, 1, 0]), np.array([0, 1, 0, 0, 0, 1])
    assert metrics.balanced_accuracy(actual, predicted) == pytest.approx(0.625)


def test_balanced_accuracy_leaves_out_a_class_without_images() -> None:
    # Class 2 is predicted but has no images: recall 1/2 and 1.
    assert metrics.balanced_accuracy(np.array([0, 0, 1]), np.array([0, 2, 1])) == pytest.approx(0.75)


def test_top_k_agrees_with_scikit_learns_example() -> None:
    actual = np.array([0, 1, 2, 2])
    scores = np.array([[0.5, 0.2, 0.2], [0.3, 0.4, 0.2], [0.2, 0.4, 0.3], [0.7, 0.2, 0.1]])
    assert metrics.top_k(actual, scores, 2) == 0.75 == top_k_accuracy_score(actual, scores, k=2)
    assert metrics.top_k(actual, scores, 1) == 0.5


def test_top_k_of_all_classes_is_one_and_equal_chances_fall_to_the_earlier_class() -> None:
    even = np.full((4, 2), 0.5)
    assert metrics.top_k(np.array([0, 0, 0, 1]), even, 1) == 0.75
    assert metrics.top_k(np.array([0, 0, 0, 1]), even, 2) == 1.0
    assert metrics.top_k(np.array([0, 0, 0, 1]), even, 5) == 1.0


def test_log_loss_agrees_with_scikit_learns_example() -> None:
    probabilities = np.array([[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]])
    expected = -(math.log(0.9) + math.log(0.9) + math.log(0.8) + math.log(0.65)) / 4
    found = metrics.log_loss(np.array([1, 0, 0, 1]), probabilities)
    assert found == pytest.approx(expected) == pytest.approx(0.21616, abs=1e-5)


def test_log_loss_of_equal_chances_is_the_logarithm_of_the_classes() -> None:
    assert metrics.log_loss(np.array([3, 3]), np.full((2, 7), 1 / 7)) == pytest.approx(math.log(7))


def test_log_loss_stays_finite_when_the_answer_was_ruled_out() -> None:
    assert metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(36.04, abs=0.01)


def test_per_class_agrees_with_scikit_learns_example() -> None:
    found = metrics.per_class(ACTUAL, PREDICTED, ("cat", "dog", "pig"))
    assert found["cat"] == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2})
    assert found["dog"] == found["pig"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}


def test_per_class_leaves_open_what_cannot_be_known() -> None:
    found = metrics.per_class(np.array([0, 0, 1]), np.array([0, 0, 0]), ("shown", "missed", "absent"))
    assert math.isnan(found["missed"]["precision"])
    assert found["missed"]["recall"] == found["missed"]["f1"] == 0
    assert math.isnan(found["absent"]["recall"])
    assert found["absent"]["support"] == 0


def test_calibration_error_agrees_with_an_example_worked_by_hand() -> None:
    # Five bins. (0.4, 0.6]: 0.6 wrong; (0.6, 0.8]: 0.7 right, 0.8 wrong; (0.8, 1]: 0.9 and 1 right.
    confidence = np.array([0.6, 0.7, 0.8, 0.9, 1.0])
    probabilities = np.column_stack([confidence, 1 - confidence])
    table = metrics.calibration(np.array([1, 0, 1, 0, 0]), np.zeros(5, int), probabilities, 5)
    assert table["images"].tolist() == [0, 0, 1, 2, 2]
    assert table["high"].tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert table["accuracy"].tolist()[2:] == [0.0, 0.5, 1.0]
    assert table["confidence"].tolist()[2:] == pytest.approx([0.6, 0.75, 0.95])
    expected = 1 / 5 * 0.6 + 2 / 5 * 0.25 + 2 / 5 * 0.05
    assert metrics.expected_calibration_error(table) == pytest.approx(expected)


def test_a_bin_holds_its_upper_end_and_not_its_lower() -> None:
    probabilities = np.array([[0.7, 0.3], [0.7001, 0.2999], [0.5, 0.5]])
    table = metrics.calibration(np.zeros(3, int), np.zeros(3, int), probabilities, 10)
    assert dict(zip(table["high"].round(1), table["images"], strict=True)) == {
        high / 10: {5: 1, 7: 1, 8: 1}.get(high, 0) for high in range(1, 11)
    }


def test_a_bin_without_images_claims_nothing() -> None:
    table = metrics.calibration(np.array([0]), np.array([0]), np.array([[1.0, 0.0]]), 10)
    assert table["accuracy"].isna().sum() == table["confidence"].isna().sum() == 9
    assert metrics.expected_calibration_error(table) == 0


def test_confidence_that_is_always_right_and_full_has_no_error() -> None:
    assert metrics.expected_calibration_error(
        pd.DataFrame({"images": [0, 3], "confidence": [np.nan, 1.0], "accuracy": [np.nan, 1.0]})
    ) == pytest.approx(0)
