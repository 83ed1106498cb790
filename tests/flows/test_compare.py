import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.compare import compare, level, main
from flows.dvc import outdated, read_graph
from tests.flows.runs import artifacts, last_state, log_lines, task_states, tasks

ALL = ["first", "train@a", "train@b", "compare", "input.txt.dvc"]

pytestmark = pytest.mark.usefixtures("prefect_server")


def run(*targets: str, jobs: int = 1, fail_fast: bool = False) -> State[Any]:
    state: State[Any] = compare(targets, jobs, fail_fast, return_state=True)
    return state


@pytest.fixture
def signals() -> None:
    """Take SIGINT as Python does; shells start background jobs with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_each_stage_is_a_task_with_its_log_others_go_on_after_a_failure_and_the_next_run_goes_on_from_there(
    project: Path,
    ran: Callable[[Path], list[str]],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    signals: None,
) -> None:
    (project / "fail-a").touch()
    assert main(["--jobs", "2"]) == 1
    assert ran(project) == ["first", "train@a", "train@b"]
    assert (project / "train-b.txt").read_text() == "b"
    said = (
        "failed: train@a (data: a is broken); not run because of that: compare; missing from the comparison: a; "
        "earlier results are kept"
    )
    assert capsys.readouterr().err.splitlines()[-1] == f"flow: {said}"

    state = last_state()
    assert (state.is_failed(), state.message) == (True, said)
    states = tasks(state, 5)
    assert {stage: found.name for stage, found in states.items()} == dict.fromkeys(ALL, "Completed") | {
        "train@a": "Failed",
        "compare": "NotRun",
    }
    assert states["compare"].message == "missing: train@a"
    lines = log_lines(state, "not run: compare")
    assert lines["data: a is broken"] == logging.INFO
    assert lines["hello from the first stage"] == level("INFO x")
    assert lines["WARNING red"] == level("WARNING x")
    assert lines["100%|####|"]
    assert "Updating lock file 'dvc.lock'" in lines
    assert not [line for line in lines if "git" in line or "dvc push" in line or "autostage" in line]
    assert not [line for line in caplog.messages if "NotRun" in line]
    assert not [line for line in lines if "Traceback" in line or "NoneType" in line]
    assert set(artifacts(state)) == {"durations"}

    (project / "fail-a").unlink()
    again = run()
    assert again.message == "5 stages are up to date (2 ran, 3 cached)"
    assert ran(project) == ["compare", "first", "train@a", "train@a", "train@b"]
    lines = log_lines(again, "compare starts; 4 of 5 done, 0 left; running: compare")
    assert "train@a starts; 3 of 5 done, 1 left; running: train@a" in lines
    ended = [line.partition(" after ")[2] for line in lines if line.startswith("train@a: completed after ")]
    assert [end.partition("; ")[2] for end in ended] == ["4 of 5 done, 1 left"]
    (rows,) = [artifact.data for key, artifact in artifacts(again).items() if key == "durations"]
    assert [part for part in ALL if f'"stage": "{part}", "state": "Completed"' in str(rows)] == ["train@a", "compare"]

    third = run()
    assert third.message == "5 stages are up to date (0 ran, 5 cached)"
    assert task_states(third, 5) == dict.fromkeys(ALL, "Cached")
    assert ran(project) == ["compare", "first", "train@a", "train@a", "train@b"]


def test_the_first_failure_ends_everything_where_that_is_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    commands = {"quick": "exit 1", "slow": "echo $$ > pid; sleep 600; touch slow", "last": "touch last"}
    entries = [f"{name}: {{cmd: '{command}', outs: [{name}]}}" for name, command in commands.items()]
    # The failure waits until the other runs.
    (project / "wait.sh").write_text("until test -s pid; do sleep 0.1; done; exit 1")
    entries[0] = "quick: {cmd: sh wait.sh, outs: [quick]}"
    (project / "dvc.yaml").write_text("stages:\n" + "".join(f"  {entry}\n" for entry in entries))
    assert main(["--jobs", "2", "--fail-fast"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "flow: failed: quick (failed to run: sh wait.sh, exited with 1); stopped: slow; not run because of that: last; "
        "earlier results are kept"
    )
    assert task_states(last_state(), 3) == {"quick": "Failed", "slow": "Cancelled", "last": "NotRun"}
    assert not Path(f"/proc/{int((project / 'pid').read_text())}").exists()


def test_what_dvc_watches_is_recorded_as_dvc_repro_records_it(project: Path) -> None:
    stages = "read: {cmd: wc -w < input.txt > words, deps: [input.txt], outs: [words]}, "
    stages += "show: {cmd: cp words shown, deps: [words], outs: [shown]}"
    (project / "dvc.yaml").write_text(f"stages: {{{stages}}}")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)
    (project / "input.txt").write_text("other")
    state = run()
    # The stage that reads it wrote what it had written before.
    assert state.message == "3 stages are up to date (2 ran, 1 cached)"
    assert "8d777f385d3dfec8815d20f7496026dc" not in (project / "input.txt.dvc").read_text()
    assert outdated(read_graph()) == set()


def test_an_unknown_target_costs_one_line_and_no_run(
    project: Path, ran: Callable[[Path], list[str]], capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    assert main(["trian@a"]) == 1
    printed = capsys.readouterr().err
    assert printed == "flow: unknown target 'trian@a'; expected a stage of dvc.yaml; did you mean 'train@a'?\n"
    assert ran(project) == []


def test_a_deployed_run_with_an_unknown_target_fails_with_the_same_line(project: Path) -> None:
    state = run("trian")
    assert state.is_failed()
    assert state.message == "unknown target 'trian'; expected a stage of dvc.yaml; did you mean 'train'?"


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_a_wrong_number_of_jobs_is_refused(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--jobs", jobs])
    assert f"received '{jobs}', expected a whole number, 1 or more" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("flow: no Prefect server answers at http://127.0.0.1:9/api ")
    assert line.endswith("; start it, or unset PREFECT_API_URL for a temporary one")


def test_a_flow_asks_the_check_before_dvc_reads_the_images(
    project: Path, ran: Callable[[Path], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe would have DVC wait for ever, also when nothing but the images has changed and DVC skips the check."""
    graph = yaml.safe_load((project / "dvc.yaml").read_text())
    graph["stages"]["check"] = {"cmd": "echo check >> ran.log && touch checked", "outs": ["checked"]}
    graph["stages"]["first"]["deps"].append("images")
    (project / "dvc.yaml").write_text(yaml.safe_dump(graph))
    (project / "stages").mkdir()
    (project / "stages/__init__.py").touch()
    (project / "stages/check.py").write_text("import sys\nsys.exit('data: images/p.jpg is a pipe')\n")
    (project / "images").mkdir()
    os.mkfifo(project / "images/p.jpg")
    assert main(["check", "first"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "flow: check: data: images/p.jpg is a pipe"
    assert ran(project) == []


def test_the_last_lines_are_the_answer_of_what_was_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str], signals: None
) -> None:
    (project / "dvc.yaml").write_text("stages: {other: {cmd: touch o, outs: [o]}, compare: {cmd: touch c, outs: [c]}}")
    (project / "data/report").mkdir(parents=True)
    (project / "data/report/comparison.md").write_text("## Comparison\n\n**Use `a`.**\n\n| | backbone |\n")
    for _ in ("everything runs", "everything is cached"):
        assert main([]) == 0
        assert capsys.readouterr().out.splitlines()[-2:] == ["Use a.", "data/report/comparison.html"]
    assert main(["other"]) == 0
    assert "Use a." not in capsys.readouterr().out


def test_the_flow_fails_when_dvc_still_finds_work(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {restless: {cmd: echo x > x, outs: [x], always_changed: true}}")
    state = run()
    assert state.is_failed()
    assert state.message == "every stage has run, but DVC still reports changes in restless"


def test_ten_stages_at_once_fail_on_no_lock(project: Path, ran: Callable[[Path], list[str]]) -> None:
    stage = "{cmd: 'echo ${item} >> ran.log; touch o${item}', outs: ['o${item}']}"
    (project / "dvc.yaml").write_text(f"stages: {{many: {{foreach: {list(range(10))}, do: {stage}}}}}")
    state = run(jobs=10)
    assert state.message == "10 stages are up to date (10 ran, 0 cached)"
    assert ran(project) == sorted(map(str, range(10)))
    assert set(task_states(state, 10).values()) == {"Completed"}
