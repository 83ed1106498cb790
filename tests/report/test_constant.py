"""Where one answer to every image does as well as what was trained, the report says so first."""

import math

import pytest

from stages.core.measure import Measure
from stages.pages import catalogues
from stages.pages.language import ENGLISH
from stages.report.notes.constant import constant, constant_notes
from stages.report.notes.imbalance import imbalance_note
from stages.report.verdict import Evidence
from tests.support import artefacts, contest, material

CLASSES = ("normal", "nodule")
# A nodule that is passed as normal.
BY_COST = Measure("cost", {"nodule": {"normal": 4.0}})
ACTUAL = ["normal"] * 60 + ["nodule"] * 40


def evidence(predicted: dict[str, list[str]], measure: Measure, actual: list[str] = ACTUAL) -> Evidence:
    """Return the evidence of backbones, each with its answers to the images."""
    tables = {name: artefacts.answers(actual, found, CLASSES) for name, found in predicted.items()}
    runs = [artefacts.run(name, table, CLASSES, measure=measure) for name, table in tables.items()]
    audit = artefacts.audit(images={name: 4 * actual.count(name) for name in CLASSES})
    if not measure.of_probabilities:
        return material.evidence(runs, audit=audit)
    return material.evidence(runs, audit=audit, outcomes=contest._by_probabilities(runs, tables, measure))


@pytest.mark.parametrize(
    ("measure", "value", "label"),
    [
        (Measure("accuracy"), 0.6, "normal"),
        (Measure("balanced_accuracy"), 0.5, None),
        (Measure("macro_f1"), 0.75 / 2, "normal"),
        (Measure("log_loss"), -0.6 * math.log(0.6) - 0.4 * math.log(0.4), None),
        (BY_COST, 0.6, "nodule"),
        (Measure("cost"), 0.4, "normal"),
    ],
)
def test_the_best_constant_answer_is_that_of_the_measure(measure: Measure, value: float, label: str | None) -> None:
    found = constant(evidence({"a": ACTUAL}, measure))
    assert found
    assert (found.value, found.label) == (pytest.approx(value), label)


@pytest.mark.parametrize("measure", ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "cost", "recall:nodule"])
def test_nothing_is_said_of_a_backbone_that_is_shown_to_be_better(measure: str) -> None:
    right = ACTUAL[:58] + ["nodule"] * 2 + ACTUAL[60:98] + ["normal"] * 2
    assert constant_notes(evidence({"a": right}, Measure(measure)), ENGLISH) == []


def test_a_backbone_that_costs_as_much_as_one_answer_has_learned_nothing() -> None:
    missed = ACTUAL[:60] + ["normal"] * 15 + ["nodule"] * 25
    (note,) = map(str, constant_notes(evidence({"a": missed}, BY_COST), ENGLISH))
    assert note.startswith("The mean cost of always answering nodule is 0.600, that of a 0.6")
    assert note.endswith(": by this measure nothing has been learned.")


def test_a_lead_over_one_answer_that_may_be_chance_is_said_with_its_interval() -> None:
    better = ["normal"] * 60 + ["normal"] * 35 + ["nodule"] * 5
    (note,) = map(str, constant_notes(evidence({"a": better}, artefacts.MEASURE), ENGLISH))
    assert note == (
        "The accuracy of always answering normal is 60.0 %, that of a 65.0 % (95 % confidence interval 55.3 % to "
        "73.6 %): by this measure it is not shown to have learned anything."
    )


@pytest.mark.parametrize("measure", [artefacts.MEASURE, Measure("recall:nodule")])
def test_backbones_that_give_one_answer_are_named_after_what_that_means(measure: Measure) -> None:
    found = evidence({"a": ["normal"] * 100, "b": ["nodule"] * 100, "c": ["normal"] * 100}, measure)
    said = list(map(str, constant_notes(found, ENGLISH)))
    assert {
        "Every test image gets the same answer, normal, from a and c.",
        "Every test image gets the same answer, nodule, from b.",
    } < {*said, ""}
    assert len(said) == 2 + (measure.label is None)


def test_it_is_the_first_note_and_takes_the_place_of_that_on_rare_classes_if_others_choose_the_same() -> None:
    actual = ["normal"] * 80 + ["nodule"] * 20
    found = evidence(
        {"a": ["normal"] * 100, "b": ["normal"] * 79 + ["nodule"] + ["normal"] * 20}, Measure("accuracy"), actual
    )
    assert contest.noted(found)[0] == (
        "The accuracy of always answering normal is 80.0 %, that of a 80.0 %: by this measure nothing has been learned."
    )
    assert not [note for note in contest.noted(found) if note.startswith("Accuracy says little")]
    assert imbalance_note(evidence({"a": actual}, Measure("accuracy"), actual), ENGLISH)


@pytest.mark.parametrize("measure", ["accuracy", "balanced_accuracy", "log_loss"])
def test_all_of_it_is_translated(measure: str) -> None:
    found = evidence({"a": ["normal"] * 100}, Measure(measure))
    english, spanish = (constant_notes(found, language) for language in (ENGLISH, catalogues.named("es")))
    assert len(english) == len(spanish) == 2
    assert not {*map(str, english)} & {*map(str, spanish)}
