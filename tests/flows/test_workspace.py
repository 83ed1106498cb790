import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import workspace
from flows.changes import require_committed, reset, since_commit
from flows.git import dvc_files
from flows.graph import FlowError

HOLD = """\
import sys, time
from flows.workspace import exclusive
with exclusive(print):
    print("inside", flush=True)
    time.sleep(600)
"""


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def committed(project: Path) -> Path:
    """The project after a commit, with a record of two results and the user's own files."""
    git("config", "user.name", "Tester")
    git("config", "user.email", "tester@example.com")
    (project / ".gitignore").write_text("/ran.log\n")
    (project / "dvc.lock").write_text("stages: {s: {outs: [{path: results}, {path: model}]}}\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    return project


def test_a_second_run_waits_until_the_first_has_ended_even_by_sigkill(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "inside\n"
        said: list[str] = []

        def log(line: str) -> None:
            said.append(line)
            holder.kill()

        with workspace.exclusive(log):
            pass
    assert said == ["Waiting for another run in this folder (.dvc/tmp/flow.lock is locked)."]


def test_results_are_told_from_what_people_have_changed(committed: Path) -> None:
    (committed / "results").mkdir()
    (committed / "results/new.csv").write_text("1")
    (committed / "results.txt").write_text("the user's")
    (committed / "dvc.lock").write_text((committed / "dvc.lock").read_text() + "schema: '2.0'\n")
    (committed / "train.py").write_text("changed")
    (committed / "dvc.yaml").unlink()
    found = since_commit()
    assert found.results == ["dvc.lock", "results/new.csv"]
    assert found.others == ["dvc.yaml", "train.py"]
    with pytest.raises(FlowError, match=r"^dvc.yaml and 1 more differ from the last commit, and so on; commit or"):
        require_committed("so on")


@pytest.mark.parametrize(
    ("text", "is_result"),
    [
        ("/ran.log\n/model\n", True),
        ("/ran.log\n/model\n/results\n", True),
        ("/ran.log\n/mine\n", False),
        ("/model\n", False),
    ],
)
def test_what_dvc_adds_to_gitignore_counts_as_a_result(committed: Path, text: str, *, is_result: bool) -> None:
    (committed / ".gitignore").write_text(text)
    found = since_commit()
    assert (found.results, found.others) == (([".gitignore"], []) if is_result else ([], [".gitignore"]))


def test_results_are_brought_back_and_the_users_new_files_stay(committed: Path) -> None:
    before = (committed / "dvc.lock").read_text()
    (committed / "dvc.lock").write_text(before + "schema: '2.0'\n")
    (committed / "model").write_text("new")
    (committed / "notes.txt").write_text("the user's")
    reset()
    assert (committed / "dvc.lock").read_text() == before
    assert not (committed / "model").exists()
    assert (committed / "notes.txt").exists()


def test_dvc_s_files_are_found_before_they_are_committed_unless_git_ignores_them(project: Path) -> None:
    git("add", "input.txt.dvc")
    (project / "data").mkdir()
    for name in ("new", "ignored", "gone"):
        (project / f"data/{name}.dvc").touch()
    (project / ".gitignore").write_text("ignored.dvc\n")
    git("add", "data/gone.dvc")
    (project / "data/gone.dvc").unlink()
    assert sorted(dvc_files()) == ["data/new.dvc", "input.txt.dvc"]
