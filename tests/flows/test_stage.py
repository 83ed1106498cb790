import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.stage import run_stage
from tests.flows.conftest import CONFIG

pytestmark = pytest.mark.usefixtures("prefect_server")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(project: Path, message: str) -> str:
    git(project, "add", "--all")
    git(project, "-c", "user.name=Tester", "-c", "user.email=tester@example.com", "commit", "--quiet", "-m", message)
    return git(project, "rev-parse", "HEAD")


def publish(project: Path, text: str) -> None:
    """Do what `dvc add input.txt` and `dvc push` do."""
    digest = hashlib.md5(text.encode()).hexdigest()
    (project / "input.txt").write_text(text)
    (project / "input.txt.dvc").write_text(
        f"outs: [{{md5: {digest}, size: {len(text)}, hash: md5, path: input.txt}}]\n"
    )
    stored = project.parent / "store/files/md5" / digest[:2] / digest[2:]
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(text)


def run(stage: str, commit: str) -> State[Any]:
    state: State[Any] = run_stage(stage, commit, return_state=True)
    return state


def test_a_worker_brings_its_clone_to_the_commit_and_keeps_what_the_user_has_there(
    project: Path, monkeypatch: pytest.MonkeyPatch, ran: Callable[[Path], list[str]]
) -> None:
    remote = f"    remote = store\n['remote \"store\"']\n    url = {project.parent}/store\n"
    (project / ".dvc/config").write_text(CONFIG + remote)
    (project / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (project / ".gitignore").write_text("/ran.log\n/input.txt\n")
    publish(project, "data")
    first = commit(project, "one")
    clone = project.parent / "clone"
    git(project, "clone", "--quiet", str(project), str(clone))
    monkeypatch.chdir(clone)

    assert run("first", first).is_completed()
    assert run("train@a", first).is_completed()
    assert (clone / "input.txt").read_text() == "data"
    assert run("train@a", first).name == "Cached"

    # The clone has a dvc.lock that no commit knows, and data of the commit before.
    publish(project, "other data")
    (clone / "notes.txt").write_text("the user's")
    assert run("train@a", commit(project, "two")).name == "Completed"
    assert (clone / "input.txt").read_text() == "other data"
    assert git(clone, "log", "-1", "--format=%s") == "two"
    assert (clone / "notes.txt").exists()
    assert ran(clone) == ["first", "train@a", "train@a"]

    (clone / "fail-a").touch()
    publish(project, "more data")
    failed = run("train@a", commit(project, "three"))
    assert failed.is_failed()
    assert (failed.message or "").endswith("data: a is broken")

    message = run("train@b", "0" * 40).message or ""
    assert message.startswith(f"commit {'0' * 40} is unavailable; run `git push` where it was made; `git ")
    (clone / "train.py").write_text("the user's")
    assert run("train@b", first).message == (
        "train.py differs from the last commit, and a worker runs what is committed; commit or stash that first"
    )
    assert (clone / "train.py").read_text() == "the user's"
