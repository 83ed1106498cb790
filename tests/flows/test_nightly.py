import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.graph import FlowError
from flows.nightly import MESSAGE, _apply_gate, nightly
from flows.process import ProcessGroups
from tests.flows.conftest import CONFIG
from tests.flows.runs import artifacts, log_lines

pytestmark = pytest.mark.usefixtures("prefect_server")

STAGES = """\
stages:
  count:
    cmd: echo count >> ran.log && python -c "print(open('input.txt').read() + ', counted', end='')" > counted.txt
    deps: [input.txt]
    outs: [counted.txt]
"""
# The flow calls the gate as a program, and knows no more of it than this.
GATE = """\
import sys
from pathlib import Path

assert sys.argv[1:] == ["--against", "HEAD"]
if Path("findings.txt").exists():
    sys.exit(Path("findings.txt").read_text())
print("gate: passed: nothing has fallen")
"""


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def run(**parameters: Any) -> State[Any]:
    state: State[Any] = nightly(**parameters, return_state=True)
    return state


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project with one stage, a gate and a remote, all committed, and the data that it imports."""
    folder = tmp_path_factory.mktemp("nightly")
    project = folder / "project"
    (project / "stages").mkdir(parents=True)
    (project / "stages/gate.py").write_text(GATE)
    (project / "dvc.yaml").write_text(STAGES)
    (project / ".gitignore").write_text("/ran.log\n__pycache__\n")
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text(CONFIG + "    remote = store\n['remote \"store\"']\n    url = ../../store\n")
    (project / ".dvc/.gitignore").write_text("/tmp\n/cache\n")
    (folder / "source.txt").write_text("data of monday")
    with contextlib.chdir(project):
        git("init", "--quiet", "--initial-branch", "main")
        git("config", "user.name", "Tester")
        git("config", "user.email", "tester@example.com")
        subprocess.run([sys.executable, "-m", "dvc", "import-url", "../source.txt", "input.txt"], check=True)
        git("add", "--all")
        git("commit", "--quiet", "--message", "one")
    return folder


@pytest.fixture
def project(template: Path, enter_copy: Callable[[Path], Path]) -> Path:
    return enter_copy(template)


def test_new_data_are_fetched_and_the_results_committed_and_pushed_and_nothing_else(
    project: Path, ran: Callable[[Path], list[str]]
) -> None:
    (project / "notes.txt").write_text("the user's")
    first = run(commit=True, push=True)
    assert first.is_completed(), first.message
    said = "2 stages are up to date (1 ran, 1 cached); gate: passed: nothing has fallen; pushed to DVC's remote; "
    assert (first.message or "").startswith(f"{said}committed as ")
    assert git("log", "-1", "--format=%s", "--name-only").split("\n\n") == [MESSAGE, ".gitignore\ndvc.lock"]
    assert git("status", "--porcelain") == "?? notes.txt"
    assert "durations" in artifacts(first)
    stored = [path.read_text() for path in (project.parent / "store/files").rglob("*") if path.is_file()]
    assert "data of monday, counted" in stored

    (project.parent / "source.txt").write_text("data of tuesday")
    second = run(commit=True)
    assert second.is_completed(), second.message
    assert (project / "counted.txt").read_text() == "data of tuesday, counted"
    assert ran(project) == ["count", "count"]
    assert git("show", "--format=", "--name-only").split() == ["dvc.lock", "input.txt.dvc"]

    (project / "data/report").mkdir(parents=True)
    (project / "data/report/comparison.md").write_text("## Comparison\n\n**Use `a`.**\n\nNext: x\n\n| | backbone |\n")
    third = run(commit=True)
    said = "(0 ran, 2 cached); verdict: Use a; gate: passed: nothing has fallen; nothing to commit"
    assert (third.message or "").endswith(said)
    assert "Next: x" in log_lines(third, "Use a.")


def test_a_closed_gate_fails_the_run_with_one_sentence_and_commits_nothing(project: Path) -> None:
    (project / "findings.txt").write_text("gate: accuracy fell by 3 points\ngate: vgg16 is gone")
    before = git("rev-parse", "HEAD")
    state = run(commit=True, push=True)
    assert (state.is_failed(), state.message) == (True, "gate: accuracy fell by 3 points; vgg16 is gone")
    assert git("rev-parse", "HEAD") == before
    assert (project / "counted.txt").read_text() == "data of monday, counted"
    assert git("status", "--porcelain").split() == ["M", ".gitignore", "??", "dvc.lock", "??", "findings.txt"]
    assert not (project.parent / "store").exists()


def test_a_gate_that_breaks_has_found_nothing(project: Path) -> None:
    (project / "stages/gate.py").write_text("raise KeyError('accuracy')")
    with pytest.raises(FlowError, match=r"^gate: it crashed: KeyError: 'accuracy'$"):
        _apply_gate(ProcessGroups(), print)


def test_a_failed_stage_fails_the_run_before_the_gate(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {broken: {cmd: exit 1, outs: [x]}}")
    (project / "findings.txt").write_text("never read")
    assert run().message == ("failed: broken (failed to run: exit 1, exited with 1); earlier results are kept")


REFUSALS = {
    "git checkout --quiet --detach": "git has no branch checked out here (HEAD is detached), so a commit would be lost",
    "git config --unset user.email; git config user.useConfigOnly true": "git does not know the author",
    "git config commit.gpgsign true; git config gpg.program false": "git cannot sign commits here (`git commit-tree`",
    "echo x >> dvc.yaml": "dvc.yaml differs from the last commit, and a commit of the results would not match",
    "echo x > new.py; git add new.py": "new.py differs from the last commit",
    "git rm --quiet --cached dvc.yaml": "dvc.yaml differs from the last commit",
}


@pytest.mark.parametrize(("change", "said"), REFUSALS.items())
def test_what_could_not_be_committed_afterwards_is_refused_before(
    project: Path, monkeypatch: pytest.MonkeyPatch, ran: Callable[[Path], list[str]], change: str, said: str
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    subprocess.run(change, shell=True, check=True)
    state = run(commit=True)
    assert state.is_failed()
    assert (state.message or "").startswith(said), state.message
    assert ran(project) == []


def test_nothing_is_committed_when_somebody_has_committed_meanwhile(project: Path) -> None:
    (project / "dvc.yaml").write_text(
        "stages: {rude: {cmd: git commit -qm theirs --allow-empty && touch x, outs: [x]}}"
    )
    git("commit", "--quiet", "--all", "--message", "two")
    state = run(commit=True)
    assert state.is_failed()
    assert (state.message or "").startswith("commits or files have changed here since the run began")
    assert git("log", "-1", "--format=%s") == "theirs"


def test_a_push_without_a_remote_is_refused_before(project: Path, ran: Callable[[Path], list[str]]) -> None:
    (project / ".dvc/config").write_text(CONFIG)
    assert run(push=True).message == "DVC has no default remote; run `dvc remote add --default NAME URL`"
    assert ran(project) == []


def test_data_that_cannot_be_fetched_fail_the_run(project: Path) -> None:
    (project.parent / "source.txt").unlink()
    message = run().message or ""
    assert message.startswith("`dvc update` failed: ")
    assert "\n" not in message
