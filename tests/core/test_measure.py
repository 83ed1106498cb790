"""Each measure has the value that its definition, or scikit-learn, gives it, and costs decide as they should."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from stages.core.errors import GroupedUserError, ParameterError
from stages.core.measure import Measure, as_exported, cheapest, require_classes
from stages.core.params import parse
from stages.core.predictions import Predictions
from stages.core.settings.report import MeasureParams

CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def found() -> Predictions:
    """Predictions of images of which owls are rare."""
    draw = np.random.default_rng(0)
    actual = draw.choice(3, 80, p=[0.6, 0.3, 0.1])
    logits = draw.normal(0, 1, (80, 3)) + 1.5 * np.eye(3)[actual]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(CLASSES, actual, probabilities.argmax(axis=1), probabilities)


def test_values_agree_with_scikit_learn(found: Predictions) -> None:
    actual, predicted = found.actual, found.predicted
    expected = {
        "accuracy": (actual == predicted).mean(),
        "balanced_accuracy": balanced_accuracy_score(actual, predicted),
        "macro_f1": f1_score(actual, predicted, average="macro"),
        "log_loss": log_loss(actual, found.probabilities),
        "recall:owl": (predicted[actual == 2] == 2).mean(),
    }
    assert {name: Measure(name).value(found) for name in expected} == pytest.approx(expected)


def test_without_costs_the_mean_cost_is_the_share_of_errors(found: Predictions) -> None:
    assert Measure("cost").value(found) == pytest.approx((found.actual != found.predicted).mean())


def test_the_decision_has_the_least_expected_cost() -> None:
    costs = Measure("cost", {"owl": {"cat": 20, "dog": 5}}).matrix(CLASSES)
    assert costs.tolist() == [[0, 1, 1], [1, 0, 1], [20, 5, 0]]
    # 0.9 * 0 + 0.1 * 20 for cat, 0.9 + 0.1 * 5 for dog, 0.9 for owl.
    assert cheapest(np.array([[0.9, 0.0, 0.1], [0.97, 0.0, 0.03], [0.0, 0.9, 0.1]]), costs).tolist() == [2, 0, 1]


def test_no_other_decision_costs_less_on_average_where_the_probabilities_are_true() -> None:
    draw = np.random.default_rng(1)
    probabilities = draw.dirichlet(np.ones(3), 4000)
    actual = (probabilities.cumsum(axis=1) > draw.random((4000, 1))).argmax(axis=1)
    measure = Measure("cost", {"owl": {"cat": 10}, "cat": {"dog": 3}})
    mean = measure.value(Predictions(CLASSES, actual, probabilities.argmax(axis=1), probabilities))
    costs = measure.matrix(CLASSES)
    assert mean < costs[actual, probabilities.argmax(axis=1)].mean() - 0.1
    assert all(mean < costs[actual, decided].mean() for decided in range(3))


def test_a_class_without_images_has_no_recall_and_balanced_accuracy_leaves_it_out(found: Predictions) -> None:
    seen = found.actual != 2
    without = Predictions(CLASSES, found.actual[seen], found.predicted[seen], found.probabilities[seen])
    assert np.isnan(Measure("recall:owl").value(without))
    assert np.isnan(Measure("recall:fox").value(without))
    recalls = [(without.predicted[without.actual == place] == place).mean() for place in (0, 1)]
    assert Measure("balanced_accuracy").value(without) == pytest.approx(np.mean(recalls))


def test_a_temperature_leaves_the_most_probable_class_and_changes_what_probabilities_are_worth(
    found: Predictions,
) -> None:
    scaled = as_exported(found, 3.0)
    assert Measure("accuracy").value(scaled) == Measure("accuracy").value(found)
    assert Measure("log_loss").value(scaled) != Measure("log_loss").value(found)
    assert Measure("log_loss").value(as_exported(found)) <= Measure("log_loss").value(found)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (Measure("recall:dgo"), "report.measure with recall:dgo; expected a class of the images (cat, dog, owl); did"),
        (Measure("cost", {"cat": {"ow": 1}}), "report.costs with a class 'ow'; expected a class of the images"),
        (Measure("accuracy", {"fox": {}}), "report.costs with a class 'fox'; expected a class of the images"),
    ],
)
def test_a_class_that_no_image_has_is_one_line_with_the_classes(measure: Measure, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        require_classes(measure, CLASSES)
    assert str(error.value).startswith(message)
    require_classes(Measure("cost", {"cat": {"dog": 2}}), CLASSES)


def test_of_many_classes_the_message_names_five_and_the_nearest_whatever_its_capitals() -> None:
    classes = [f"Yoga {number:02}" for number in range(60)] + ["Tree"]
    with pytest.raises(ParameterError) as error:
        require_classes(Measure("recall:TREE"), classes)
    assert str(error.value) == (
        "report.measure with recall:TREE; expected a class of the images "
        "(Yoga 00, Yoga 01, Yoga 02, Yoga 03, Yoga 04 and 56 more); did you mean 'Tree'?"
    )
    with pytest.raises(ParameterError, match=r"; name one of these: data/raw has a folder for each$"):
        require_classes(Measure("recall:fox"), classes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"measure": "f1", "costs": {}}, "report.measure = 'f1'; expected accuracy, balanced_accuracy, macro_f1,"),
        ({"measure": "recall:", "costs": {}}, "or recall: and the name of a class"),
        ({"measure": "cost", "costs": {"a": {"b": -1}}}, "report.costs.a.b = -1; expected at least 0"),
        ({"measure": "cost", "costs": {"a": 3}}, "report.costs.a = 3; expected a mapping"),
        ({"measure": "cost", "costs": {1: {}}}, "expected keys that are text"),
    ],
)
def test_what_cannot_be_a_measure_is_one_line(value: dict, message: str) -> None:
    with pytest.raises(GroupedUserError) as error:
        parse(MeasureParams, value, "report")
    assert message in str(error.value)
