"""Clones of this project, as its working tree is now, in which DVC runs for real."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.core.params import merge

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    output: str
    errors: str

    @property
    def ran(self) -> set[str]:
        """The stages whose commands DVC ran."""
        return set(re.findall(r"^Running stage '([^']+)':$", self.output, re.MULTILINE))


class Clone:
    """A git repository with this project's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_project(cls, folder: Path) -> "Clone":
        """Make a repository of the project's files as they stand in the working tree, without what is generated."""
        names = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).output.split("\0")
        for name in names:
            # A file that is deleted but not committed is still listed.
            generated = name.startswith(("data/", "tests/")) and not name.startswith("data/own_weights/")
            if (ROOT / name).is_file() and not generated and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        return cls.begun(folder)

    @classmethod
    def begun(cls, folder: Path) -> "Clone":
        """Make a git repository of a folder."""
        clone = cls(folder)
        clone.git("init", "--quiet", "--initial-branch", "main")
        clone._introduce()
        return clone

    def clone(self, folder: Path) -> "Clone":
        """Clone what is committed, as another user would."""
        self.git("clone", "--quiet", str(self.folder), str(folder))
        clone = Clone(folder)
        clone._introduce()
        return clone

    def dvc(self, *arguments: str) -> Done:
        """Run DVC in the clone."""
        return _run([sys.executable, "-m", "dvc", *arguments], self.folder)

    def program(self, *arguments: str) -> Done:
        """Run Python in the clone, as a terminal does."""
        return _run([sys.executable, *arguments], self.folder)

    def start(self, *module: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a module of Python in the clone, in a session of its own, with further environment variables."""
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=self.folder,
            env=environment(self.folder) | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def flow(self, *arguments: str) -> Done:
        """Run the flow in the clone, with a Prefect server of its own."""
        (self.folder / ".cache/prefect").mkdir(parents=True, exist_ok=True)
        return _run([sys.executable, "-m", "flows.compare", *arguments], self.folder)

    def git(self, *arguments: str) -> str:
        """Run git in the clone and return what it prints; raise AssertionError when it fails."""
        done = _run(["git", *arguments], self.folder)
        assert done.code == 0, done.errors
        return done.output

    def _introduce(self) -> None:
        self.git("config", "user.name", "Tester")
        self.git("config", "user.email", "tester@example.com")

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def text(self, name: str) -> str:
        """Return the text of a file of the clone."""
        return (self.folder / name).read_text(encoding="utf-8")

    def set(self, changes: Mapping[str, Any]) -> None:
        """Lay `changes` over params.yaml, section by section."""
        path = self.folder / "params.yaml"
        params = merge(yaml.safe_load(path.read_text(encoding="utf-8")), changes)
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def backbones(self, *lines: str) -> None:
        """Let section `backbones` of params.yaml hold these lines and no others."""
        path = self.folder / "params.yaml"
        section = "".join(f"  {line}\n" for line in lines)
        text, found = re.subn(
            r"(?m)^backbones:.*\n(?:[ #].*\n)*", f"backbones:\n{section}", path.read_text(encoding="utf-8")
        )
        assert found == 1
        path.write_text(text, encoding="utf-8")

    def run_again(self, *stages: str) -> None:
        """Run stages that are up to date once more, and no others."""
        done = self.dvc("repro", "--single-item", "--force", *stages)
        assert (done.code, done.ran) == (0, set(stages)), done.errors

    def digests(self, *names: str) -> dict[str, str]:
        """Return the SHA-256 of each file that is, or lies below, one of `names`.

        DVC notes in .gitignore what it keeps out of git, in the order in which stages end: no stage's work.
        """
        paths = [path for name in names for path in (self.folder / name, *(self.folder / name).rglob("*"))]
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.is_file() and path.name != ".gitignore"
        }


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user with no settings of git and Prefect, no weights and no environment activated."""
    apart = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "KERAS_HOME": str(folder / ".cache/keras-home"),
        "PREFECT_HOME": str(folder / ".cache/prefect"),
        "DVC_NO_ANALYTICS": "1",
        # The width that DVC's tables are cut to where there is no terminal.
        "COLUMNS": "200",
    }
    # Measuring coverage through dozens of starts of TensorFlow would take minutes.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PREFECT_"))}
    return inherited | apart


def _run(command: list[str], folder: Path) -> Done:
    """Run `command` in `folder`."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
