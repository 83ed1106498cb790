"""Killed or disturbed at any moment, the graph goes on: the next `dvc repro` completes and gives the same bytes."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.support.clone import Clone
from tests.support.images import draw
from tests.support.processes import marked

MADE = (
    "data/raw", "data/quarantine", "data/manifest.csv", "data/rejects.csv", "data/splits.csv", "data/leaks.csv",
    "data/prepared",
)  # fmt: skip


# Moments, in the order in which they come: what appears then, half done.
MOMENTS = {
    "images wait": "data/.raw.*.partial/.waiting/7",
    "the manifest is there": "data/manifest.csv",
    "DVC keeps what ingest made": ".dvc/cache/files/md5/*/*.dir",
    "images are being prepared": "data/.prepared.*.partial/*/train.npy",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = Clone.of_project(tmp_path_factory.mktemp("interrupted") / "project")
    draw(clone.folder / "images")
    clone.set({"data": {"source": "images"}, "preprocess": {"sizes": [96]}})
    clone.backbones("scratch: {input_size: 96}")
    clone.commit("start")
    return clone


@pytest.fixture(scope="module")
def whole(project: Clone) -> dict[str, str]:
    """What a run makes that nobody disturbs."""
    clone = project.clone(project.folder.parent / "whole")
    done = clone.dvc("repro", "preprocess")
    assert done.code == 0, done.errors
    return clone.digests(*MADE)


def begin(clone: Clone, moment: str, **variables: str) -> "subprocess.Popen[str]":
    """Start `dvc repro` in a session of its own; return it when the moment has come."""
    left = set(clone.folder.glob(MOMENTS[moment]))
    process = clone.start("dvc", "repro", "preprocess", **variables)
    while process.poll() is None and left.issuperset(clone.folder.glob(MOMENTS[moment])):
        time.sleep(0.001)
    return process


def test_killed_at_one_moment_after_another_the_next_run_goes_on_and_the_bytes_are_the_same(
    project: Clone, whole: dict[str, str]
) -> None:
    """Each run goes on from what the one before has left, to a later moment."""
    clone = project.clone(project.folder.parent / "killed")
    for moment in MOMENTS:
        with begin(clone, moment) as process:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, f"the moment never came: {moment}"
    done = clone.dvc("repro", "preprocess")
    assert done.code == 0, done.errors
    assert clone.digests(*MADE) == whole
    assert not list((clone.folder / "data").glob(".*.partial"))


def test_a_signal_to_dvc_alone_ends_its_stage_too(project: Clone, whole: dict[str, str]) -> None:
    clone = project.clone(project.folder.parent / "alone")
    mark = f"MARK={clone.folder}"
    for number in (signal.SIGTERM, signal.SIGKILL):
        with begin(clone, "images wait", MARK=str(clone.folder)) as process:
            assert marked(mark)
            process.send_signal(number)
        while marked(mark):
            time.sleep(0.01)
    done = clone.dvc("repro", "preprocess")
    assert done.code == 0, done.errors
    assert clone.digests(*MADE) == whole


CHANGES: dict[str, tuple[Callable[[Clone], object], str]] = {
    "a parameter": (lambda clone: clone.set({"data": {"min_pixels": 16}}), "'data' in params.yaml"),
    "code": (lambda clone: (clone.folder / "stages/core/new.py").write_text(""), "'stages/core'"),
    "data": (
        lambda clone: (clone.folder / "images/disc/00.jpg").rename(clone.folder / "images/disc/a.jpg"),
        "'images'",
    ),
}


def test_what_changes_while_a_stage_runs_fails_it_and_is_recorded_nowhere(project: Clone) -> None:
    clone = project.clone(project.folder.parent / "changed")
    for change, named in CHANGES.values():
        with begin(clone, "images wait") as process:
            change(clone)
            output, _ = process.communicate()
        assert process.returncode, output
        (line,) = (line for line in output.splitlines() if line.startswith("inputs: "))
        assert line.startswith(
            f"inputs: {named} changed while ingest ran; expected the same parameters, code and data "
        )
        assert "  ingest:\n" not in clone.text("dvc.lock")
        runs = [path.read_text() for path in (clone.folder / ".dvc/cache/runs").glob("*/*/*")]
        assert runs
        assert not [run for run in runs if "stages.ingest" in run]
        assert not (clone.folder / "data/manifest.csv").exists()
    done = clone.dvc("repro", "ingest")
    assert done.code == 0, done.errors
