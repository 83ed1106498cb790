"""The scheduled scoring of new images: each is scored once, whatever ends a run, and drift is said."""

import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.score import score
from flows.score_state import STATE, opened
from tests.flows.runs import artifacts

pytestmark = pytest.mark.usefixtures("prefect_server")

# The flow calls the program, and knows no more of it than this.
PREDICT = """\
import argparse, csv, os, sys
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("files0-from", "model", "format", "output", "rejects"):
    parser.add_argument(f"--{name}")
parser.add_argument("--drift", action="store_true")
options = parser.parse_args()
assert (options.model, options.format, options.drift) == ("data/exports/winner", "csv", True)
paths = [os.fsdecode(name) for name in Path(options.files0_from).read_bytes().split(b"\\0")]
shown = [path.encode("unicode_escape").decode() for path in paths]
with open("asked.log", "a") as log:
    log.writelines(f"{path}\\n" for path in shown)
if Path("fails").exists():
    sys.exit("export: 'data/exports/winner' was truncated or altered; expected the file as it was; fetch it again")
good = [path for path in shown if path.endswith(".png")]


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if good:
    write(options.output, ["path", "label", "confidence"], [(path, "tree", "0.9") for path in good])
if Path("killed").exists():
    rejects = Path(options.rejects)
    rejects.with_name(f".{rejects.name}.7.partial").touch()
    os.kill(os.getpid(), 9)
write(options.rejects, ["path", "reason"], [(path, "broken: cut") for path in shown if path not in good])
if not good:
    sys.exit("data: none of them could be predicted")
print("INFO predicted")
print("drift: " + Path("drift").read_text())
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the program, and two new images and a broken one."""
    folder = tmp_path / "project"
    (folder / "stages").mkdir(parents=True)
    (folder / "stages/predict.py").write_text(PREDICT)
    (folder / "data/incoming/deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.png", "broken.txt", ".hidden.png"):
        (folder / "data/incoming" / name).write_text(name)
    (folder / "drift").write_text("none found: confidence as before")
    monkeypatch.chdir(folder)
    return folder


def run(**parameters: Any) -> State[Any]:
    state: State[Any] = score(**parameters, return_state=True)
    return state


def asked(project: Path) -> list[str]:
    log = project / "asked.log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.removeprefix("data/incoming/") for line in lines]


def predictions(project: Path) -> Counter[str]:
    """Return how often each image stands in the results of all runs."""
    found: Counter[str] = Counter()
    for path in (project / "data/scores").glob("*Z.csv"):
        with path.open(newline="") as file:
            found.update(row["path"].removeprefix("data/incoming/") for row in csv.DictReader(file))
    return found


def test_each_image_is_scored_once_and_again_when_it_has_changed(project: Path) -> None:
    first = run()
    assert (first.name, asked(project)) == ("Completed", ["b.png", "broken.txt", "deep/a.png"])
    said = "2 new images predicted, 1 files left out, see data/scores; drift: none found: confidence as before"
    assert first.message == said
    assert predictions(project) == {"b.png": 1, "deep/a.png": 1}
    assert len(list(project.glob("data/scores/*-rejects.csv"))) == 1

    second = run()
    assert (second.name, second.message, asked(project)) == ("Completed", "no new images", [])

    (project / "data/incoming/c.png").write_text("c")
    (project / "data/incoming/b.png").write_text("another b")
    third = run()
    assert asked(project) == ["b.png", "c.png"]
    assert (third.message or "").startswith("2 new images predicted, 0 files left out")
    assert predictions(project) == {"b.png": 2, "c.png": 1, "deep/a.png": 1}


def test_counts_rejects_and_verdict_are_artifacts_and_drift_names_the_state(project: Path) -> None:
    (project / "drift").write_text("found: the images differ from those of its training")
    state = run()
    assert (state.name, state.is_completed()) == ("Drift", True)
    assert (state.message or "").endswith("drift: found: the images differ from those of its training")
    shown = artifacts(state)
    assert set(shown) == {"scores", "scores-summary"}
    assert '{"label": "tree", "images": 2}' in str(shown["scores"].data)
    summary = str(shown["scores-summary"].data)
    assert summary.startswith("drift: found: the images differ")
    assert "2 images predicted, 1 files left out\n- broken: 1" in summary


def test_a_run_that_fails_or_is_killed_loses_no_image_and_scores_none_twice(project: Path) -> None:
    (project / "fails").touch()
    state = run()
    assert state.is_failed()
    assert state.message == (
        "export: 'data/exports/winner' was truncated or altered; expected the file as it was; fetch it again"
    )
    (project / "fails").unlink()
    # Predictions are there, and what was left out is not.
    (project / "killed").touch()
    assert run().is_failed()
    (project / "killed").unlink()
    assert predictions(project) == {"b.png": 1, "deep/a.png": 1}
    asked(project)
    assert run().name == "Completed"
    assert asked(project) == ["b.png", "broken.txt", "deep/a.png"]
    assert predictions(project) == {"b.png": 1, "deep/a.png": 1}
    assert list((project / "data/scores").glob("*.partial")) == []
    assert run().message == "no new images"


def test_a_flow_that_was_killed_behind_the_results_scores_none_twice(project: Path) -> None:
    folder = project / "data/scores"
    with opened(folder) as state:
        assert len(state.begin("20260101T000000000000Z", Path("data/incoming"))) == 3
        state.predictions("20260101T000000000000Z").write_text("path,label,confidence\n")
        state.rejects("20260101T000000000000Z").write_text("path,reason\n")
    assert run().message == "no new images"


def test_what_cannot_be_used_is_tried_once(project: Path) -> None:
    for path in project.rglob("*.png"):
        path.unlink()
    state = run()
    assert (state.name, asked(project)) == ("Completed", ["broken.txt"])
    assert state.message == (
        "0 new images predicted, 1 files left out, see data/scores; drift: not judged: no prediction"
    )
    assert run().message == "no new images"


def test_names_may_hold_anything(project: Path) -> None:
    names = ["new\nline.png", os.fsdecode(b"not\xffutf8.png"), "--output.png"]
    for name in names:
        (project / "data/incoming" / name).write_text("x")
    assert (run().message or "").startswith("5 new images predicted")
    assert {"new\\nline.png", "not\\udcffutf8.png", "--output.png"} <= set(asked(project))
    assert run().message == "no new images"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"folder": "nowhere"}, "no folder nowhere; expected the folder of new images; create it, or set `folder`"),
        (
            {"results": "data/incoming/new"},
            "results in data/incoming/new would be new files of data/incoming; expected another folder; set `results`",
        ),
    ],
)
def test_a_wrong_parameter_fails_the_run_with_one_sentence(
    project: Path, parameters: dict[str, str], said: str
) -> None:
    state = run(**parameters)
    assert (state.is_failed(), state.message) == (True, said)


def test_a_damaged_state_fails_the_run_with_one_sentence(project: Path) -> None:
    (project / "data/scores").mkdir()
    (project / "data/scores" / STATE).write_bytes(b"x" * 5000)
    state = run()
    assert state.is_failed()
    assert (state.message or "").startswith(
        "data/scores/scored.sqlite cannot be used (file is not a database); restore"
    )


def test_a_broken_program_is_named(project: Path) -> None:
    (project / "stages/predict.py").write_text("raise KeyError('x')")
    assert run().message == "KeyError: 'x'"
