"""Gate: whether the results in the workspace may take the place of those of a commit, by section `gate`.

    python -m stages.gate [--against REV]

No stage of dvc.yaml, since it compares with git's history. Prints one line and exits with 0 when it passes, or
one line for each rule that is broken and exits with 1. The predictions of the commit come from DVC's cache or its
remote; where neither has them a fall cannot be told from chance, and the gate fails. Changes nothing.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dvc.api import DVCFileSystem  # type: ignore[import-untyped]
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc_data.index import DataIndexDirError

from stages import files, params
from stages.errors import DataError, GroupedUserError, one_line, run
from stages.results import gate, paired
from stages.results.gate import GateError, GateParams, Results
from stages.results.runs import BEST

METRICS = Path("data/metrics.json")
AUDIT = Path("data/audit.json")
MODELS = Path("data/models")


def read(place: str, local: Callable[[Path], Path]) -> Results:
    """Return the results at `place`; `local` gives for a path in data/ the file on this disk that holds it."""
    metrics = files.read_json(local(METRICS))
    table = local(MODELS / metrics[BEST] / "predictions.csv")
    return Results(place, metrics, files.read_csv(table, text=paired.COLUMNS, columns=paired.COLUMNS))


def in_workspace() -> tuple[Results, dict[str, Any]]:
    """Return the results in the workspace, and data/audit.json. Raise DataError when they are not there."""
    try:
        return read("the workspace", lambda path: path), files.read_json(AUDIT)
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", "the results of a comparison in the workspace", "run 'dvc repro', or 'dvc pull'"
        ) from error


def opened(revision: str) -> tuple[DVCFileSystem, str]:
    """Return what git and DVC have of a commit, and what to call it. Raise GateError where there is no such commit."""
    try:
        # Given no name at all, DVC would open the workspace.
        source = DVCFileSystem(rev=revision or "''")
        commit = source.repo.get_rev()
    except DvcException as error:
        raise GateError(
            f"--against '{revision}' ({error})", "a commit of this git repository", "name one, such as HEAD"
        ) from error
    return source, f"{revision} ({commit[:7]})"


def in_commit(source: DVCFileSystem, place: str) -> Results | None:
    """Return the results in `source`, None where it has none. Raise GateError when their data cannot be had."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return read(place, partial(_fetch, source, Path(folder))) if _holds(source, METRICS) else None
    # A remote for which a library is missing makes DVC stop even where its cache has the data.
    except (FileNotFoundError, DataIndexDirError, DvcException, ImportError) as error:
        reason = error.__cause__ if isinstance(error, DataIndexDirError) else error
        raise GateError(
            f"the results at {place} cannot be had from DVC's cache or its remote ({reason})",
            "their predictions, to tell a fall from chance",
            "run 'dvc push' where they were made, or 'dvc fetch' at that commit, or name another by --against",
        ) from error


def _fetch(source: DVCFileSystem, folder: Path, path: Path) -> Path:
    """Copy a file into `folder`, and return the copy."""
    source.get_file(str(path), str(folder / path.name))
    return folder / path.name


def _holds(source: DVCFileSystem, path: Path) -> bool:
    """Say whether there is such a file; `exists` takes any failure for a no."""
    try:
        source.info(str(path))
    except FileNotFoundError:
        return False
    return True


def main() -> None:
    """Compare the workspace with the commit named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.gate", description="Compare the workspace with a commit.")
    parser.add_argument("--against", default="HEAD", metavar="REV", help="the commit (HEAD)")
    settings = params.load(GateParams, "gate")
    source, commit = opened(parser.parse_args().against)
    now, audit = in_workspace()
    before = in_commit(source, commit)
    if found := gate.faults(before, now, audit, settings):
        raise GroupedUserError(found)
    compared = gate.summary(before, now, settings) if before else f"{commit} has no {METRICS} to compare with"
    print(one_line(f"gate: passed: {compared}"))


if __name__ == "__main__":
    run(main)
