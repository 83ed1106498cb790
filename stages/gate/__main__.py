"""Gate: whether the results in the workspace may replace those of a commit, by section `gate` of params.yaml.

    python -m stages.gate [--against REV]

It is not a stage of dvc.yaml, since it compares with git's history. It prints one line and exits with 0 when it passes,
or prints one line for each broken rule and exits with 1. The predictions of the commit come from DVC's cache or remote;
without them the significance of a drop is unknown, and the gate fails. It changes nothing.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc_data.index import DataIndexDirError

from stages.core import files, params
from stages.core.errors import DataError, GroupedUserError, one_line, run
from stages.core.measure import Measure
from stages.core.predictions import COLUMNS, read_groups, read_predictions
from stages.core.settings.gate import GateParams
from stages.core.settings.report import MeasureParams, winner
from stages.gate import rules
from stages.gate.rules import GateError, Results

METRICS = Path("data/metrics.json")
AUDIT = Path("data/audit.json")
SPLITS = Path("data/splits.csv")
MODELS = Path("data/models")


def read(place: str, measure: Measure, local: Callable[[Path], Path]) -> Results:
    """Return the results at `place`, as far as the measure needs them; `local` maps a path in data/ to a local file."""
    metrics = files.read_json(local(METRICS))
    model = MODELS / winner(metrics)
    whole = measure.of_probabilities
    predictions = read_predictions(local(model / "predictions.csv"), None if whole else COLUMNS)
    repeats = read_predictions(local(model / "repeats.csv"), None if whole else ("repeat", *COLUMNS))
    return Results(place, metrics, predictions, repeats)


def in_workspace(measure: Measure) -> tuple[Results, "pd.Series[str]", dict[str, Any]]:
    """Return the results in the workspace, groups, and data/audit.json. Raise DataError without these."""
    try:
        now, groups, audit = (
            read("the workspace", measure, lambda path: path),
            read_groups(SPLITS),
            files.read_json(AUDIT),
        )
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", "the results of a comparison in the workspace", "run 'dvc repro', or 'dvc pull'"
        ) from error
    if "selected_in_resamples" not in now.metrics[now.winner] or "test" not in audit["leaks"]:
        raise DataError(f"{METRICS} or {AUDIT} of an earlier version", "results of this one", "run 'dvc repro'")
    return now, groups, audit


@dataclass(frozen=True)
class Commit:
    """A commit: its display name, its files in git and DVC, and the path of this project in the repository."""

    name: str
    source: DVCFileSystem
    project: Path

    @classmethod
    def named(cls, revision: str) -> "Commit":
        """Return the commit that git resolves `revision` to. Raise GateError when there is none."""
        try:
            # For an empty revision DVC would open the workspace.
            source = DVCFileSystem(rev=revision or "''", subrepos=True)
            repository = source.repo
        except DvcException as error:
            raise GateError(
                f"--against '{revision}' ({error})", "a commit of this git repository", "name one, such as HEAD"
            ) from error
        project = Path.cwd().relative_to(Path(repository.scm.root_dir).resolve())
        return cls(f"{revision} ({repository.get_rev()[:7]})", source, project)

    def results(self, measure: Measure) -> Results | None:
        """Return its results, or None if it has none. Raise GateError when their data is unavailable."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                return read(self.name, measure, partial(self._fetch, Path(folder))) if self._holds(METRICS) else None
        # A remote whose library is missing makes DVC fail even if its cache has the data.
        except (FileNotFoundError, DataIndexDirError, DvcException, ImportError) as error:
            reason = error.__cause__ if isinstance(error, DataIndexDirError) else error
            raise GateError(
                f"the results at {self.name} are unavailable in DVC's cache and its remote ({reason})",
                "their predictions, to test a drop for significance",
                "run 'dvc push' where they were made, or 'dvc fetch' at that commit, or name another by --against",
            ) from error

    def _holds(self, path: Path) -> bool:
        """Return whether it has such a file; DVC's `exists` returns False for any failure."""
        try:
            self.source.info(str(self.project / path))
        except FileNotFoundError:
            return False
        return True

    def _fetch(self, folder: Path, path: Path) -> Path:
        """Copy a file into `folder`, and return the copy."""
        copy = folder / path.name
        self.source.get_file(str(self.project / path), str(copy))
        return copy


def main() -> None:
    """Compare the workspace with the commit named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.gate", description="Compare the workspace with a commit.")
    parser.add_argument("--against", default="HEAD", metavar="REV", help="the commit (HEAD)")
    measure = Measure.of(params.load_part(MeasureParams, "report"))
    settings = rules.Rules(params.load(GateParams, "gate"), measure)
    commit = Commit.named(parser.parse_args().against)
    (now, groups, audit), before = in_workspace(measure), commit.results(measure)
    if found := rules.faults(before, now, groups, audit, settings):
        raise GroupedUserError(found)
    compared = (
        rules.summary(before, now, groups, settings) if before else f"{commit.name} has no {METRICS} to compare with"
    )
    print(one_line(f"gate: passed: {compared}"))


if __name__ == "__main__":
    run(main)
