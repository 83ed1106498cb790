"""Where accuracy says little the verdict says so, and what other measures would choose."""

import numpy as np
import pytest

from stages.core.measure import Measure
from stages.pages.language import ENGLISH
from stages.report.notes.imbalance import imbalance_note
from tests.support import artefacts, material

CLASSES = ("common", "rare", "rarer")


def said(answers: dict[str, list[str]], counts: tuple[int, ...], measure: str = "accuracy") -> list[str]:
    """Return the note on backbones, each with its answers to the images of the classes, so many of each."""
    classes = CLASSES[: len(counts)]
    actual = [name for name, count in zip(classes, counts, strict=True) for _ in range(count)]
    tables = {name: artefacts.answers(actual, found, classes) for name, found in answers.items()}
    runs = [artefacts.run(name, table, classes, measure=Measure(measure)) for name, table in tables.items()]
    audit = artefacts.audit(images={name: 5 * count for name, count in zip(classes, counts, strict=True)})
    return list(map(str, imbalance_note(material.evidence(runs, audit=audit), ENGLISH)))


BLIND = ["common"] * 100
# Ten common ones are taken for rare.
SEEING = ["common"] * 80 + ["rare"] * 20


def test_a_backbone_that_others_would_choose_is_named_beside_what_one_answer_scores() -> None:
    (note,) = said({"blind": ["common"] * 90 + ["rare"] * 2 + ["common"] * 8, "seeing": SEEING}, (90, 10))
    assert note == (
        "Accuracy says little about the rare classes: always answering common would be right on 90.0 % of the test "
        "images, and that class has 9 times the images of the rarest; balanced accuracy would put seeing first, macro "
        "F1 seeing, log loss blind (report.measure)."
    )


def test_where_the_others_agree_that_is_said() -> None:
    (note,) = said({"one": ["common"] * 90 + ["rare"] * 10, "blind": BLIND}, (90, 10))
    assert note.endswith("balanced accuracy, macro F1 and log loss would choose the same backbone (report.measure).")


@pytest.mark.parametrize(
    ("counts", "noted"),
    [((80, 20), True), ((79, 21), False), ((50, 40, 10), True), ((49, 41, 10), False), ((60, 24, 16), False)],
)
def test_it_takes_a_frequent_class_and_a_rare_one(counts: tuple[int, ...], *, noted: bool) -> None:
    # Nothing has been learned where an answer alone is as good, and that is said instead.
    right = [name for name, count in zip(CLASSES, counts, strict=False) for _ in range(count)]
    assert bool(said({"a": right, "b": SEEING[::-1]}, counts)) == noted


def test_equal_classes_are_no_reason_however_chance_draws_their_test_images() -> None:
    names, draw = tuple(f"class {number:02}" for number in range(60)), np.random.default_rng(0)
    # A fifth of 14 images of each; those of the rarest and of the most frequent class often differ by 4 times or more.
    run = artefacts.run("a", artefacts.answers(list(names), list(names), names), names)
    found = material.evidence([run], audit=artefacts.audit(images=dict.fromkeys(names, 14)))
    ratios = []
    for _ in range(200):
        supports = np.maximum(draw.binomial(14, 0.2, len(names)), 1)
        ratios.append(supports.max() / supports.min())
        for name, support in zip(names, supports, strict=True):
            run.metrics["per_class"][name]["support"] = int(support)
        assert imbalance_note(found, ENGLISH) == []
    assert np.mean(np.array(ratios) > 4) > 0.5


def test_the_largest_of_many_classes_must_have_a_share_that_matters() -> None:
    names = tuple(f"class {number:02}" for number in range(60))
    run = artefacts.run("a", artefacts.answers(list(names), list(names), names), names)
    counts = dict.fromkeys(names, 20)
    for most, noted in ((130, False), (140, True)):
        audit = artefacts.audit(images=counts | {names[0]: most, names[1]: 20})
        assert bool(imbalance_note(material.evidence([run], audit=audit), ENGLISH)) == noted


def test_nothing_is_said_where_another_measure_decides() -> None:
    assert said({"a": BLIND, "b": SEEING}, (90, 10), "balanced_accuracy") == []
