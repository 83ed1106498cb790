"""What dead processes have left in DVC's list of paths in use stops no run."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.rwlock import rwlock

from flows.locks import release_dead
from tests.flows.conftest import CONFIG

LIST = Path(".dvc/tmp/rwlock")
# No process has this id: the highest on 64-bit Linux is 2^22.
FREE = 2**22 + 1


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def entry(process_id: int) -> dict[str, Any]:
    return {"pid": process_id, "cmd": "dvc repro"}


@pytest.mark.parametrize("dead", [FREE, os.getpid(), os.getppid()], ids=["no process", "this one", "another program"])
def test_what_a_dead_dvc_holds_is_released_whoever_has_its_id_now(
    dead: int, dvc_process: "subprocess.Popen[str]"
) -> None:
    living = dvc_process.pid
    held = {
        "write": {"a": entry(dead), "b": entry(living)},
        "read": {"c": [entry(dead), entry(living)], "d": [entry(dead)]},
    }
    LIST.write_text(json.dumps(held))
    release_dead()
    assert json.loads(LIST.read_text()) == {"write": {"b": entry(living)}, "read": {"c": [entry(living)]}}


DAMAGED = {
    "half a line": '{"write": {"/a": {"pi',
    "nothing": "",
    "zeros": "\0" * 40,
    "no list of locks": '["a"]',
    "an entry without an id": '{"write": {"a": {"cmd": "dvc"}}, "read": {}}',
    "another form": '{"write": 3, "read": {}}',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_list_is_removed(kind: str) -> None:
    LIST.write_text(DAMAGED[kind])
    release_dead()
    assert not LIST.exists()


def test_a_list_that_dvc_is_writing_is_left_alone() -> None:
    LIST.write_text(DAMAGED["half a line"])
    with LIST.with_name("rwlock.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        release_dead()
        assert LIST.exists()


def test_without_a_list_there_is_nothing_to_do() -> None:
    release_dead()
    assert not list(LIST.parent.iterdir())


def hold(*, write: str) -> None:
    """Enter a path that is written into the list, as a DVC command does in the folder, and leave it."""
    with rwlock(str(LIST.parent.absolute()), localfs, "dvc repro", [], [write], False):
        pass


@pytest.mark.parametrize("kind", ["a dead holder", *DAMAGED])
def test_dvc_s_lock_is_free_after_it_and_not_before(kind: str) -> None:
    path = str(Path("one.txt").absolute())
    LIST.write_text(DAMAGED.get(kind, json.dumps({"write": {path: entry(os.getppid())}, "read": {}})))
    with pytest.raises(DvcException, match=r"is busy|RWLock-file"):
        hold(write=path)
    release_dead()
    hold(write=path)


@pytest.mark.parametrize("kind", ["a dead holder", "half a line"])
def test_dvc_runs_after_it(kind: str) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    Path(".dvc/config").write_text(CONFIG)
    Path("dvc.yaml").write_text("stages: {one: {cmd: echo 1 > one.txt, outs: [one.txt]}}")
    held = json.dumps({"write": {str(Path("one.txt").absolute()): entry(os.getpid())}, "read": {}})
    LIST.write_text(DAMAGED.get(kind, held))
    repro = [sys.executable, "-m", "dvc", "repro"]
    assert subprocess.run(repro, capture_output=True, check=False).returncode
    release_dead()
    assert subprocess.run(repro, capture_output=True, check=False).returncode == 0
