"""What stands beside the verdict: folds, repeated trainings, transfer learning, unlike trainings."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.core.intervals import Interval
from stages.core.measure import Measure
from stages.report.verdict import Evidence
from stages.report.verdict_text import images_to_detect
from stages.statistics.decision import Resampled
from stages.statistics.groups import Groups
from tests.support.contest import evidence, noted, verdict


def with_folds(first: list[float], second: list[float]) -> Evidence:
    """Return the evidence of two backbones, the small one recommended, with these accuracies in four folds."""
    found = evidence({"large": range(10), "small": range(12)}, folds=4, margin=0.1)
    for run, accuracies in zip(found.runs, (first, second), strict=True):
        run.metrics["folds"] |= {"accuracy": accuracies, "accuracy_mean": sum(accuracies) / 4}
    return found


@pytest.mark.parametrize(
    ("large", "small", "expected"),
    [
        (
            [0.80, 0.82, 0.84, 0.86],
            [0.83, 0.83, 0.87, 0.87],
            "The 4 folds agree: there, too, small is first, with 85.0 % on average.",
        ),
        (
            [0.83, 0.83, 0.87, 0.87],
            [0.80, 0.86, 0.83, 0.85],
            "The 4 folds do not contradict it: large is first there, 1.5 points ahead of small on average, which may",
        ),
        # The folds differ more than the backbones, which differ by 9 to 11 points in each.
        (
            [0.60, 0.70, 0.80, 0.90],
            [0.51, 0.60, 0.70, 0.79],
            "The 4 folds contradict it: large is first there, 10.0 points ahead of small on average, which chance does",
        ),
    ],
)
def test_folds_agree_leave_it_open_or_contradict(large: list[float], small: list[float], expected: str) -> None:
    found = with_folds(large, small)
    assert verdict(found) == ("cheaper", "small")
    assert any(note.startswith(expected) for note in noted(found))


def test_the_interval_between_two_backbones_over_folds_is_that_of_their_difference_in_each() -> None:
    # By hand: mean 0.1, variance 2/3 of 0.0001, 1/4 + 1/2 of it is 0.00005; 0.1 ± 3.182 √0.00005.
    said_of_folds = noted(with_folds([0.60, 0.70, 0.80, 0.90], [0.51, 0.60, 0.70, 0.79]))
    assert any(note.endswith("(95 % interval 7.7 to 12.3).") for note in said_of_folds)


def test_without_folds_nothing_is_said_of_them_and_one_backbone_has_nothing_to_agree_with() -> None:
    assert not any("fold" in note for note in noted(evidence({"large": range(10), "small": range(12)})))
    alone = noted(evidence({"a": range(10)}, folds=5))
    assert any(re.fullmatch(r"Over 5 folds it is right on 90\.0 % on average\.", note) for note in alone)


def test_the_spread_over_trainings_is_told_where_there_are_several() -> None:
    found = evidence({"a": range(10), "b": range(40)})
    found.runs[0].metrics["repeats"] = {"count": 3, "accuracy": [0.9, 0.88, 0.92], "mean": 0.9, "sd": 0.02}
    note = (
        "Over 3 trainings with different seeds a is right on 90.0 % on average, with a standard deviation of 2.0 "
        "points."
    )
    assert note in noted(found)
    found.runs[0].metrics["repeats"] = {"count": 1, "accuracy": [0.9], "mean": 0.9, "sd": None}
    assert not any("trainings" in note for note in noted(found))


def test_how_stable_the_choice_is_is_told_with_the_accuracy_of_selecting_in_this_way() -> None:
    found = evidence({"large": range(10), "middle": range(12), "x": range(40)})
    again, expected = noted(found)[1:3]
    told = re.fullmatch(
        r"Selected again in (\d+) of 100 bootstrap resamples of these test images; middle in (\d+)\.", again
    )
    assert told
    assert int(told[1]) > 50 > int(told[2]) > 0
    told = re.fullmatch(
        r"It was selected on these images, which flatters it: selecting in this way gives about (\S+) % on new ones "
        r"\(95 % confidence interval (\S+) % to (\S+) %\)\.",
        expected,
    )
    assert told
    accuracy, low, high = map(float, told.groups())
    assert 88 < accuracy < 90
    assert low < accuracy - 4 < accuracy + 4 < high


def test_a_clear_choice_is_stable_and_flattered_by_nothing() -> None:
    found = noted(evidence({"a": range(5), "b": range(60)}))
    assert "Selected again in more than 99 of 100 bootstrap resamples of these test images." in found


@pytest.mark.parametrize("accuracy", [0.9, 0.95])
def test_where_selecting_flatters_nothing_it_is_not_spoken_of(accuracy: float) -> None:
    found = evidence({"large": range(10), "middle": range(12)})
    found.__dict__["resampled"] = Resampled({"large": 0.9, "middle": 0.1}, accuracy, Interval(0.8, 0.97))
    assert not any("flatters" in note for note in noted(found))


def test_where_nothing_is_chosen_nothing_is_selected_again() -> None:
    for found in (
        evidence({"a": range(10), "b": range(30)}, weights={"a": "random"}),
        evidence({"a": (1,), "b": ()}, images=6),
        evidence({"a": range(10)}),
    ):
        assert not any("resamples" in note or "flatters" in note for note in noted(found))


def test_how_many_test_images_would_tell_two_apart_and_know_the_accuracy_is_told() -> None:
    found = noted(evidence({"large": range(10), "small": range(13)}))
    assert (
        "If the difference from small is as large as it looks, 3.0 points, it takes about 260 test images like these "
        "to show it with 80 % power."
    ) in found
    assert "To know its accuracy to within 2.0 points takes about 890 test images like these." in found


def test_of_equal_scores_no_number_of_images_is_told_and_a_known_accuracy_needs_no_more() -> None:
    assert not any("80 % power" in note for note in noted(evidence({"large": range(5), "small": range(5, 10)})))
    sure = noted(evidence({"large": range(5), "small": range(5)}, images=3000))
    assert not any(note.startswith("To know its accuracy") for note in sure)


def test_more_images_for_the_recall_of_a_class_are_images_of_all_classes() -> None:
    # Half of the images are cats, those of even numbers; the same are wrong of cats alone.
    wrong = {"large": range(0, 20, 2), "middle": range(0, 24, 2), "small": range(0, 26, 2)}
    found = evidence(wrong, images=200, measure=Measure("recall:cat"))
    alone = evidence({name: range(len(numbers)) for name, numbers in wrong.items()})
    # The measure of those is the accuracy on 100 images.
    between, same = (one.outcomes.of("large", "small") for one in (found, alone))
    assert between.only == same.only == (3, 0)
    rival = found.runs[2]
    assert found.verdict.kind == alone.verdict.kind == "open"
    assert images_to_detect(0.03, rival, found) == 2 * images_to_detect(0.03, alone.runs[2], alone)
    notes = " ".join(noted(found))
    assert "The recall of cat of large is 90.0 % on 100 test images of cat (95 % confidence interval" in notes
    needed, half = (
        re.findall(r"takes about ([\d,]+) test images like these", " ".join(noted(one))) for one in (found, alone)
    )
    assert [int(count.replace(",", "")) for count in needed] == pytest.approx(
        # Each is rounded up to two digits.
        [2 * int(count.replace(",", "")) for count in half],
        rel=0.05,
    )
    assert len(needed) == 2


def test_images_in_groups_take_more_of_them() -> None:
    wrong = {"large": range(20), "small": range(24)}
    alone, alike = (evidence(wrong, images=300, groups=groups) for groups in (None, Groups(np.arange(300) // 5)))
    needed = [next(note for note in noted(found) if "80 % power" in note) for found in (alone, alike)]
    few, many = (int(note.split(" test images")[0].split()[-1].replace(",", "")) for note in needed)
    assert many > 2 * few


def test_a_difference_that_seeds_make_needs_repeats_and_no_more_images() -> None:
    found = evidence({"large": range(20), "small": range(24)}, images=400, kept={"large": "dense", "small": "dense"})
    first, second = (training[0] for training in found.outcomes.trainings)
    worse = first & (np.arange(400) < 385)
    again = replace(
        found, outcomes=replace(found.outcomes, trainings=(np.stack([first, worse, first, first]), second[None]))
    )
    note = "The difference from small, 1.0 points, is not larger than what another seed makes: no number of test images"
    assert any(text.startswith(note) for text in noted(again))


def test_a_difference_that_is_significant_alone_needs_no_more_images() -> None:
    many = {f"x{number}": range(60 + number, 130 + number) for number in range(8)}
    found = evidence({"large": range(10), "small": range(17), **many}, images=1000, margin=0.001)
    assert not any("80 % power" in note for note in noted(found))


def test_one_that_was_trained_once_is_named_unless_its_head_is_solved_exactly() -> None:
    note = "Trained once: large. What is said holds for this training;"
    wrong = {"large": range(10), "small": range(12)}
    assert any(text.startswith(note) for text in noted(evidence(wrong, kept={"large": "dense"}, trainings=1)))
    assert not any(text.startswith("Trained once") for text in noted(evidence(wrong, kept={"large": "dense"})))
    assert not any(text.startswith("Trained once") for text in noted(evidence(wrong)))


def test_a_backbone_trained_on_these_images_alone_that_nothing_beats_says_that_nothing_was_gained() -> None:
    from_scratch = {"scratch": "none"}
    tied = noted(evidence({"vgg16": range(10), "scratch": range(12)}, weights=from_scratch))
    assert any(note.startswith("Transfer learning could not be shown to help: no pretrained") for note in tied)
    beaten = noted(evidence({"vgg16": range(40), "scratch": range(12)}, weights=from_scratch))
    assert any(note.startswith("Transfer learning did not help on these images: scratch") for note in beaten)
    assert not any(
        "ransfer" in note for note in noted(evidence({"vgg16": (), "scratch": range(9)}, weights=from_scratch))
    )
    # Random weights have learnt nothing that could be transferred.
    random = noted(evidence({"vgg16": range(9), "scratch": ()}, weights=from_scratch | {"vgg16": "random"}))
    assert not any("ransfer" in note for note in random)


FURTHER = {"scratch": "none"}
UNLIKE = "Not all were trained alike: the network of %s was trained on these images, of others only the head."
UNTRIED = "No blocks of %s were unfrozen: phase 2 (finetune.unfreeze.blocks) was not tried there, and may help."


@pytest.mark.parametrize(
    "wrong",
    [
        # It wins, it is best and another one recommended, it is a candidate of the best one.
        {"scratch": range(10), "large": range(40)},
        {"scratch": range(10), "large": range(12)},
        {"scratch": range(12), "large": range(10)},
    ],
)
def test_frozen_networks_beside_one_that_was_trained_further_are_named(wrong: dict[str, range]) -> None:
    found = noted(evidence(wrong, weights=FURTHER, kept={"large": "linear"}))
    assert UNLIKE % "scratch" in found
    assert UNTRIED % "large" in found


def test_where_phase_2_was_tried_and_lost_that_is_said_instead() -> None:
    found = evidence({"a": range(10), "b": range(11), "c": range(12)}, kept={"a": "unfrozen", "b": "linear"})
    found.runs[1].provenance["unfrozen"] = {"blocks": 9, "of": 18, "epochs": 4, "stopped": ""}
    said_of_it = noted(found)
    assert UNLIKE % "a" in said_of_it
    assert UNTRIED % "c" in said_of_it
    assert "Phase 2 was tried on b and lost on validation: the frozen network was kept." in said_of_it


@pytest.mark.parametrize(
    "case",
    [
        {"wrong": {"a": range(10), "b": range(12)}, "kept": {"a": "linear"}},
        {"wrong": {"a": range(10), "b": range(12)}, "kept": dict.fromkeys("ab", "unfrozen")},
        # What was trained further is far behind.
        {"wrong": {"a": range(10), "scratch": range(60)}, "weights": FURTHER},
        # Nothing is to be chosen by these numbers.
        {"wrong": {"a": range(40), "scratch": range(10)}, "weights": FURTHER | {"a": "random"}},
    ],
)
def test_networks_that_were_trained_alike_or_do_not_compete_need_no_word(case: dict[str, Any]) -> None:
    assert not any("alike" in note or "unfrozen" in note for note in noted(evidence(**case)))


def test_no_help_of_transfer_learning_is_said_beside_what_stayed_frozen() -> None:
    # Not among the candidates, and yet beaten by none after the correction.
    found = noted(evidence({"a": range(40), "b": range(41), "scratch": range(12)}, weights=FURTHER))
    help_of_it = next(number for number, note in enumerate(found) if note.startswith("Transfer learning did not help"))
    assert found[help_of_it + 1 :] == [UNLIKE % "scratch", UNTRIED % "a and b"]


def test_preprocessing_that_does_not_suit_the_weights_is_a_warning() -> None:
    found = evidence({"a": range(10), "b": range(12), "c": range(14)})
    by_name = {run.backbone: run.provenance for run in found.runs}
    by_name["a"]["inputs"] = {"declared": "caffe", "layer": "bn", "images": 64, "distance": 4.71}
    declared = {"mean": [0, 0, 0.5], "deviation": [1, 1, 1]}
    by_name["b"]["inputs"] = {"declared": declared, "layer": "bn", "images": 64, "distance": 3.2}
    (warning,) = [note for note in noted(found) if "preprocessing" in note]
    assert warning == (
        "The preprocessing may not suit the weights of a (caffe, distance 4.7); b ((0, 0, 0.5) / (1, 1, 1), distance "
        "3.2): the images reach the first normalisation unlike those that the weights were trained on (a distance up "
        "to 1 is usual). Check inputs in the backbone's line."
    )
    assert not any("preprocessing" in note for note in noted(evidence({"a": range(10), "b": range(12)})))
