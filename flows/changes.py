"""The differences from the last commit: results, written by DVC, and files that people have changed."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from flows import git
from flows.graph import FlowError


@dataclass(frozen=True)
class Changes:
    """The files that differ from the last commit."""

    results: list[str]
    others: list[str]


def since_commit() -> Changes:
    """Return the differences from the last commit: results, including new ones, and other tracked files."""
    paths, changed = _results(), git.changed()
    found = {name for name in changed if _at_or_below(name, paths) or _only_ignores(name, paths)}
    found |= set(git.untracked(paths))
    return Changes(sorted(found), [name for name in changed if name not in found])


def reset() -> None:
    """Restore the results of the last commit; DVC has the current ones in its cache."""
    git.reset(git.untracked(_results()))


def require_committed(why: str) -> None:
    """Raise FlowError, giving `why`, when anything but results differs from the last commit."""
    if others := since_commit().others:
        more = f" and {len(others) - 1} more differ" if others[1:] else " differs"
        raise FlowError(f"{others[0]}{more} from the last commit, and {why}; commit or stash that first")


def _results() -> list[str]:
    """Return the paths that DVC writes: dvc.lock, and every output that it names."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    outputs = [output["path"] for stage in stages.values() for output in stage.get("outs", [])]
    return [str(lock), *outputs]


def _only_ignores(name: str, results: list[str]) -> bool:
    """Return whether `name` is a .gitignore whose only new lines are those that DVC adds for results beside it."""
    path = Path(name)
    if path.name != ".gitignore" or not path.exists():
        return False
    before, now = git.committed(name).splitlines(), path.read_text(encoding="utf-8").splitlines()
    results_beside_it = {f"/{Path(result).name}" for result in results if Path(result).parent == path.parent}
    return now[: len(before)] == before and results_beside_it.issuperset(now[len(before) :])


def _at_or_below(name: str, paths: list[str]) -> bool:
    return any(name == path or name.startswith(f"{path}/") for path in paths)
