"""The scoring run: predicts the images added to a folder since the last run, and reports drift."""

import csv
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import publish, score_state, workspace
from flows.faults import FAULTS, sentence
from flows.graph import FlowError
from flows.process import ProcessGroups, end_with_worker

# Run as a program, like the stages.
_PREDICT = "stages.predict"
_DRIFT = "drift: "
_FOUND = f"{_DRIFT}found"


@flow(name="score", retries=0, persist_result=False)
def score(
    folder: str = "data/incoming", results: str = "data/scores", model: str = "data/exports/winner"
) -> State[Any]:
    """Predict the images of `folder` that are new or have changed, with the exported classifier `model`.

    Each run writes one CSV of predictions, and one of rejects, to `results`. It completes as `Drift` if the new images
    differ from the classifier's own.
    """
    end_with_worker()
    try:
        with workspace.exclusive(get_run_logger().info):
            return _score(Path(folder), Path(results), model)
    except FAULTS as error:
        return Failed(message=sentence(error))


def _score(folder: Path, results: Path, model: str) -> State[Any]:
    if not folder.is_dir():
        raise FlowError(f"no folder {folder}; expected the folder of new images; create it, or set `folder`")
    if results.resolve().is_relative_to(folder.resolve()):
        raise FlowError(f"results in {results} would be new files of {folder}; expected another folder; set `results`")
    # Sorted by time, and unique to the run.
    run = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    with score_state.opened(results) as state:
        new = state.begin(run, folder)
        if not new:
            return Completed(message="no new images")
        predictions, rejects = state.predictions(run), state.rejects(run)
        lines = _predict(new, model, predictions, rejects)
    labels, reasons = _count(predictions, "label"), _count(rejects, "reason")
    verdict = next((line for line in lines if line.startswith(_DRIFT)), f"{_DRIFT}not judged: no prediction")
    publish.scores(labels, reasons, verdict)
    said = f"{labels.total()} new images predicted, {reasons.total()} files left out, see {results}; {verdict}"
    return Completed(name="Drift" if verdict.startswith(_FOUND) else "Completed", message=said)


def _predict(images: Sequence[bytes], model: str, predictions: Path, rejects: Path) -> list[str]:
    """Run the program; return its output. Raise FlowError when it crashes or cannot start."""
    log: Callable[[str], None] = get_run_logger().info
    options = ["--model", model, "--format", "csv", "--output", str(predictions), "--rejects", str(rejects), "--drift"]
    # The names would be too long for a command line, and may contain anything but NUL.
    with tempfile.NamedTemporaryFile() as names:
        names.write(b"\0".join(images))
        names.flush()
        code, lines = ProcessGroups().run([sys.executable, "-m", _PREDICT, "--files0-from", names.name, *options], log)
    # It also fails if no image is usable: these are no longer new, and their reasons are written.
    if code and (predictions.exists() or not rejects.exists()):
        raise FlowError(lines[-1] if lines else f"{_PREDICT} ended with exit code {code}")
    return lines


def _count(path: Path, column: str) -> Counter[str]:
    """Return how often each value occurs in a column, reasons by their kind; empty if the file is missing."""
    if not path.exists():
        return Counter()
    with path.open(encoding="utf-8", newline="") as file:
        return Counter(
            row[column].partition(": ")[0] if column == "reason" else row[column] for row in csv.DictReader(file)
        )
