"""Declare a named set of backbones: rewrite the lines of `backbones` in params.yaml.

    python -m stages.use            what sets there are
    python -m stages.use small      these backbones, and no others
    python -m stages.use small --add    these as well

DVC reads the names of backbones from params.yaml before anything runs, so that a set cannot be named there. Lines that
are there already stay as they are written. Then change single lines, or remove them, in params.yaml itself.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.core import params
from stages.core.errors import ParameterError, run
from stages.core.files import write_text
from stages.use.lines import replaced

_SETS = Path(__file__).with_name("sets.yaml")


def sets() -> Mapping[str, Any]:
    """Return what each set is for (`purpose`), and its lines (`backbones`)."""
    return params.read(_SETS)


def lines_of(name: str) -> Mapping[str, Any]:
    """Return the lines of a set. Raise ParameterError when there is none of this name."""
    known = sets()
    if name not in known:
        raise ParameterError(
            f"a set of backbones '{name}'",
            f"one of {', '.join(known)}",
            params.nearest(name, list(known)) or "see 'python -m stages.use'",
        )
    lines: Mapping[str, Any] = known[name]["backbones"]
    return lines


def changes(before: str, after: str) -> Iterator[str]:
    """Yield a line each for the backbones that a new text of params.yaml keeps, adds and removes, where there are."""
    old, new = (list(yaml.safe_load(text)["backbones"]) for text in (before, after))
    parts = {
        "kept": [name for name in old if name in new],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
    }
    for what, names in parts.items():
        hint = f" (--add would keep them; `git diff {params.FILE}` has their lines)" if what == "removed" else ""
        if names:
            yield f"{what}: {', '.join(names)}{hint}"


def main() -> None:
    """Write the set named on the command line into params.yaml, or list all sets."""
    parser = argparse.ArgumentParser(prog="python -m stages.use", description="Declare a named set of backbones.")
    parser.add_argument("set", nargs="?", help="its name; without one, all sets are listed")
    parser.add_argument("--add", action="store_true", help="keep the other backbones that are declared")
    given = parser.parse_args()
    if given.set is None:
        for name, known in sets().items():
            print(f"{name}: {known['purpose']} ({', '.join(known['backbones'])})")
        return
    lines = lines_of(given.set)
    text = params.FILE.read_text(encoding="utf-8")
    made = replaced(text, lines, keep=given.add)
    write_text(params.FILE, made)
    for change in changes(text, made):
        print(change)
    print(f"{params.FILE} declares the set '{given.set}'; next: python -m stages.check, then dvc repro")


if __name__ == "__main__":
    run(main)
