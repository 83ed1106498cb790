"""Where the numbers come from: the same for the same images and code, and different where they differ."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.params import merge, read
from stages.pages.catalogues import named
from stages.pages.language import ENGLISH, Language
from stages.report import provenance
from stages.report.provenance import Change, Commit, Provenance, changes, commit, digest, sentences
from stages.report.runs import Run
from tests.support import artefacts
from tests.support.clone import Clone
from tests.support.contest import evidence

SHIPPED = read(provenance.DEFAULTS)
COMMIT = "Commit: cc, the last one before this run that changed anything in stages, params.yaml, dvc.yaml and uv.lock"
IMAGES = pd.DataFrame({"label": ["cat", "dog", "cat"], "sha256": ["aa", "bb", "cc"], "path": ["1", "2", "3"]})


def changed(**sections: Any) -> list[Change]:
    return list(changes(merge(SHIPPED, sections), SHIPPED))


# Images -----------------------------------------------------------------------------------------------


def test_the_digest_is_that_of_the_sorted_rows_as_anybody_can_compute_it() -> None:
    lines = b'["cat", "aa"]\n["cat", "cc"]\n["dog", "bb"]'
    assert digest([IMAGES], "label", "sha256") == hashlib.sha256(lines).hexdigest()


def test_neither_order_nor_paths_nor_chunks_change_the_digest() -> None:
    moved = IMAGES.iloc[::-1].assign(path="elsewhere")
    assert digest([moved[:1], moved[1:]], "label", "sha256") == digest([IMAGES], "label", "sha256")


@pytest.mark.parametrize(
    "other",
    [
        IMAGES[:2],
        IMAGES.assign(label=["dog", "dog", "cat"]),
        IMAGES.assign(sha256=["aa", "bb", "cd"]),
        pd.concat([IMAGES, IMAGES[:1]]),
        IMAGES.assign(label=['cat", "aa"]\n["cat', "dog", "cat"]),
    ],
)
def test_another_image_or_label_changes_the_digest(other: pd.DataFrame) -> None:
    assert digest([other], "label", "sha256") != digest([IMAGES], "label", "sha256")


# Parameters ---------------------------------------------------------------------------------------------


def test_the_shipped_parameters_differ_in_nothing() -> None:
    assert changed() == []


def test_each_parameter_that_differs_is_named_with_both_values() -> None:
    assert changed(finetune={"head": {"dropout": 0.3, "units": [64, 32]}}, weights={"mirror": "/files"}, seed=1) == [
        Change("seed", "1", "20"),
        Change("weights.mirror", "/files", "null"),
        Change("finetune.head.units", "[64, 32]", json.dumps(SHIPPED["finetune"]["head"]["units"])),
        Change("finetune.head.dropout", "0.3", "0.5"),
    ]


def test_backbones_are_named_whole_where_they_come_or_go_and_by_key_where_they_change() -> None:
    default = SHIPPED | {"backbones": {"vgg16": {"epochs": 9}, "resnet50": {}, "resnet50_v2": {}}}
    lines = {"resnet50": None, "resnet50_v2": {"epochs": 3}, "new": {"builder": "MobileNet"}}
    assert list(changes(SHIPPED | {"backbones": lines}, default)) == [
        Change("backbones.vgg16", None, '{"epochs": 9}'),
        Change("backbones.resnet50_v2.epochs", "3", None),
        Change("backbones.new", '{"builder": "MobileNet"}', None),
    ]


def test_the_gate_changes_no_result_and_is_not_named() -> None:
    assert changed(gate={"max_fall": 0.5}) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://user:secret@host/a.zip?X-Amz-Signature=secret", "https://…@host/a.zip?…"),
        ("https://host/a.zip#secret", "https://host/a.zip?…"),
        ("s3://bucket/images", "s3://bucket/images"),
        ("../a@b?c", "../a@b?c"),
        ("http://[", "http://["),
        ("x" * 300, "x" * 199 + "…"),
        ("ñ<b>", "ñ<b>"),
    ],
)
def test_a_value_is_shown_without_secrets_and_not_at_any_length(value: str, shown: str) -> None:
    assert changed(data={"source": value}) == [Change("data.source", shown, SHIPPED["data"]["source"])]


# Commits ------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A repository of which a folder is the project, with code and parameters committed."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    clone = Clone.begun(tmp_path)
    (tmp_path / "inner/stages").mkdir(parents=True)
    (tmp_path / "inner/stages/one.py").write_text("1")
    (tmp_path / "inner/params.yaml").write_text("seed: 1")
    clone.commit("code")
    monkeypatch.chdir(tmp_path / "inner")
    return clone


def head(clone: Clone) -> str:
    return clone.git("rev-parse", "HEAD").strip()


def test_the_commit_is_the_last_one_that_changed_what_makes_results(project: Clone) -> None:
    code = head(project)
    assert commit() == Commit(code, ())
    Path("README.md").write_text("words")
    Path("data").mkdir()
    Path("data/metrics.json").write_text("{}")
    project.commit("results and words")
    assert commit() == Commit(code, ())
    Path("params.yaml").write_text("seed: 2")
    project.commit("another seed")
    assert commit() == Commit(head(project), ())


def test_what_was_not_committed_is_named(project: Clone) -> None:
    Path("params.yaml").write_text("seed: 2")
    Path("stages/one.py").unlink()
    Path("stages/ñew <b>.py").write_text("2")
    Path("notes.txt").write_text("beside")
    assert commit() == Commit(head(project), ("params.yaml", "stages/one.py", "stages/ñew <b>.py"))


def test_without_a_repository_a_commit_or_git_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert commit() is None
    Clone.begun(tmp_path)
    assert commit() is None
    monkeypatch.setenv("PATH", "")
    assert commit() is None


# Altogether ---------------------------------------------------------------------------------------------


def known(**changes_of_it: Any) -> Provenance:
    values = {
        "images": "aa",
        "split": "bb",
        "counts": {"train": 1200, "validation": 1, "test": 2},
        "seed": 20,
        "commit": Commit("cc", ()),
        "versions": {"Python": "3.11.9", "scipy": "1.17"},
        "changes": [],
    }
    return Provenance(**(values | changes_of_it))


def test_all_is_read_from_tables_parameters_and_the_environment(project: Clone) -> None:
    splits = pd.DataFrame({"file": ["a", "b"], "split": ["train", "test"]})
    audit = artefacts.audit(splits={"train": 1, "validation": 0, "test": 1, "dropped": 0})
    found = provenance.provenance([IMAGES], [splits], audit, SHIPPED | {"seed": 7}, SHIPPED)
    assert (found.seed, found.counts, found.commit) == (7, {"train": 1, "test": 1}, Commit(head(project), ()))
    assert found.images == digest([IMAGES], "label", "sha256")
    assert found.split == digest([splits], "file", "split")
    assert list(found.versions) == ["Python", *provenance.LIBRARIES]
    assert found.changes == [Change("seed", "7", "20")]


def test_it_is_told_in_sentences() -> None:
    runs = evidence({"a": (), "b": ()}, weights={"b": "none"}).runs
    assert [str(text) for text in sentences(known(), runs, ENGLISH)] == [
        "1,203 images: 1,200 training, 1 validation, 2 test; SHA-256 aa.",
        "Split: SHA-256 bb; seed 20.",
        f"{COMMIT}; HEAD may be later.",
        "Weights of a: a_notop.h5, md5:6d6bbae143d832006294945121d1f1fc.",
        "Trained with keras 3.15.1, tensorflow 2.21.0.",
        "Calculated with Python 3.11.9, scipy 1.17.",
        "All parameters have their default values.",
    ]


def test_a_licence_that_the_weights_state_stands_beside_them() -> None:
    runs = evidence({"a": ()}).runs
    runs[0].provenance["weights"]["licence"] = "apache-2.0"
    assert "Weights of a: a_notop.h5, md5:6d6bbae143d832006294945121d1f1fc, licence apache-2.0." in [
        str(text) for text in sentences(known(), runs, ENGLISH)
    ]


def told(found: Provenance, language: Any = ENGLISH) -> str:
    return "\n".join(str(text) for text in sentences(found, evidence({"a": ()}).runs, language))


def test_a_commit_that_is_not_known_and_one_with_changes_say_so() -> None:
    assert "Commit: unknown, there is no git repository." in told(known(commit=None))
    said = told(known(commit=Commit("cc", ("params.yaml", "stages/split.py"))))
    assert f"{COMMIT}; HEAD may be later. There were uncommitted changes in params.yaml and stages/split.py." in said


def test_backbones_trained_with_different_versions_are_told_apart() -> None:
    runs = evidence({"a": (), "b": (), "c": ()}).runs
    runs[1].provenance["versions"] = {"keras": "3.16.0"}
    said = [str(text) for text in sentences(known(), runs, ENGLISH)]
    assert "Trained with keras 3.15.1, tensorflow 2.21.0: a and c." in said
    assert "Trained with keras 3.16.0: b." in said


def measured(**found: tuple[str, int, int, int]) -> list[Run]:
    """Return backbones with precision, images, differing and right of what explain measured."""
    keys = ("precision", "images", "differing", "right")
    runs = evidence(dict.fromkeys(found, ())).runs
    return [replace(run, precision=dict(zip(keys, found[run.backbone], strict=True))) for run in runs]


def precise(runs: list[Run], language: Language = ENGLISH) -> str:
    said = [str(text) for text in sentences(known(), runs, language)]
    return "\n".join(text for text in said if "float32" in text)


FLOAT32 = ("float32", 0, 0, 0)


def test_backbones_whose_predictions_differ_in_float32_share_one_sentence() -> None:
    runs = measured(a=("bfloat16", 102, 2, 2), b=("bfloat16", 102, 0, 0), c=("bfloat16", 102, 3, -1), d=FLOAT32)
    assert precise(runs) == (
        "Features were computed in bfloat16; in float32 predictions differ for 2 of 102 test images of a "
        "(accuracy \N{MINUS SIGN}2.0 points); 3 of 102 test images of c (accuracy +1.0 points)."
    )
    assert precise(runs[:1], named("es")) == (
        "Las características se calcularon en bfloat16; en float32 las predicciones difieren en 2 de 102 imágenes de "
        "prueba de a (exactitud: \N{MINUS SIGN}2,0 puntos)."
    )


def test_equal_predictions_in_float32_are_mentioned_where_it_was_tried() -> None:
    runs = measured(a=FLOAT32, b=("bfloat16", 102, 0, 0), c=("bfloat16", 102, 0, 0))
    assert precise(runs) == (
        "Features were computed in bfloat16; in float32 the predictions for all 102 test images are the same."
    )
    assert precise(runs, named("es")) == (
        "Las características se calcularon en bfloat16; en float32 las predicciones de las 102 imágenes de prueba son "
        "las mismas."
    )
    assert precise(measured(a=FLOAT32)) == ""


def test_changed_parameters_are_told_and_many_are_counted() -> None:
    some = [Change("a.b", "1", "2"), Change("backbones.x", None, "{}"), Change("backbones.y", "{}", None)]
    some.append(Change("backbones.z", None, "{}"))
    assert told(known(changes=some)).splitlines()[-3:] == [
        "Parameter a.b: 1, default 2.",
        "Parameter backbones.y: {}, no default.",
        "Default parameters that are left out: backbones.x and backbones.z.",
    ]
    many = [Change(f"k{number}", "1", "2") for number in range(14)]
    assert told(known(changes=many)).splitlines()[-1] == "2 more parameters differ from their defaults."
    assert (
        told(known(changes=many[:13]), named("es")).splitlines()[-1]
        == "1 parámetro más difiere de su valor por defecto."
    )
