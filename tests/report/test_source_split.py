"""Where the source's own test images are unlike its others, the report says so."""

import pytest

from stages.pages.language import ENGLISH
from stages.report.notes.source_split import source_split_note
from tests.support.contest import evidence


def said(validation: float, *, source_split: bool = True) -> list[str]:
    """Return the note on a backbone that is right on 80 of 100 test images and this share of 110 validation images."""
    found = evidence({"a": range(20), "b": range(40)}, source_split=source_split)
    for run in found.runs:
        run.metrics["validation"]["accuracy"] = validation
    return list(map(str, source_split_note(found, ENGLISH)))


@pytest.mark.parametrize(("validation", "kind"), [(60 / 110, "easier"), (71 / 110, "easier"), (104 / 110, "harder")])
def test_test_images_that_are_unlike_the_others_are_named(validation: float, kind: str) -> None:
    (note,) = said(validation)
    assert note.startswith(
        f"The source's own test images are {kind} than its others: a is right on 80.0 % of them and on"
    )
    assert f"{100 * validation:.1f} % of the validation images" in note


@pytest.mark.parametrize("validation", [0.75, 0.8, 0.87])
def test_a_difference_that_chance_explains_is_not_mentioned(validation: float) -> None:
    assert said(validation) == []


def test_a_split_that_was_drawn_here_is_left_to_chance() -> None:
    assert said(0.5, source_split=False) == []
