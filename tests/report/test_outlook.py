"""The report says what twice the training images would bring, or that it cannot be said and why."""

import pytest

from stages.pages.language import ENGLISH
from stages.report.notes.outlook import outlook_text
from tests.support import artefacts
from tests.support.contest import evidence

UNKNOWN = {
    "missed": "from 165 of 330 images the same method would have foreseen that its linear head is right on 85.1 % of "
    "the test images (80 % interval 83.0 % to 87.4 %), and it became 90.0 %.",
    "wide": "its linear head, now right on 90.0 % of the test images, would be right on 89.3 % to 93.4 % (80 % "
    "interval), too wide to be of use; more test images narrow it.",
    "flat": "its linear head is not shown to be right more often with 165 images than with 33.",
    "level": "the curve fitted to the accuracies of its linear head with fewer images rises no further.",
    "groups": "the test images come from fewer than 15 groups, too few to tell how certain an accuracy is.",
    "few": "that takes at least 4 fractions of up to half of them in which each class has an image "
    "(finetune.training_shares), drawn at least 3 times (finetune.training_draws).",
}


def said(unknown: str | None, *, quick: bool = False) -> str:
    case = evidence({"a": range(10), "b": range(12)})
    for run in case.runs:
        run.metrics["learning_curve"] = artefacts.foreseen(unknown)
    return str(outlook_text(case.verdict.subject, case.ranking, ENGLISH, quick=quick))


def test_what_twice_the_images_would_bring_stands_beside_what_half_of_them_would_have_foreseen() -> None:
    assert said(None) == (
        "Twice the training images (660) would bring the linear head of a from 90.0 % to about 91.2 % of the test "
        "images (80 % interval 89.3 % to 93.4 %). From 165 of the images now used the same method would have foreseen "
        "85.1 % (83.0 % to 87.4 %), and it became 90.0 %."
    )


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_what_cannot_be_said_is_said_to_be_so_with_the_reason(unknown: str) -> None:
    assert said(unknown) == f"What twice the training images would bring a cannot be said: {UNKNOWN[unknown]}"


def test_fractions_that_the_quick_preset_left_out_are_not_asked_for() -> None:
    found = said("few", quick=True)
    assert found.endswith("cannot be said: preset: quick leaves out most of the fractions of them that this takes.")
    assert said("groups", quick=True) == said("groups")


def test_it_is_said_of_the_best_with_a_linear_head_where_the_chosen_one_has_none() -> None:
    case = evidence({"scratch": (), "b": range(9), "a": range(40)}, weights={"scratch": "none"})
    for run in case.runs[1:]:
        run.metrics["learning_curve"] = artefacts.foreseen("flat")
    assert "would bring b cannot" in str(outlook_text(case.runs[0], case.ranking, ENGLISH))
    assert outlook_text(case.runs[0], case.runs[:1], ENGLISH) is None
