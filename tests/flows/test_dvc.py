import json
import resource
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import dvc
from flows.dvc import Outcome, lock_failed_after_run, outdated, read_graph, reproduce
from flows.graph import FlowError
from flows.process import ProcessGroups


def run(stage: str) -> tuple[str, str]:
    outcome = reproduce(stage, ProcessGroups(), print)
    return outcome.how, outcome.message


def test_the_graph_is_read_from_dvc(project: Path) -> None:
    assert read_graph() == {
        "first": frozenset(),
        "train@a": {"first", "input.txt.dvc"},
        "train@b": {"first", "input.txt.dvc"},
        "input.txt.dvc": frozenset(),
        "compare": {"train@a", "train@b"},
    }


def test_a_stage_runs_once_and_is_restored_from_the_cache(project: Path, ran: Callable[[Path], list[str]]) -> None:
    assert outdated(["first", "train@a"]) == {"first", "train@a"}
    assert run("first") == ("ran", "done")
    assert run("first") == ("cached", "unchanged")
    (project / "first.txt").unlink()
    assert run("first") == ("cached", "restored from DVC's cache")
    assert ran(project) == ["first"]


def test_a_failed_stage_says_in_one_line_what_failed(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {bad: {cmd: exit 7, outs: [x]}}")
    how, message = run("bad")
    assert how == "failed"
    assert message == "failed to reproduce 'bad': failed to run: exit 7, exited with 7"


def test_a_stage_waits_for_another_command_that_holds_what_it_writes(
    project: Path, ran: Callable[[Path], list[str]], dvc_process: "subprocess.Popen[str]"
) -> None:
    (project / ".dvc/tmp").mkdir()
    lock = {"write": {str(project / "first.txt"): {"pid": dvc_process.pid, "cmd": "dvc status"}}}
    (project / ".dvc/tmp/rwlock").write_text(json.dumps(lock))
    heard: list[str] = []

    def release(line: str) -> None:
        heard.append(line)
        if line.startswith("Waiting for `dvc status` (process "):
            dvc_process.kill()
            dvc_process.wait()

    assert reproduce("first", ProcessGroups(), release) == Outcome("ran", "done")
    assert any("is busy, it is being blocked by:" in line for line in heard)
    assert ran(project) == ["first"]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Commands can write files of 1 MB, as if the disk were full then; a stage may lift the limit for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_outputs_that_dvc_cannot_keep_are_a_failure_although_dvc_ends_with_0(project: Path) -> None:
    command = "ulimit -S -f unlimited; mkdir big; head -c 2000000 /dev/zero > big/one"
    (project / "dvc.yaml").write_text(f"stages: {{big: {{cmd: '{command}', outs: [big]}}}}")
    how, message = run("big")
    assert how == "failed"
    assert message.startswith("DVC could not keep its outputs (")
    assert "File too large" in message
    assert message.endswith("); mend that, then `dvc commit big`")
    assert outdated(["big"]) == {"big"}


def test_what_dvc_watches_is_recorded_once(project: Path) -> None:
    (project / "input.txt").write_text("other data")
    assert outdated(["input.txt.dvc"]) == {"input.txt.dvc"}
    assert run("input.txt.dvc") == ("ran", "done")
    assert run("input.txt.dvc") == ("cached", "unchanged")


def test_secrets_that_dvc_or_a_stage_prints_are_masked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "echo https://user:pa55word@example.com/data.zip; exit 3"
    (project / "dvc.yaml").write_text(f"stages: {{bad: {{cmd: '{command}', outs: [x]}}}}")
    _, message = run("bad")
    assert "echo https://***@example.com/data.zip; exit 3, exited with 3" in message
    assert "pa55word" not in capsys.readouterr().out


def test_a_failed_stage_says_its_last_line(project: Path) -> None:
    (project / "fail-a").touch()
    assert run("first")[0] == "ran"
    how, message = run("train@a")
    assert how == "failed"
    assert message.endswith("&& python train.py a, exited with 1: data: a is broken")


def test_a_lock_that_fails_after_the_command_costs_no_second_run(
    project: Path, ran: Callable[[Path], list[str]]
) -> None:
    # DVC waits 3 s for the guard of its read and write locks; the stage leaves somebody behind who holds it.
    holder = """\
        import os, sys, time
        import zc.lockfile
        lock = zc.lockfile.LockFile(".dvc/tmp/rwlock.lock")
        open("saved.txt", "w").write("hours of work")
        if os.fork() == 0:
            os.close(1), os.close(2)
            time.sleep(4)
            lock.close()
        os._exit(0)
        """
    (project / "holder.py").write_text(textwrap.dedent(holder))
    command = "echo slow >> ran.log && python holder.py"
    (project / "dvc.yaml").write_text(f"stages: {{slow: {{cmd: {command}, outs: [saved.txt]}}}}")
    assert run("slow") == ("ran", "saved by `dvc commit` after a failed lock")
    assert "saved.txt" in (project / "dvc.lock").read_text()
    assert ran(project) == ["slow"]


@pytest.mark.parametrize(
    ("lines", "finished"),
    [
        (["Running stage 's':", "> cmd", "ERROR: failed to reproduce 's': Unable to acquire lock. Most likely"], True),
        (["ERROR: failed to reproduce 's': 'out' is busy, it is being blocked by:"], False),
        (["Running stage 's':", "> cmd", "ERROR: Unable to acquire lock", "ERROR: failed to run: cmd"], False),
        (["Running stage 's':", "> cmd"], False),
    ],
)
def test_only_a_lock_that_failed_after_the_command_is_mended(lines: list[str], *, finished: bool) -> None:
    assert lock_failed_after_run("s", lines) is finished


def test_a_project_without_stages_is_refused(project: Path) -> None:
    (project / "dvc.yaml").unlink()
    with pytest.raises(FlowError, match=r"^dvc.yaml declares no stage; expected at least one"):
        read_graph()


def test_a_broken_graph_is_refused_in_one_line(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: {one: {command: x}}")
    with pytest.raises(
        FlowError, match=r"^`dvc dag` failed: '\./dvc\.yaml' validation failed: 2 errors\. extra keys"
    ) as caught:
        read_graph()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        lambda: outdated(read_graph()),
        lambda: dvc.run(["repro", "--single-item", "first"], ProcessGroups(), print),
    ],
)
def test_a_command_waits_for_another_dvc_that_holds_its_files_and_says_so(
    project: Path,
    dvc_process: "subprocess.Popen[str]",
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[[], object],
) -> None:
    held = {str(project / "first.txt"): {"pid": dvc_process.pid, "cmd": "dvc repro train"}}
    (project / ".dvc/tmp").mkdir()
    (project / ".dvc/tmp/rwlock").write_text(json.dumps({"write": held, "read": {}}))
    attempts: list[float] = []

    def wait(seconds: float) -> None:
        attempts.append(seconds)
        # More often than it would try if nobody held them.
        if len(attempts) > 1:
            dvc_process.kill()
            dvc_process.wait()

    monkeypatch.setattr(dvc, "_BUSY_RETRIES", 1)
    monkeypatch.setattr(dvc.time, "sleep", wait)
    command()
    printed = "".join(capsys.readouterr())
    assert printed.count(f"Waiting for `dvc repro train` (process {dvc_process.pid}), which holds files") == 1
    assert len(attempts) == 2


def test_a_lock_that_nobody_alive_holds_is_given_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvc, "_asked", lambda _: subprocess.CompletedProcess([], 255, "", "ERROR: 'a' is busy, it is "
                        "being blocked by:"))  # fmt: skip
    waited: list[float] = []
    monkeypatch.setattr(dvc.time, "sleep", waited.append)
    with pytest.raises(FlowError, match="`dvc status` failed: 'a' is busy, it is being blocked by:"):
        outdated(["a"])
    assert len(waited) == 30
