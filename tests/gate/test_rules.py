"""The gate's rules on hand-made results: each is broken by what it is about, and by nothing else."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.measure import Measure
from stages.core.settings.gate import GateParams
from stages.gate.rules import Results, Rules, faults, summary
from tests.support.studies import seeded

PARAMS = {"max_fall": 0.01, "significance": 0.05, "keep_backbones": True, "keep_weights": True, "max_leaks": 0}
MEASURE = Measure("accuracy")
CLEAN = {"leaks": {"groups": 0, "images": 0, "test": 0, "split_used": True}}


def results(wrong: range, best: str = "vgg16", images: range = range(100), **weights: str) -> Results:
    """Return results whose best backbone errs on the images numbered `wrong`; `weights` has each backbone's."""
    rows = [("test", f"cat/{number}.jpg", "cat", "dog" if number in wrong else "cat") for number in images]
    rows += [("validation", f"cat/{number}.jpg", "cat", "dog") for number in range(500, 600)]
    metrics: dict[str, Any] = {name: {"weights": source} for name, source in ({best: "imagenet"} | weights).items()}
    metrics[best]["selected_in_resamples"] = 0.71
    table = pd.DataFrame(rows, columns=["split", "file", "label", "predicted"])
    return Results("HEAD (1a2b3c4)", metrics | {"best": best}, table, table[:0].assign(repeat=0))


def grouped(size: int) -> "pd.Series[str]":
    """Return the groups of all images: each has so many, in the order of their numbers."""
    numbers = range(600)
    return pd.Series([str(number // size) for number in numbers], index=[f"cat/{number}.jpg" for number in numbers])


def found(
    before: Results | None, now: Results, audit: dict[str, Any] = CLEAN, size: int = 1, **changes: Any
) -> list[str]:
    return [
        str(fault)
        for fault in faults(before, now, grouped(size), audit, Rules(GateParams(**(PARAMS | changes)), MEASURE))
    ]


def of_outcomes(trainings: np.ndarray) -> Results:
    """Return results of a backbone that is right on the images of each training as `trainings`, (R, n), says."""
    tables = [results(range(0), images=range(trainings.shape[1])).predictions for _ in trainings]
    for table, right in zip(tables, trainings, strict=True):
        table.loc[table["split"] == "test", "predicted"] = np.where(right, "cat", "dog")
    repeats = [table.assign(repeat=number) for number, table in enumerate(tables[1:], start=1)]
    return replace(results(range(0)), predictions=tables[0], repeats=pd.concat(repeats))


def one(before: Results | None, now: Results, audit: dict[str, Any] = CLEAN) -> str:
    (fault,) = found(before, now, audit)
    return fault


# The accuracy of the winner --------------------------------------------------------------------------------------


def certain(wrong: range, cats: int, best: str = "vgg16") -> Results:
    """Return results on 200 images, cats the first of them, certain of each answer, `wrong` for these numbers."""
    names = ["cat" if number < cats else "dog" for number in range(200)]
    rows = [
        (split, f"cat/{number}.jpg", name, {"cat": "dog", "dog": "cat"}[name] if number in wrong else name)
        for split in ("test", "validation") for number, name in enumerate(names)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["split", "file", "label", "predicted"])
    table = table.assign(**{f"p:{name}": np.where(table["predicted"] == name, 0.95, 0.05) for name in ("cat", "dog")})
    return replace(results(range(0), best), predictions=table, repeats=table[:0].assign(repeat=0))


@pytest.mark.parametrize(
    ("measure", "begin"),
    [
        (Measure("balanced_accuracy"), "balanced accuracy of the winner fell by 22.5 points, and by at least"),
        (Measure("macro_f1"), "macro F1 of the winner fell by 0.17"),
        (Measure("log_loss"), "log loss after temperature scaling of the winner rose by 0.2"),
        (Measure("cost", {"cat": {"dog": 5.0}}), "mean cost of the winner rose by 0.4"),
        (Measure("recall:cat"), "recall of cat of the winner fell by 45.0 points, and by at least"),
    ],
    ids=lambda value: value.name if isinstance(value, Measure) else "",
)
def test_a_drop_of_another_measure_is_tested_in_its_unit(measure: Measure, begin: str) -> None:
    before, now = certain(range(0), 40), replace(certain(range(18), 40), place="the workspace")
    rules = Rules(GateParams(**PARAMS), measure)
    of = {"measure": measure.name, "costs": measure.costs}
    before, now = (replace(each, metrics=dict(each.metrics) | of) for each in (before, now))
    (fault,) = faults(before, now, grouped(1), CLEAN, rules)
    assert str(fault).startswith(begin)
    assert faults(before, before, grouped(1), CLEAN, rules) == []
    assert f"{measure.words} of the winner " in summary(before, before, grouped(1), rules)


def test_results_of_another_measure_than_the_parameters_name_are_one_line() -> None:
    rules = Rules(GateParams(**PARAMS), Measure("macro_f1"))
    (fault,) = faults(None, results(range(20)), grouped(1), CLEAN, rules)
    assert str(fault) == (
        "the results in HEAD (1a2b3c4) were decided by accuracy; expected report.measure = macro_f1; "
        "run 'dvc repro', or set report.measure back"
    )


def test_results_of_other_costs_than_the_parameters_have_are_one_line() -> None:
    rules = Rules(GateParams(**PARAMS), Measure("cost", {"cat": {"dog": 5.0}}))
    now = replace(results(range(20)), metrics={"measure": "cost", "costs": {"cat": {"dog": 4.0}}})
    (fault,) = faults(None, now, grouped(1), CLEAN, rules)
    assert str(fault) == (
        "the results in HEAD (1a2b3c4) were decided by other costs; expected those of report.costs; "
        "run 'dvc repro', or set report.costs back"
    )
    same = replace(now, metrics={"measure": "cost", "costs": {"cat": {"dog": 5}}})
    assert faults(None, same, grouped(1), CLEAN, rules) == []


def test_a_quick_run_does_not_replace_a_whole_one() -> None:
    whole = results(range(20))
    quick = replace(whole, metrics=whole.metrics | {"preset": "quick"})
    (fault,) = found(whole, quick)
    assert fault == (
        "the results in HEAD (1a2b3c4) are those of preset: quick; expected preset: full as at HEAD (1a2b3c4); "
        "set preset: full in params.yaml and run 'dvc repro'"
    )
    assert found(quick, whole) == found(quick, quick) == found(None, quick) == []
    assert quick.backbones == {"vgg16"}


def test_equal_results_pass() -> None:
    assert found(results(range(20)), results(range(20))) == []


def test_a_fall_that_chance_does_not_explain_is_named_with_its_figures() -> None:
    before, now = results(range(5)), results(range(5, 25), "resnet50", vgg16="imagenet")
    assert one(before, now) == (
        "accuracy of the winner fell by 15.0 points, and by at least 7.2 with 95% confidence: 95.0 % (vgg16) at HEAD "
        "(1a2b3c4), 80.0 % (resnet50) now, on the 100 test images in both (20 newly wrong, 5 newly right); expected at "
        "most 1 points; see 'dvc params diff' and 'dvc metrics diff' for what changed, or raise gate.max_fall"
    )


def test_a_fall_that_chance_explains_passes() -> None:
    # 9 newly wrong, 4 newly right: 5 points.
    assert found(results(range(4)), results(range(4, 13))) == []


def test_a_fall_that_is_allowed_passes_however_sure_it_is() -> None:
    before, now = results(range(0)), results(range(20))
    assert found(before, now, max_fall=0.2) == []
    assert found(before, now, max_fall=0.15) == []
    assert len(found(before, now, max_fall=0.1)) == 1


def test_the_significance_decides() -> None:
    before, now = results(range(2)), results(range(2, 11))
    assert len(found(before, now, significance=0.1)) == 1
    assert found(before, now, significance=0.01) == []


def test_a_fall_on_few_groups_of_alike_images_may_be_chance() -> None:
    before, now = results(range(0)), results(range(15))
    assert len(found(before, now)) == 1
    assert found(before, now, size=5) == []


def test_images_of_too_few_groups_are_a_fault_whatever_they_show() -> None:
    assert found(results(range(0)), results(range(0)), size=10) == [
        (
            "100 test images of 10 groups are in both, of 100 at HEAD (1a2b3c4) and 100 now; expected at least 15 "
            "groups of images with the same label, to test a drop for significance; only more test images in other "
            "groups help: add some, or commit a new reference by hand"
        )
    ]


def test_a_fall_that_another_seed_explains_passes() -> None:
    before, now = results(range(5)), results(range(20))
    assert len(found(before, now)) == 1
    rows = [results(range(wrong)).predictions.assign(repeat=repeat) for repeat, wrong in enumerate((5, 22), start=1)]
    assert found(before, replace(now, repeats=pd.concat(rows))) == []


@pytest.mark.parametrize("deviation", [0.0, 0.01, 0.02])
def test_without_a_true_fall_the_alarm_is_false_as_rarely_as_the_significance_says(deviation: float) -> None:
    alarms = []
    for study in seeded(400, [0.9, 0.9], trainings=3, deviation=deviation, studies=60):
        before, now = (of_outcomes(*study.of(name).trainings) for name in study.names)
        alarms.append(found(before, now))
    # Two standard errors above 5 %.
    assert np.mean([bool(alarm) for alarm in alarms]) <= 0.11


def test_a_rise_passes() -> None:
    assert found(results(range(30)), results(range(10))) == []


def test_the_accuracy_is_that_on_the_images_of_both() -> None:
    # Over its own images the later one is better: 95 % to 90 %. On the 50 of both it fell from 100 % to 90 %.
    before = results(range(10), images=range(60))
    now = results(range(10, 15), images=range(10, 110))
    fault = one(before, now)
    assert "100.0 % (vgg16) at HEAD (1a2b3c4), 90.0 % (vgg16) now, on the 50 test images in both" in fault


def test_too_few_images_of_both_are_a_fault_whatever_they_show() -> None:
    before, now = results(range(0)), results(range(0), images=range(96, 200))
    assert one(before, now) == (
        "4 test images are in both, of 100 at HEAD (1a2b3c4) and 104 now; expected at least 5 with the same label, "
        "to test a drop for significance; compare with a commit that shares more, or commit a new reference by hand"
    )
    assert found(before, now, significance=0.1) == []


def test_no_image_of_both_is_a_fault() -> None:
    fault = one(results(range(0)), results(range(0), images=range(100, 200)))
    assert fault.startswith("0 test images are in both, of 100 at HEAD (1a2b3c4) and 100 now; expected at least 5 ")


def test_the_recall_of_a_class_is_counted_on_its_images_alone() -> None:
    before, now, rules = (
        certain(range(0), 40),
        certain(range(18), 40),
        Rules(GateParams(**PARAMS), Measure("recall:cat")),
    )
    before, now = (replace(each, metrics=dict(each.metrics) | {"measure": "recall:cat"}) for each in (before, now))
    (fault,) = faults(before, now, grouped(1), CLEAN, rules)
    assert "now, on the 40 test images of cat in both (18 newly wrong, 0 newly right)" in str(fault)
    kept = before.predictions["file"].isin([f"cat/{number}.jpg" for number in range(36, 200)])
    fewer = replace(before, predictions=before.predictions[kept])
    (fault,) = faults(fewer, now, grouped(1), CLEAN, rules)
    assert str(fault).startswith("4 test images of cat are in both, of 4 at HEAD (1a2b3c4) and 40 now; expected at")
    assert "; compare with a commit that shares more, or " in str(fault)


@pytest.mark.parametrize("cats", [3, 4])
def test_where_all_images_of_a_class_are_in_both_only_more_of_them_help(cats: int) -> None:
    before, now = (
        replace(each, metrics=dict(each.metrics) | {"measure": "recall:cat"}) for each in (certain((), 4),) * 2
    )
    kept = before.predictions["file"].isin([f"cat/{number}.jpg" for number in (*range(cats), *range(4, 200))])
    rules = Rules(GateParams(**PARAMS), Measure("recall:cat"))
    (fault,) = faults(replace(before, predictions=before.predictions[kept]), now, grouped(1), CLEAN, rules)
    assert str(fault) == (
        f"{cats} test images of cat are in both, of {cats} at HEAD (1a2b3c4) and 4 now; expected at least 5 with the "
        "same label, to test a drop for significance; only more test images of cat help: add some, or commit a new "
        "reference by hand"
    )


def test_what_passes_is_summed_up_with_what_it_cannot_show() -> None:
    text = summary(
        results(range(4)), results(range(4, 13), "resnet50"), grouped(1), Rules(GateParams(**PARAMS), MEASURE)
    )
    assert text == (
        "accuracy of the winner 96.0 % (vgg16) at HEAD (1a2b3c4), 91.0 % (resnet50) now, on the 100 test images in "
        "both (9 newly wrong, 4 newly right); a drop of 13.7 points would be detected in 80 % of all cases; resnet50 "
        "is selected in 71 of 100 resamples of the test images"
    )


@pytest.mark.parametrize(
    ("measure", "images", "shown"),
    [
        (Measure("accuracy"), {0, 199}, "; no drop would be detected; "),
        (Measure("recall:cat"), {0, 199}, "; no drop would be detected; "),
        (Measure("balanced_accuracy"), {0, 1, 199}, "; no drop would be detected; "),
        (Measure("cost"), {0, 1, 199}, "; no rise would be detected; "),
        # One mistake may cost 9.
        (Measure("cost", {"cat": {"dog": 9.0}}), {*range(10), 199}, "; a rise of 2.957 would be detected in 80 % "),
        (Measure("log_loss"), {0, 1, 199}, " would be detected in 80 % of all cases; "),
    ],
)
def test_a_drop_that_the_measure_cannot_have_is_not_said_to_be_detectable(
    measure: Measure, images: set[int], shown: str
) -> None:
    few = certain(range(2), 40)
    kept = few.predictions["file"].isin([f"cat/{number}.jpg" for number in images])
    few = replace(few, predictions=few.predictions[kept].reset_index(drop=True))
    assert shown in summary(few, few, grouped(1), Rules(GateParams(**PARAMS), measure))


# Backbones, weights, leaks ------------------------------------------------------------------------------


def test_backbones_that_disappear_are_named() -> None:
    before, now = results(range(0), resnet50="random", scratch="none"), results(range(0))
    assert one(before, now) == (
        "no results of resnet50, scratch; expected those of all 3 backbones at HEAD (1a2b3c4); declare what is "
        "missing in params.yaml again, let rank.candidates include it, or set gate.keep_backbones to false"
    )
    assert found(before, now, keep_backbones=False) == []


def test_a_new_backbone_passes() -> None:
    assert found(results(range(0)), results(range(0), resnet50="random")) == []


def test_weights_that_became_random_are_named_with_what_they_were() -> None:
    before = results(range(0), resnet50="imagenet", scratch="none", own="old/own/model.keras", guess="random")
    now = results(range(0), resnet50="random", scratch="none", own="random", guess="random")
    assert one(before, now) == (
        "random weights in own, resnet50; expected imagenet, old/own/model.keras as at HEAD (1a2b3c4); make them "
        "available to stage weights (weights.if_unreachable: stop), or set gate.keep_weights to false"
    )
    assert found(before, now, keep_weights=False) == []


@pytest.mark.parametrize("now", ["imagenet", "none"])
def test_weights_that_became_others_pass(now: str) -> None:
    assert found(results(range(0), resnet50="random"), results(range(0), resnet50=now)) == []


@pytest.mark.parametrize("before", [None, results(range(0))])
def test_leakage_is_a_fault_with_or_without_an_earlier_comparison(before: Results | None) -> None:
    leaking = {"leaks": {"groups": 2, "images": 9, "test": 5, "split_used": True}}
    assert one(before, results(range(0)), leaking) == (
        "leakage: 5 images are copies of one another, in the source's own test split and outside of it; expected at "
        "most 0; name those whose action in data/leaks.csv is not kept in data.exclude, or raise gate.max_leaks"
    )
    assert found(before, results(range(0)), leaking, max_leaks=5) == []


@pytest.mark.parametrize(("test", "used"), [(5, False), (0, True)])
def test_leaks_pass_where_the_split_is_not_used_or_its_test_images_have_none(*, test: int, used: bool) -> None:
    leaking = {"leaks": {"groups": 2, "images": 5, "test": test, "split_used": used}}
    assert found(results(range(0)), results(range(0)), leaking) == []


def test_every_broken_rule_is_named() -> None:
    before = results(range(0), resnet50="imagenet", scratch="none")
    now = results(range(20), resnet50="random")
    starts = ["leakage: 3 images", "accuracy of the winner fell", "no results of scratch", "random weights in resnet50"]
    for fault, start in zip(
        found(before, now, {"leaks": {"groups": 1, "images": 3, "test": 3, "split_used": True}}), starts, strict=True
    ):
        assert fault.startswith(start)


def test_without_an_earlier_comparison_nothing_is_compared() -> None:
    assert found(None, results(range(100))) == []


def test_the_winner_is_what_ships_whatever_is_best() -> None:
    shipped = results(range(5), "vgg16", resnet50="imagenet")
    assert shipped.winner == "vgg16"
    recommended = replace(shipped, metrics=dict(shipped.metrics) | {"recommended": "resnet50"})
    assert recommended.winner == "resnet50"
    assert replace(shipped, metrics=dict(shipped.metrics) | {"recommended": None}).winner == "vgg16"


def test_a_gate_of_five_images_says_that_it_detects_nothing() -> None:
    few = range(5)
    before, now = results(range(0), images=few), results(range(0), images=few)
    text = summary(before, now, grouped(1), Rules(GateParams(**PARAMS), MEASURE))
    assert "; no drop would be detected; " in text
