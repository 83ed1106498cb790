"""A clone has the same bytes whatever its owner has set for git: DVC reruns what depends on others."""

import hashlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def digests(folder: Path) -> dict[str, str]:
    return {
        name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in git(folder, "ls-files").splitlines()
    }


@pytest.mark.parametrize(
    "settings",
    [("core.autocrlf=true",), ("core.autocrlf=input",), ("core.autocrlf=false", "core.eol=crlf"), ("core.eol=crlf",)],
)
def test_line_ends_are_the_same_in_every_clone(tmp_path: Path, settings: tuple[str, ...]) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    git(tmp_path, "init", "-q", str(origin))
    for name in (".gitattributes", "params.yaml", "dvc.yaml", "Makefile", "stages/check.py", "docs/report.webp"):
        (origin / name).parent.mkdir(exist_ok=True)
        (origin / name).write_bytes((ROOT / name).read_bytes())
    git(origin, "add", "-A")
    git(origin, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all", "--no-gpg-sign", "--no-verify")
    options = [part for setting in settings for part in ("-c", setting)]
    git(tmp_path, "clone", "-q", *options, str(origin), str(clone))
    assert digests(clone) == digests(origin)


def test_no_file_is_kept_with_the_line_ends_of_windows() -> None:
    assert {line.split()[0] for line in git(ROOT, "ls-files", "--eol").splitlines()} <= {"i/lf", "i/-text", "i/none"}
