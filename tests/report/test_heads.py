"""Which head was kept is told with what each scored, what it was fitted on, and whose declared head lost."""

from typing import Any

import pytest

from stages.pages.catalogues import named
from stages.pages.language import ENGLISH
from stages.report.heads import Heads, heads
from stages.report.runs import Run, ranked
from tests.support import artefacts
from tests.support.contest import evidence


def runs(**kept: str) -> list[Run]:
    """Return backbones that kept these heads, the first one the best; linear heads win on validation."""
    wrong = {name: range(10 + place) for place, name in enumerate(kept)}
    weights = {name: "none" for name, head in kept.items() if head == "whole"}
    found = ranked(list(evidence(wrong, weights=weights, kept=kept).runs), artefacts.MEASURE)
    for run in found:
        for head in run.metrics["heads"]:
            head["validation_log_loss"] = {"linear": 0.5, "dense": 0.6}.get(head["head"], 0.4)
            head["accuracy"] = {"linear": 0.90, "dense": 0.88}.get(head["head"], head["accuracy"])
            if not head["kept"]:
                head.update(difference=0.02, low=-0.01, high=0.05)
    return found


def told(found: list[Run]) -> list[str]:
    return list(map(str, heads(found, artefacts.MEASURE, ENGLISH).sentences))


def test_every_head_that_was_tried_is_a_row_the_best_backbone_first() -> None:
    found: Heads = heads(runs(a="linear", b="dense", c="unfrozen", scratch="whole"), artefacts.MEASURE, ENGLISH)
    assert [(row.run.backbone, row.display_name, row.found["kept"]) for row in found.rows] == [
        ("a", "linear", True),
        ("a", "dense", False),
        ("b", "linear", False),
        ("b", "dense", True),
        ("c", "linear", False),
        ("c", "dense", False),
        ("c", "unfrozen", True),
        ("scratch", "whole network", True),
    ]


def test_a_declared_head_that_lost_is_named_with_what_it_lost_on_the_test_images() -> None:
    assert (
        "The declared head of a lost to the linear one on validation: accuracy of the linear one minus its own is 2.0 "
        "points on the test images (95 % interval \N{MINUS SIGN}1.0 to 5.0)."
    ) in told(runs(a="linear", scratch="whole"))


def test_several_that_lost_are_told_together_and_what_was_unfrozen_after_it_by_its_linear_head() -> None:
    found = runs(a="linear", b="linear", c="unfrozen")
    found[1].heads["dense"]["accuracy"] = 0.95
    assert (
        "The declared heads of a, b and c lost to the linear ones on validation: accuracy of the linear ones minus "
        "their own is \N{MINUS SIGN}5.0 to 2.0 points on the test images."
    ) in told(found)
    assert (
        "The declared head of c lost to the linear one on validation: accuracy of the linear one minus its own is 2.0 "
        "points on the test images."
    ) in told(found[2:])


def test_a_declared_head_that_won_did_not_lose() -> None:
    (found,) = runs(a="dense")
    found.heads["dense"]["validation_log_loss"] = 0.4
    assert not any("declared" in text for text in told([found]))


def test_what_was_kept_against_validation_says_whose_choice_that_was() -> None:
    found = runs(a="dense", b="unfrozen", c="linear")
    said = "%s kept what is declared, as finetune.head.choose says, though validation preferred the linear head."
    assert said % "a" in told(found)
    found[1].heads["unfrozen"]["validation_log_loss"] = 0.7
    assert said % "a and b" in told(found)


@pytest.mark.parametrize(
    ("kept", "fitted_on", "expected"),
    [
        ("linear", ["train", "validation"], "Linear heads fitted on the training and validation images together, at a"),
        ("linear", ["train"], "Linear heads fitted on the training images, at a strength"),
        ("dense", ["train", "validation"], "Trained on the training images, stopped by the validation images, then"),
        ("unfrozen", ["train"], "Trained on the training images, stopped by the validation images: a."),
    ],
)
def test_what_was_fitted_on_what_is_told(kept: str, fitted_on: list[str], expected: str) -> None:
    found = runs(a=kept)
    found[0].provenance["head"]["fitted_on"] = fitted_on
    (said,) = (text for text in told(found) if text.endswith(": a."))
    assert said.startswith(expected)


def test_backbones_fitted_on_the_same_are_told_together() -> None:
    found = told(runs(a="linear", b="dense", c="linear", scratch="whole"))
    assert sum(text.endswith(": a and c.") for text in found) == 1
    assert sum(text.endswith(": b and scratch.") for text in found) == 1


def test_phase_2_that_ran_out_of_time_says_so_whether_it_was_kept_or_not() -> None:
    phase: dict[str, Any] = {"blocks": 9, "of": 18, "epochs": 2, "stopped": "minutes"}
    found = runs(a="unfrozen", b="linear")
    for run in found:
        run.provenance["unfrozen"] = phase
    said = told(found)
    for name in "ab":
        assert (
            f"Phase 2 of {name} (9 of 18 blocks) ended at its time limit (finetune.unfreeze.minutes) after 2 "
            "epochs: more time may help."
        ) in said
    assert "Phase 2 was tried on b and lost on validation: the frozen network was kept." in said
    found[0].provenance["unfrozen"] = phase | {"stopped": ""}
    assert not any("Phase 2 of a" in text for text in told(found))


def test_all_of_it_can_be_said_in_spanish() -> None:
    found = heads(runs(a="linear", b="dense", c="unfrozen", scratch="whole"), artefacts.MEASURE, named("es"))
    assert {row.display_name for row in found.rows} == {"lineal", "densa", "descongelada", "red entera"}
    english = set(told(runs(a="linear", b="dense", c="unfrozen", scratch="whole")))
    assert not english & set(map(str, found.sentences))
