"""How far one form's probabilities are from another's."""

import numpy as np

from stages.core.intervals import wilson
from stages.exports.agreement import agreement

EXPECTED = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.51, 0.49]])


def test_the_same_probabilities_agree_wholly() -> None:
    found = agreement(EXPECTED, EXPECTED, np.array([0, 1, 1, 1]), 0.95, 1.0)
    assert (found["agreement"], found["largest_difference"], found["accuracy"]) == (1.0, 0.0, 0.75)
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson(0.75, 4, 0.95)
    assert found["images"] == 4


def test_one_image_that_falls_to_the_other_class_is_counted_and_the_largest_difference_told() -> None:
    other = EXPECTED.copy()
    other[0], other[3] = (0.7, 0.3), (0.49, 0.51)
    found = agreement(EXPECTED, other, np.array([0, 1, 1, 1]), 0.95, 1.0)
    assert found["agreement"] == 0.75
    np.testing.assert_allclose(found["largest_difference"], 0.2)
    # What decides is the class, not who is right: here the other form is right more often.
    assert found["accuracy"] == 1.0


def test_what_is_no_number_differs_without_bounds() -> None:
    other = np.full_like(EXPECTED, np.nan)
    assert agreement(EXPECTED, other, np.array([0, 1, 1, 1]), 0.95, 1.0)["largest_difference"] == np.inf


def test_images_that_are_alike_make_the_accuracy_less_certain() -> None:
    alone, alike = (agreement(EXPECTED, EXPECTED, np.array([0, 1, 1, 1]), 0.95, effect) for effect in (1.0, 2.0))
    assert alike["accuracy_low"] < alone["accuracy_low"]
    assert alike["accuracy"] == alone["accuracy"]
