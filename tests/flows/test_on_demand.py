import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows import experiments
from flows.graph import FlowError
from flows.on_demand import on_demand
from tests.flows.conftest import CONFIG
from tests.flows.runs import log_lines

pytestmark = pytest.mark.usefixtures("prefect_server")

STAGES = """\
stages:
  read:
    cmd: echo read >> ${log} && cp ../outside.txt read.txt
    deps: [../outside.txt]
    outs: [read.txt]
  train:
    cmd: echo train >> ${log} && test ! -e ../broken && python -c "print(${head.dropout}, end='')" > model.txt
    params: [head.dropout]
    deps: [read.txt]
    outs: [model.txt]
"""
PARAMS = """\
# Every number.
log: ../ran.log
head:
  dropout: 0.5   # share dropped
"""


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def run(*targets: str, **parameters: Any) -> State[Any]:
    state: State[Any] = on_demand(targets, **parameters, return_state=True)
    return state


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of two stages that has been run and committed, and the data outside that it reads."""
    folder = tmp_path_factory.mktemp("on-demand")
    project = folder / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/config").write_text(CONFIG)
    (project / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (project / "dvc.yaml").write_text(STAGES)
    (project / "params.yaml").write_text(PARAMS)
    (folder / "outside.txt").write_text("data")
    with contextlib.chdir(project):
        git("init", "--quiet", "--initial-branch", "main")
        git("config", "user.name", "Tester")
        git("config", "user.email", "tester@example.com")
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
        git("add", "--all")
        git("commit", "--quiet", "--message", "one")
    return folder


@pytest.fixture
def project(template: Path, enter_copy: Callable[[Path], Path]) -> Path:
    return enter_copy(template)


def test_other_parameters_are_tried_beside_the_workspace_and_kept_as_an_experiment(
    project: Path, ran: Callable[[Path], list[str]]
) -> None:
    (project / "params.yaml").write_text(PARAMS + "unfinished: true\n")
    state = run(overrides=["head.dropout=0.3"], name="lower")
    assert state.message == (
        "2 stages are up to date (1 ran, 1 cached); saved as experiment lower: `dvc exp apply lower`"
    )
    # The data outside were found, and what was done before was not done again.
    assert ran(project.parent) == ["read", "train", "train"]
    assert (project / "model.txt").read_text() == "0.5"
    assert git("status", "--porcelain").split() == ["M", "params.yaml"]

    (reference,) = git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/lower").split()
    assert git("show", f"{reference}:params.yaml") == PARAMS.replace("0.5", "0.3")
    git("checkout", "--quiet", "params.yaml")
    subprocess.run([sys.executable, "-m", "dvc", "exp", "apply", "--quiet", "lower"], check=True)
    assert (project / "model.txt").read_text() == "0.3"


def test_a_failed_stage_leaves_no_experiment(project: Path) -> None:
    (project.parent / "broken").touch()
    state = run(overrides=["head.dropout=0.3"], name="lower")
    assert state.is_failed()
    assert (state.message or "").startswith("failed: train (")
    assert git("for-each-ref", "refs/exps/*/*/lower") == ""
    assert (project / "model.txt").read_text() == "0.5"


REFUSALS = {
    "head.droput=0.3": (
        "overrides head.droput=0.3 do not fit params.yaml: it has no key 'head.droput'; did you mean 'head.dropout'?"
    ),
    "zzz=1": "overrides zzz=1 do not fit params.yaml: it has no key 'zzz'",
    "log.x.y=1": "overrides log.x.y=1 do not fit params.yaml: it has no key 'log.x.y'",
    "head.dropout": "overrides head.dropout do not fit params.yaml: Error parsing override 'head.dropout' missing",
    "other.yaml:a=1": "overrides a=1 do not fit other.yaml: ",
    "head.dropout=0.1,0.2": "override head.dropout=0.1,0.2 has several values; expected one; start one run for each",
    "+source=https://me:secret@host/x,y": "override +source=https://***@host/x,y has several values",
}


@pytest.mark.parametrize(("override", "said"), REFUSALS.items())
def test_a_wrong_override_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    with pytest.raises(FlowError) as caught:
        experiments.override([override])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "params.yaml").read_text() == PARAMS


def test_wrong_overrides_and_names_fail_the_run_before_anything_is_done(
    project: Path, ran: Callable[[Path], list[str]]
) -> None:
    assert (run(overrides=["head.droput=0.3"]).message or "").startswith("overrides head.droput=0.3 do not fit")
    for name in ("two words", "a/b"):
        assert (run(name=name).message or "").startswith(f"name '{name}' is not accepted by git; expected letters")
    assert ran(project.parent) == ["read", "train"]


def test_a_name_that_is_taken_and_a_folder_that_is_not_ours_are_refused(project: Path) -> None:
    assert run("read", name="first").is_completed()
    state = run("read", name="first")
    assert state.message == "name 'first' is taken; choose another, or run `dvc exp remove first` before"

    folder = project.with_name("project-on-demand")
    shutil.rmtree(folder)
    git("worktree", "prune")
    folder.mkdir()
    (folder / "thesis.tex").touch()
    assert run("read").message == f"{folder} is needed for a worktree but is something else; move it away"
    assert (folder / "thesis.tex").exists()


def test_a_run_finds_its_folder_as_a_killed_one_has_left_it_and_where_the_project_was_moved(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("read").is_completed()
    folder = project.with_name("project-on-demand")
    (folder / ".git").unlink()
    (folder / "read.txt").unlink()
    state = run("read", name="again")
    assert state.message == (
        "1 stages are up to date (0 ran, 1 cached); saved as experiment again: `dvc exp apply again`"
    )
    assert (folder / "read.txt").read_text() == "data"

    # The project and its folder for runs together.
    there = project.parent.rename(project.parent.with_name("there"))
    monkeypatch.chdir(there / "project")
    state = run("read")
    assert state.is_completed(), state.message

    # The project alone.
    alone = there.with_name("alone")
    alone.mkdir()
    shutil.copy(there / "outside.txt", alone)
    (there / "project").rename(alone / "project")
    monkeypatch.chdir(alone / "project")
    state = run("read")
    assert state.is_completed(), state.message
    said = f"{there}/project-on-demand is left from where this project was before it was moved; delete that folder."
    assert said in log_lines(state, said)
