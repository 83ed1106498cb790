"""What DVC records of a stage: whether its inputs are still those that it started with.

DVC reads the parameters and hashes the files of a stage once more when its command has ended, and records that. What
changed meanwhile would be recorded, kept in the run cache and pushed as what the results were made of.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path
from typing import Any

import yaml

# The environment variable in which DVC names the stage whose command it runs.
STAGE = "DVC_STAGE"
_PARAMS = Path("params.yaml")
# What people edit, or write anew by `python -m stages.check`: small files, compared by content, since one may be
# touched, or changed and changed back.
_EDITED = re.compile(r"stages/.*|params\.yaml|data/(checked\.txt|recipes.*|rankings/all\.json)")
# This module is imported before nearly all others of this project, and before libraries.
_STARTED = time.time_ns()
# PyYAML's parser in C is ten times as fast, where it is there.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Inputs:
    """The parameters and files of a stage, as dvc.yaml names them, in the state in which they are found."""

    def __init__(self, stage: str) -> None:
        name, _, self._item = stage.partition("@")
        declared = _loaded(Path("dvc.yaml")).get("stages", {}).get(name, {})
        self._stage, self._params = declared.get("do", declared), _loaded(_PARAMS)
        self._ignored = _ignored(Path(".dvcignore"))
        self.states = self._now()

    def late(self) -> list[str]:
        """Return the paths of code that was written after this process started: it may have been imported before."""
        return [f"'{path}'" for path in self._paths("deps") if self._is_late(path)]

    def changed(self) -> list[str]:
        """Return what is not as it was, in words: keys of params.yaml, and paths."""
        now = self._now()
        return [name for name, state in self.states.items() if state != now[name]]

    def discard_outputs(self) -> None:
        """Remove what the stage has written: it must not be taken for its results later."""
        for path in self._paths("outs"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _now(self) -> dict[str, object]:
        params = _loaded(_PARAMS)
        keys = self._stage.get("params", [])
        states: dict[str, object] = {f"'{key}' in params.yaml": _value(params, key) for key in keys}
        for path in self._paths("deps"):
            state = _content if _EDITED.fullmatch(str(path)) else _signature
            states[f"'{path}'"] = hash(frozenset(hash(state(file)) for file in self._files(path)))
        return states

    def _is_late(self, path: Path) -> bool:
        files = map(Path, self._files(path)) if path.parts[0] == "stages" else ()
        return any(file.stat().st_ctime_ns > _STARTED for file in files)

    def _paths(self, kind: str) -> Iterator[Path]:
        """Yield the paths of dependencies or outputs, with or without options, with the values of their variables."""
        for entry in self._stage.get(kind, []):
            path = next(iter(entry)) if isinstance(entry, dict) else entry
            yield Path(re.sub(r"\$\{(.*?)\}", lambda name: self._variable(name[1]), path))

    def _variable(self, name: str) -> str:
        """Return the value of a variable in a path: the stage's own of `foreach`, or a parameter."""
        return self._item if name in {"key", "item"} else str(_value(self._params, name))

    def _files(self, path: Path) -> Iterator[str]:
        """Yield a file, or the files in a folder that DVC does not ignore; like DVC, follow no links to folders."""
        if not path.is_dir():
            yield str(path)
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not self._ignored.match(name)]
            yield from (f"{folder}/{name}" for name in names if not self._ignored.match(name))


def _ignored(file: Path) -> re.Pattern[str]:
    """Return what matches the names that a file in the form of .gitignore lists; it has no paths here."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return re.compile("|".join(translate(line.strip()) for line in lines if line.strip() and line[0] != "#") or "(?!)")


def _content(file: str) -> tuple[str, bytes | None]:
    try:
        return file, Path(file).read_bytes()
    except OSError:
        return file, None


def _signature(file: str) -> tuple[str, tuple[int, int, int] | None]:
    """Return what DVC, too, tells by that a file has changed."""
    try:
        about = os.stat(file)  # noqa: PTH116 (100,000 files take half the time)
    except OSError:
        return file, None
    return file, (about.st_ino, about.st_mtime_ns, about.st_size)


def _loaded(file: Path) -> dict[str, Any]:
    """Return a YAML file as a mapping; an empty one if it cannot be read, which the stage itself reports."""
    try:
        loaded = yaml.load(file.read_bytes(), _Loader)  # noqa: S506 (it builds plain values only)
    except (OSError, yaml.YAMLError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _value(params: Any, key: str) -> Any:
    """Return the value under a dotted key, or None."""
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params
