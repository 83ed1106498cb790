"""A Prefect server for all tests of flows, and small DVC projects with stages that take no time."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from tests.support.prefect_home import migrated

# Every stage notes its own start, so that a test can count what has run. `fail-b` makes one of them fail.
STAGES = """\
stages:
  first:
    cmd: echo first >> ran.log && python -c "print('hello from the first stage')" > first.txt && cat first.txt
    deps: [train.py]
    outs: [first.txt]
  train:
    foreach: [a, b]
    do:
      cmd: echo train@${item} >> ran.log && python train.py ${item}
      deps: [first.txt, train.py, input.txt]
      outs: ['train-${item}.txt']
  compare:
    cmd: echo compare >> ran.log && cat train-a.txt train-b.txt > all.txt
    deps: [train-a.txt, train-b.txt]
    outs: [all.txt]
"""
TRAIN = """\
import sys
from pathlib import Path

name = sys.argv[1]
sys.stderr.write("\\r10%|#   |\\r100%|####|\\n\\x1b[31mWARNING\\x1b[0m red\\n")
if Path(f"fail-{name}").exists():
    sys.exit(f"data: {name} is broken")
Path(f"train-{name}.txt").write_text(name)
"""
# As `dvc init` and `dvc add input.txt` write them.
CONFIG = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
DATA = "outs: [{md5: 8d777f385d3dfec8815d20f7496026dc, size: 4, hash: md5, path: input.txt}]\n"


@pytest.fixture(scope="package")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Measuring the coverage of the server, or of DVC below, would cost seconds each and find nothing of ours.
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        # Where it would make its database.
        home = tmp_path_factory.mktemp("prefect-test")
        shutil.copy(migrated(tmp_path_factory), home / "prefect-test.db")
        patch.setattr("prefect.testing.utilities.mkdtemp", lambda: str(home))
        with prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project in the working directory: first, then train@a and train@b, then compare."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text(CONFIG)
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "train.py").write_text(TRAIN)
    (folder / "input.txt").write_text("data")
    (folder / "input.txt.dvc").write_text(DATA)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    return folder


@pytest.fixture
def enter_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Return a function that copies a folder that holds a project, and works in that copy from now on."""

    def enter(template: Path) -> Path:
        shutil.copytree(template, tmp_path / "copy")
        monkeypatch.chdir(tmp_path / "copy/project")
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        return tmp_path / "copy/project"

    return enter


@pytest.fixture
def ran() -> Callable[[Path], list[str]]:
    """Return a function that reads which stages of a project have run, in alphabetical order."""

    def read(folder: Path) -> list[str]:
        log = folder / "ran.log"
        return sorted(log.read_text().split()) if log.exists() else []

    return read


@pytest.fixture
def dvc_process() -> Iterator["subprocess.Popen[str]"]:
    """A process with DVC's command line, which goes on until it is killed."""
    program = "print('begun', flush=True); input()"
    command = [sys.executable, "-c", program, "-m", "dvc", "repro"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()
