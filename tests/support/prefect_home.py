"""Prefect's database, made once: its hundred migrations take longer than a server takes to start."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATABASE = "prefect.db"


def migrated(factory: pytest.TempPathFactory) -> Path:
    """Return an empty database of Prefect's, which a test copies; all processes of one run of the tests share it."""
    base = factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prefect-home"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            inherited = {
                name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PREFECT_"))
            }
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            subprocess.run(
                command, env=inherited | {"PREFECT_HOME": str(home)}, check=True, stdout=subprocess.DEVNULL, cwd=home
            )
            (home / "done").touch()
    return home / DATABASE


def begin_home(factory: pytest.TempPathFactory, home: Path) -> Path:
    """Let `home` be a folder of Prefect's with an empty database, and return it."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(migrated(factory), home / DATABASE)
    return home
