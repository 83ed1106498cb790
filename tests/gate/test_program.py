"""`python -m stages.gate` in a real repository: what is in the workspace against what git and DVC have of a commit."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from stages.core import files
from tests.support import artefacts
from tests.support.clone import ROOT, Clone, Done, environment

GRAPH = """\
stages:
  finetune:
    foreach: [vgg16, resnet50]
    do:
      cmd: 'true'
      outs: ['data/models/${item}']
"""
SECTION = """\
report: {measure: accuracy, costs: {}}
gate: {max_fall: 0.01, significance: 0.05, keep_backbones: true, keep_weights: true, max_leaks: 0}
"""
PUBLISHED = {"vgg16": "imagenet", "resnet50": "imagenet"}
# What a user's other settings must not change, and what is measured here.
APART = {"PYTHONPATH": str(ROOT), **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}}
LEAKS = {"groups": 1, "images": 2, "test": 2, "split_used": True}


def gate(folder: Path, *arguments: str) -> Done:
    command = [sys.executable, "-m", "stages.gate", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder) | APART, capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def write_results(folder: Path, wrong: Iterable[int] = (), best: str = "vgg16", **weights: str) -> None:
    """Write what compare and finetune do of 40 test images: the `best` backbone errs on `wrong`, the other on all."""
    errs = set(wrong)
    for backbone in PUBLISHED:
        right = [backbone == best and number not in errs for number in range(40)]
        rows = [("test", f"cat/{number}.jpg", "cat", "cat" if found else "dog") for number, found in enumerate(right)]
        table = pd.DataFrame(rows, columns=["split", "file", "label", "predicted"])
        files.write_csv(folder / "data/models" / backbone / "predictions.csv", table.assign(**{"p:cat": 1.0}))
        files.write_csv(folder / "data/models" / backbone / "repeats.csv", table[:0].assign(repeat=0))
    names = table["file"]
    files.write_csv(folder / "data/splits.csv", pd.DataFrame({"file": names, "group": names}))
    of_all = {"accuracy": 1 - len(errs) / 40, "selected_in_resamples": 1.0}
    metrics = {name: of_all | {"weights": source} for name, source in weights.items()}
    files.write_json(folder / "data/metrics.json", metrics | {"best": best})
    files.write_json(folder / "data/audit.json", artefacts.audit())


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two commits: one without results, tagged `start`, and one with results."""
    folder = tmp_path_factory.mktemp("history") / "project"
    (folder / ".dvc").mkdir(parents=True)
    shutil.copyfile(ROOT / ".dvc/config", folder / ".dvc/config")
    (folder / ".gitignore").write_text("/data/models\n")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "params.yaml").write_text(SECTION)
    clone = Clone.begun(folder)
    clone.dvc("remote", "add", "--quiet", "--default", "store", "../store")
    clone.commit("start")
    clone.git("tag", "start")
    write_results(folder, **PUBLISHED)
    clone.dvc("commit", "--quiet", "--force")
    clone.commit("results")
    return folder


@pytest.fixture
def project(history: Path, tmp_path: Path) -> Path:
    """A copy of the repository, with the results of its last commit in the workspace."""
    return shutil.copytree(history, tmp_path / "project")


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return time of change and content of every file, those of git and DVC among them."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


# Passing ------------------------------------------------------------------------------------------------


def test_results_that_are_no_worse_pass_with_one_line_and_nothing_is_changed(project: Path) -> None:
    before = state(project)
    done = gate(project)
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("gate: passed: accuracy of the winner 100.0 % (vgg16) at HEAD (")
    assert done.output.count("\n") == 1
    assert state(project) == before


def test_a_fall_that_chance_explains_passes(project: Path) -> None:
    write_results(project, range(4), **PUBLISHED)
    done = gate(project)
    assert done.code == 0
    assert "90.0 % (vgg16) now, on the 40 test images in both (4 newly wrong, 0 newly right)" in done.output


def test_a_commit_without_results_passes_and_is_said_to_have_none(project: Path) -> None:
    done = gate(project, "--against", "start")
    assert done.code == 0
    assert done.output.startswith("gate: passed: start (")
    assert done.output.endswith(") has no data/metrics.json to compare with\n")


def test_a_project_in_a_folder_of_its_repository_is_compared_as_well(project: Path) -> None:
    shutil.rmtree(project / ".git")
    Clone.begun(project.parent).commit("all")
    assert gate(project).output.startswith("gate: passed: accuracy of the winner 100.0 % (vgg16) at HEAD (")


# Failing ------------------------------------------------------------------------------------------------


def test_results_of_an_earlier_version_in_the_workspace_fail_with_one_line(project: Path) -> None:
    metrics = files.read_json(project / "data/metrics.json")
    del metrics["vgg16"]["selected_in_resamples"]
    files.write_json(project / "data/metrics.json", metrics)
    done = gate(project)
    assert (done.code, done.output) == (1, "")
    assert done.errors == (
        "data: data/metrics.json or data/audit.json of an earlier version; expected results of this one; run 'dvc "
        "repro'\n"
    )


def test_a_fall_fails_with_one_line_and_nothing_is_changed(project: Path) -> None:
    write_results(project, range(5), "resnet50", **PUBLISHED)
    before = state(project)
    done = gate(project)
    assert (done.code, done.output) == (1, "")
    assert done.errors.startswith(
        "gate: accuracy of the winner fell by 12.5 points, and by at least 5.4 with 95% confidence: 100.0 % (vgg16) at "
        "HEAD ("
    )
    assert done.errors.count("\n") == 1
    assert state(project) == before


def test_each_broken_rule_is_a_line(project: Path) -> None:
    write_results(project, vgg16="random")
    files.write_json(project / "data/audit.json", artefacts.audit(leaks=LEAKS))
    done = gate(project)
    starts = ("gate: leakage: 2 images", "gate: no results of resnet50;", "gate: random weights in vgg16;")
    assert done.code == 1
    for line, start in zip(done.errors.splitlines(), starts, strict=True):
        assert line.startswith(start)


def test_the_first_results_can_leak(project: Path) -> None:
    files.write_json(project / "data/audit.json", artefacts.audit(leaks=LEAKS))
    assert gate(project, "--against", "start").errors.startswith("gate: leakage: 2 images")


def test_the_parameters_of_the_workspace_decide(project: Path) -> None:
    write_results(project, range(5), **PUBLISHED)
    (project / "params.yaml").write_text(SECTION.replace("0.01", "0.2"))
    assert gate(project).code == 0


# The predictions of the commit ----------------------------------------------------------------------------


def test_predictions_that_the_cache_has_lost_are_read_from_the_remote(project: Path) -> None:
    Clone(project).dvc("push", "--quiet")
    shutil.rmtree(project / ".dvc/cache")
    assert gate(project).output.startswith("gate: passed: accuracy of the winner 100.0 % (vgg16) at HEAD (")
    assert not (project / ".dvc/cache").exists()


def test_predictions_that_are_nowhere_fail_with_what_to_do(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    done = gate(project)
    assert (done.code, done.output) == (1, "")
    assert done.errors.startswith("gate: the results at HEAD (")
    assert ") are unavailable in DVC's cache and its remote (" in done.errors
    assert done.errors.endswith(
        "); expected their predictions, to test a drop for significance; run 'dvc push' where they were made, or "
        "'dvc fetch' at that commit, or name another by --against\n"
    )
    assert done.errors.count("\n") == 1


def test_a_file_that_is_nowhere_in_a_known_folder_fails_too(project: Path) -> None:
    for file in (project / ".dvc/cache/files/md5").glob("??/*"):
        if file.suffix != ".dir":
            file.unlink()
    done = gate(project)
    assert done.code == 1
    assert "No storage files available: 'data/models/vgg16/predictions.csv'" in done.errors


def test_a_remote_without_its_library_fails_with_the_library(project: Path) -> None:
    Clone(project).dvc("remote", "modify", "--quiet", "--local", "store", "url", "oss://bucket/folder")
    done = gate(project)
    assert done.code == 1
    assert "(oss is supported, but requires 'dvc-oss' to be installed); " in done.errors


# A user's mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["nowhere", "", "HEAD~7"])
def test_a_commit_that_is_none_is_refused(project: Path, revision: str) -> None:
    done = gate(project, "--against", revision)
    assert (done.code, done.output) == (1, "")
    assert done.errors.startswith(f"gate: --against '{revision}' (")
    assert done.errors.endswith("); expected a commit of this git repository; name one, such as HEAD\n")
    assert done.errors.count("\n") == 1


def test_a_folder_without_git_is_refused(project: Path) -> None:
    shutil.rmtree(project / ".git")
    done = gate(project)
    assert done.code == 1
    assert " is not a git repository); expected a commit of this git repository;" in done.errors


@pytest.mark.parametrize("name", ["data/metrics.json", "data/audit.json", "data/models/vgg16/predictions.csv"])
def test_a_workspace_without_results_is_refused(project: Path, name: str) -> None:
    (project / name).unlink()
    done = gate(project)
    assert (done.code, done.output) == (1, "")
    assert done.errors == (
        f"data: no {name}; expected the results of a comparison in the workspace; run 'dvc repro', or 'dvc pull'\n"
    )


def test_parameters_are_read_strictly(project: Path) -> None:
    (project / "params.yaml").write_text(SECTION.replace("max_fall: 0.01", "max_fall: 1.5"))
    assert gate(project).errors == "params.yaml: gate.max_fall = 1.5; expected at most 1; correct it\n"
