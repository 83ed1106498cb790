"""Killed at any moment, the graph goes on: the next `dvc repro` completes and gives the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clone import Clone, environment
from tests.support.images import draw

MADE = (
    "data/raw", "data/quarantine", "data/manifest.csv", "data/rejects.csv", "data/splits.csv", "data/leaks.csv",
    "data/prepared",
)  # fmt: skip


def begun(pattern: str, file: str = "*") -> Callable[[Path], bool]:
    """Return whether files are being written into a temporary folder of `data`."""
    return lambda folder: any(folder.glob(f"data/.{pattern}.*.partial/{file}"))


# Moments, in the order in which they come: what is half done then.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "images wait": begun("raw", ".waiting/7"),
    "the manifest is there": lambda folder: (folder / "data/manifest.csv").exists(),
    "DVC keeps what ingest made": lambda folder: any((folder / ".dvc/cache/files/md5").glob("*/*.dir")),
    "images are being prepared": begun("prepared", "*/train.npy"),
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


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_next_run_completes_with_the_same_bytes(project: Clone, whole: dict[str, str], moment: str) -> None:
    clone = project.clone(project.folder.parent / moment.replace(" ", "_"))
    command = [sys.executable, "-m", "dvc", "repro", "preprocess"]
    process = subprocess.Popen(
        command,
        cwd=clone.folder,
        env=environment(clone.folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not MOMENTS[moment](clone.folder):
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the moment never came"
    done = clone.dvc("repro", "preprocess")
    assert done.code == 0, done.errors
    assert clone.digests(*MADE) == whole
    assert not list((clone.folder / "data").glob(".*.partial"))
