"""The audit counts what lies in the tables, and finds the labels that are wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import GroupedUserError
from stages.core.params import parse
from stages.core.predictions import PREFIX
from stages.core.settings.audit import AuditParams
from stages.report.audit.counts import (
    NO_SUSPECTS,
    Probes,
    Tables,
    exact_copies,
    near_copies,
    numbers,
    outliers,
    suspects,
    taking_part,
    true_rejects,
    with_copies,
)
from tests.support.collection import Collection, image, retouched

LIMITS = {"dark": 0.32, "light": 0.05, "blurry": 0.29, "low_information": 0.3, "odd_aspect_ratio": 0.35}
VALUES: dict[str, Any] = {"folds": 5, "thumbnails": 60, "outliers": LIMITS}
PARAMS = parse(AuditParams, VALUES, "audit")
NOTHING = Probes({}, "none", pd.DataFrame(columns=["file", "label"]))


def manifest(collection: Collection, limit: int | None = 16) -> pd.DataFrame:
    """Return the manifest as the stage reads it."""
    found = with_copies(pd.DataFrame(collection.rows).assign(split=collection.parts), limit)
    return found.assign(group=found["near"])


def tables(collection: Collection) -> Tables:
    leaks = pd.DataFrame(columns=["file", "path", "source_split", "group", "action"])
    return Tables(
        manifest(collection),
        pd.DataFrame(collection.rejects, columns=["path", "label", "reason"]),
        pd.DataFrame(collection.quarantined, columns=["file", "path", "label", "group"]),
        leaks,
    )


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    found = Collection(tmp_path)
    for number in range(24):
        label = ("cat", "dog")[number % 2]
        found.add(f"{label}/{number}.png", label, image(number), ("train", "train", "validation", "test")[number % 4])
    return found


def test_everything_is_counted(collection: Collection) -> None:
    collection.add("cat/copy.png", "cat", image(0))
    collection.add("dog/near.png", "dog", retouched(image(2)))
    collection.add("dog/dark.png", "dog", image(50), dark=0.1, blurry=0.2)
    collection.rejects += [("fox/1.png", "fox", "broken: cut off"), ("x", "", "no class: lies in no class folder")]
    collection.quarantine("cat", "cat/two.png", image(60), "g")
    collection.quarantine("dog", "dog/two.png", image(60), "g")
    found = numbers(tables(collection), pd.DataFrame({"split": ["train", "test", "test"]}), NOTHING, PARAMS)
    assert found == {
        "accepted": 27,
        "rejected": 4,
        "reasons": {"two labels": 2, "broken": 1, "no class": 1},
        "beside_images": 0,
        "classes": 2,
        "images": {"cat": 13, "dog": 14, "fox": 0},
        "splits": {"train": 15, "validation": 6, "test": 6, "dropped": 0},
        "groups": {},
        "smallest_class_training_images": 7,
        "small_classes": {"cat": 7, "dog": 8},
        "imbalance": pytest.approx(14 / 13),
        "balanced": False,
        "exact_copies": {"groups": 1, "images": 2},
        "near_copies": {"groups": 1, "images": 2, "under_two_labels": 1},
        "conflicts": {"groups": 1, "images": 2},
        "leaks": {"groups": 0, "images": 0, "test": 0, "split_used": False},
        "outliers": {"images": 1, "dark": 1, "light": 0, "blurry": 1, "low_information": 0, "odd_aspect_ratio": 0},
        "suspects": {"images": 3, "test": 2, "share": None, "weights": "none", "accuracy_of_probes": {}},
    }


@pytest.mark.parametrize(("action", "used"), [("split again", False), ("moved to test", True), ("dropped", True)])
def test_it_is_counted_whether_the_split_that_leaks_is_used(collection: Collection, action: str, used: bool) -> None:  # noqa: FBT001
    leaking = pd.DataFrame({"file": ["a", "b"], "path": ["a", "b"], "group": "g", "action": action}).assign(
        source_split="train"
    )
    found = numbers(replace(tables(collection), leaks=leaking), NO_SUSPECTS, NOTHING, PARAMS)
    assert found["leaks"] == {"groups": 1, "images": 2, "test": 0, "split_used": used}


def test_all_images_of_a_group_that_reaches_into_the_source_s_test_split_are_counted(collection: Collection) -> None:
    sides = ["train", "test", "train", "validation"]
    leaking = pd.DataFrame({"file": list("abcd"), "path": list("abcd"), "source_split": sides, "group": list("ggkk")})
    leaking = leaking.assign(action="kept")
    found = numbers(replace(tables(collection), leaks=leaking), NO_SUSPECTS, NOTHING, PARAMS)
    assert found["leaks"] == {"groups": 2, "images": 4, "test": 2, "split_used": True}


def test_texts_and_hidden_files_lie_beside_the_images(collection: Collection) -> None:
    beside = [
        ("README.txt", "", "no class: lies in no class folder"),
        ("cat/labels.CSV", "cat", "not an image: in no known format, or its header is broken"),
        (".git/", "", "hidden: the name begins with a dot"),
    ]
    wrong = [
        ("cat/1.jpg", "cat", "not an image: in no known format, or its header is broken"),
        ("cat/2.cr2", "cat", "not an image: in no known format, or its header is broken"),
        ("3.jpg", "", "no class: lies in no class folder"),
        ("cat/4.txt", "cat", "unreadable: Permission denied"),
    ]
    collection.rejects += [*beside, *wrong]
    found = tables(collection)
    assert true_rejects(found.rejects)["path"].tolist() == [path for path, _, _ in wrong]
    counted = numbers(found, NO_SUSPECTS, NOTHING, PARAMS)
    assert (counted["rejected"], counted["beside_images"]) == (len(wrong), len(beside))
    assert counted["reasons"] == {"not an image": 2, "no class": 1, "unreadable": 1}


def test_a_class_of_texts_alone_has_no_image_left(collection: Collection) -> None:
    collection.rejects += [("fox/README.txt", "fox", "not an image: in no known format, or its header is broken")]
    found = numbers(tables(collection), NO_SUSPECTS, NOTHING, PARAMS)
    assert (found["images"]["fox"], found["rejected"], found["beside_images"]) == (0, 0, 1)


def test_what_the_source_puts_together_is_no_copy(collection: Collection) -> None:
    for row in collection.rows:
        row["source_group"] = "one person"
    found = manifest(collection)
    assert exact_copies(found).empty
    assert near_copies(found).empty


def test_near_copies_stand_beside_each_other_and_contradictions_come_first(collection: Collection) -> None:
    collection.add("cat/a.png", "cat", retouched(image(0)))
    collection.add("dog/b.png", "dog", retouched(image(2)))
    paths = near_copies(manifest(collection))["path"].tolist()
    assert paths == ["cat/2.png", "dog/b.png", "cat/0.png", "cat/a.png"]
    assert near_copies(manifest(collection, None)).empty


def test_outliers_are_below_the_threshold_the_oddest_first(collection: Collection) -> None:
    for number, score in enumerate([0.31, 0.05, 0.32]):
        collection.rows[number]["dark"] = score
    found = outliers(manifest(collection), PARAMS.outliers)
    assert found["dark"]["dark"].tolist() == [0.05, 0.31]
    assert all(table.empty for kind, table in found.items() if kind != "dark")


def test_wrong_labels_are_found_first_with_what_they_should_be(collection: Collection) -> None:
    truth = {"cat/4.png": "dog", "dog/7.png": "cat"}
    found = suspects(manifest(collection), Probes({"a": 0.9}, "imagenet", collection.certain(truth)))
    assert set(found["path"][:2]) == set(truth)
    assert (found["suggested"] == found["path"].map(truth)).all()
    assert (found["p_label"] < found["p_suggested"]).all()
    assert found["p_label"].is_monotonic_increasing
    assert found.columns.tolist() == ["path", "file", "split", "label", "suggested", "p_label", "p_suggested"]


def test_right_labels_are_not_doubted(collection: Collection) -> None:
    assert suspects(manifest(collection), Probes({"a": 0.9}, "imagenet", collection.certain())).empty


def test_a_class_without_a_prediction_is_no_hindrance(collection: Collection) -> None:
    truth = {"cat/4.png": "dog", "dog/7.png": "cat"}
    table = collection.certain(truth)
    table["p:fox"] = 0.0
    found = suspects(manifest(collection), Probes({"a": 0.9}, "imagenet", table))
    assert set(found["path"]) == set(truth)
    alone = table[table["label"] == "cat"]
    assert suspects(manifest(collection), Probes({"a": 0.9}, "imagenet", alone)).empty


def test_many_classes_of_one_image_each_do_no_harm() -> None:
    names = [f"{number:03}" for number in range(40)]
    random = np.random.default_rng(0).dirichlet(np.ones(40), 40)
    table = pd.DataFrame(random, columns=[PREFIX + name for name in names]).assign(file=names, label=names)
    found = suspects(pd.DataFrame({"file": names, "path": names, "split": "train"}), Probes({"a": 0}, "random", table))
    assert set(found["path"]) <= set(names)


def probed(weights: str, *, frozen: bool = True, images: int = 9) -> dict[str, Any]:
    return {"weights": weights, "frozen": frozen, "images": images}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"a": probed("random"), "b": probed("imagenet")}, (["b"], "imagenet")),
        ({"a": probed("x.keras"), "b": probed("imagenet")}, (["a", "b"], "imagenet, x.keras")),
        ({"a": probed("random"), "b": probed("random")}, ([], "random")),
        ({"a": probed("random"), "b": probed("none", frozen=False, images=0)}, ([], "random")),
        ({"b": probed("none", frozen=False, images=0)}, ([], "none")),
        ({"a": probed("imagenet", images=0)}, ([], "none")),
    ],
)
def test_learned_features_alone_judge_labels(facts: dict[str, Any], expected: Any) -> None:
    assert taking_part(facts) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "audit.folds = 1; expected at least 2"),
        ({"thumbnails": 0}, "audit.thumbnails = 0; expected at least 1"),
        ({"outliers": LIMITS | {"dark": 1.2}}, "audit.outliers.dark = 1.2; expected at most 1"),
        ({"outliers": LIMITS | {"darc": 0.2}}, "unknown key 'audit.outliers.darc'; expected one of dark"),
    ],
)
def test_bad_parameters_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GroupedUserError) as caught:
        parse(AuditParams, VALUES | changes, "audit")
    assert message in str(caught.value)
