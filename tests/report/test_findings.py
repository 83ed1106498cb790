"""What is wrong is said in sentences, the most serious first, and nothing is said of what is right."""

from typing import Any

import pytest

from stages.report.findings import findings
from tests.support.artefacts import audit

SUSPECTS = {"images": 30, "test": 0, "share": 0.1, "weights": "imagenet", "accuracy_of_probes": {"vgg16": 0.8}}
FINE = audit()["outliers"]
PAIR = {"groups": 1, "images": 2}
LEAKS = PAIR | {"test": 2, "split_used": True}


def test_nothing_is_wrong_with_good_images() -> None:
    assert findings(audit()) == []


ONE = [
    ({"conflicts": PAIR}, "conflicts", "1 image has two labels; all 2 files are left out; decide"),
    ({"images": {"cat": 0, "dog": 5}}, "classes", "1 class has no usable image left: cat; see why"),
    (
        {"small_classes": {"cat": 9, "dog": 2}},
        "classes",
        "2 classes have too few training images to be learned reliably: dog",
    ),
    (
        {"leaks": LEAKS},
        "leaks",
        "2 images are copies of one another, in the source's own test split and outside of it; that test split",
    ),
    ({"near_copies": PAIR | {"under_two_labels": 1}}, "near", "1 group of near copies with two labels; check"),
    ({"suspects": SUSPECTS}, "suspects", "30 doubtful labels (10.0 %); check the first ones"),
    (
        {"outliers": FINE | {"images": 3, "dark": 1, "odd_aspect_ratio": 2}},
        "outliers",
        "odd images: 2 of an odd shape, 1 dark; look at the first ones, and leave out",
    ),
    ({"imbalance": 12.3}, "classes", "the largest class has 12 times the images of the smallest; read"),
    (
        {"outliers": FINE | {"images": 95, "blurry": 95}},
        "outliers",
        "many of the 440 images are odd in the same way: 95 blurred; look at some of them",
    ),
    ({"exact_copies": PAIR}, "exact", "1 group of exact copies, 0 groups of near copies; each"),
    ({"reasons": {"broken": 1}, "rejected": 1}, "rejects", "1 file left out; see the reasons"),
    ({"beside_images": 3}, "", "3 files are no images; texts and hidden files are left out"),
]


@pytest.mark.parametrize(("changes", "section", "said"), ONE)
def test_each_thing_that_is_wrong_is_said_with_its_remedy(changes: dict[str, Any], section: str, said: str) -> None:
    first = findings(audit(**changes))[0]
    assert first.section == section
    assert str(first).startswith(said)
    assert "\n" not in str(first)


def test_of_many_small_classes_the_smallest_are_named() -> None:
    (found,) = findings(audit(small_classes={f"c{number:02}": 1 + number // 5 for number in range(60)}))
    assert ": c00 (1), c01 (1), c02 (1), c03 (1), c04 (1) and 55 more; add images of them, or remove" in str(found)


def test_the_gravest_comes_first_and_each_once() -> None:
    everything: dict[str, Any] = {}
    for changes, _, _ in ONE:
        everything |= changes
    everything["near_copies"] = {"groups": 2, "images": 4, "under_two_labels": 1}
    everything["rejected"] = 3
    everything["outliers"] = FINE | {"images": 100, "dark": 5, "blurry": 95}
    sections = [finding.section for finding in findings(audit(**everything))]
    assert sections == [
        "conflicts",
        "near",
        "classes",
        "classes",
        "leaks",
        "suspects",
        "outliers",
        "rejects",
        "classes",
        "outliers",
        "exact",
        "",
    ]


def test_how_a_tenth_of_the_images_are_is_a_property_of_the_data_set() -> None:
    (few,) = findings(audit(outliers=FINE | {"images": 44, "blurry": 44}))
    (many,) = findings(audit(outliers=FINE | {"images": 45, "blurry": 45}))
    assert [few.settled, many.settled] == [False, True]


def test_few_suspects_are_worth_a_look_and_mislead_nobody() -> None:
    (found,) = findings(audit(suspects=SUSPECTS | {"share": 0.04}))
    assert str(found) == "30 doubtful labels (4.0 %); check the first ones"
    assert not found.misleads
    assert not found.settled
    assert findings(audit(suspects=SUSPECTS | {"share": None})) == []


def test_where_all_suspects_are_test_images_none_is_to_be_left_out() -> None:
    (found,) = findings(audit(suspects=SUSPECTS | {"test": 30}))
    assert "correct the labels" in str(found)
    assert found.command == "dvc repro audit"


def test_what_needs_nothing_done_says_so_and_the_others_do_not() -> None:
    for changes, _, _ in ONE:
        for finding in findings(audit(**changes)):
            assert str(finding).endswith("nothing to do") is finding.settled


def test_nobody_is_asked_to_leave_out_a_test_image_that_a_backbone_doubts() -> None:
    (found,) = findings(audit(suspects=SUSPECTS | {"test": 4}))
    assert str(found).endswith("check the first ones, but leave no test image out because a backbone doubts it")


def test_leaks_of_a_split_that_is_not_used_are_no_finding() -> None:
    assert findings(audit(leaks=LEAKS | {"split_used": False})) == []


def test_copies_between_training_and_validation_images_of_the_source_need_nothing_done() -> None:
    (found,) = findings(audit(leaks=LEAKS | {"test": 0}))
    assert found.settled
    assert not found.misleads
    assert str(found).startswith("2 images have copies on another side of the source's own split, none of them in its")


def test_where_copies_are_to_be_left_out_no_other_line_says_that_there_is_nothing_to_do_about_them() -> None:
    leaks, copies = findings(audit(leaks=LEAKS, exact_copies=PAIR))
    assert str(leaks).endswith("leave out those whose action in data/leaks.csv is not kept")
    assert str(copies).endswith("but for those across the source's own test split there is nothing to do")


def test_copies_in_one_split_need_nothing_done() -> None:
    (found,) = findings(audit(exact_copies=PAIR))
    assert found.settled
    assert str(found).endswith("nothing to do")


@pytest.mark.parametrize("balanced", [False, True])
def test_class_weights_are_advised_only_where_they_are_not_in_use(*, balanced: bool) -> None:
    (found,) = findings(audit(imbalance=12.3, balanced=balanced))
    assert ("class_weight" in str(found)) is not balanced
    assert "read the recall of each class" in str(found)


def test_what_is_excluded_on_purpose_is_no_finding() -> None:
    assert findings(audit({"excluded": 3})) == []
    assert len(findings(audit({"excluded": 3, "broken": 1}))) == 1
