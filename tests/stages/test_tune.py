"""Stage tune searches each backbone's dense head in a process of its own, and trains nothing that it has trained."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import tune
from stages.core import params as parameters
from stages.core.files import read_csv, read_json, write_csv, write_json
from stages.core.params import load, merge
from stages.core.settings.recipes import FinetuneRecipe, read_recipe, write_recipes
from stages.core.settings.tune import TuneParams
from tests.contracts.closure import ROOT
from tests.support.processes import alive, await_end, children

WIDTH, CLASSES, TRIALS = 12, ("cold", "warm"), 4
# The first has a dense head of its own, the second none; of the others nothing is searched.
LINES = {
    "dense": {"builder": "vgg16", "head": {"units": [8]}, "epochs": 2},
    "linear": {"builder": "vgg16", "epochs": 2},
    "left": {"builder": "vgg16", "head": {"units": [8]}},
    "scratch": {},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write what stages before tune write: features of two classes that lie apart."""
    monkeypatch.chdir(tmp_path)
    draw, rows, folder = np.random.default_rng(0), [], tmp_path / "data/features/dense"
    folder.mkdir(parents=True)
    for split, count in {"train": 60, "validation": 20, "test": 20}.items():
        numbers = np.arange(count) % 2
        np.save(folder / f"{split}.npy", (draw.normal(0, 2, (count, WIDTH)) + numbers[:, None]).astype("float32"))
        rows += [(split, row, f"{split}{row}.png", CLASSES[number], -1) for row, number in enumerate(numbers)]
    (tmp_path / "data/features/linear").symlink_to(folder)
    prepared = tmp_path / "data/prepared"
    write_csv(
        prepared / "index.csv", pd.DataFrame(rows, columns=["split", "row", "file", "label", "fold"]).assign(group="")
    )
    for name in LINES:
        facts = {"network": {"width": WIDTH, "frozen": name != "scratch"}}
        write_json(tmp_path / f"data/features/{name}/features.json", facts)
        write_json(tmp_path / f"data/candidates/{name}.json", {"finetune": name != "left"})
    configure()
    yield tmp_path
    parameters.read.cache_clear()


def configure(**changes: Any) -> None:
    """Write the parameters, and what stage check makes of them."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    space = {"optimizer": [], "units": [[4], [6]], "batch_size": [], "views": []}
    tuned = {"preprocess": {"views": 0}, "tune": {"trials": TRIALS, "startup_trials": 3, "space": space}}
    params = merge(merge(params, tuned), changes) | {"backbones": LINES}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    parameters.read.cache_clear()
    write_recipes(params)


def start() -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "stages.tune"], env=environment, stderr=subprocess.PIPE, text=True)


def run() -> dict[str, bytes]:
    """Run the stage; return what it has written."""
    process = start()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return {str(path): path.read_bytes() for path in Path("data/tuning").rglob("*.*")}


def tried(name: str) -> list[str]:
    """Return what the journals of Optuna have of trials, a line for each."""
    texts = [path.read_text() for path in Path(f".cache/tuning/{name}").glob("*.log")]
    return [line for text in texts for line in text.splitlines() if '"op_code":4' in line]


@pytest.mark.usefixtures("root")
def test_what_was_found_is_written_and_what_was_tried_is_not_tried_again() -> None:
    expected = run()
    assert {str(Path(path).parent) for path in expected} == {f"data/tuning/{name}" for name in LINES}
    for name, default in (("dense", [8]), ("linear", [4])):
        search = read_json(Path(f"data/tuning/{name}/search.json"))
        assert len(read_csv(Path(f"data/tuning/{name}/trials.csv"))) == len(tried(name)) == TRIALS
        assert search["default"]["units"] == default
        assert search["chosen_measure"] <= search["default_measure"]
        # A backbone without a dense head of its own takes even the default.
        chosen = {} if search["chosen"] == search["default"] and name == "dense" else search["chosen"]
        assert read_json(Path(f"data/tuning/{name}/chosen.json")) == {"values": chosen}

    # The search of another line of the same name, whose trials are of no use.
    (own,) = Path(".cache/tuning/dense").iterdir()
    own.rename(own.with_name("0123456789abcdef.log"))
    kept = tried("linear")
    _kill_after(2, own)
    _leave_as_one_that_was_killed_while_it_wrote(own)
    assert run() == expected
    assert [path.name for path in Path(".cache/tuning/dense").iterdir()] == [own.name]
    assert len(tried("dense")) == TRIALS
    # Of the other backbone nothing had changed.
    assert tried("linear") == kept


def _kill_after(count: int, journal: Path) -> None:
    """Start the stage and kill it, and only it, when the journal has this many trials."""
    process = start()
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (journal.exists() and len(tried("dense")) >= count):
        assert process.poll() is None
        time.sleep(0.02)
    searching = children(process.pid)
    assert len(searching) == 1
    assert all(map(alive, searching))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    await_end(searching)
    assert count <= len(tried("dense")) < TRIALS


def _leave_as_one_that_was_killed_while_it_wrote(journal: Path) -> None:
    """Leave half a line and Optuna's lock; most kills do not come just then."""
    with journal.open("a") as file:
        file.write('{"op_code":4,"worker_id":"')
    if not (lock := journal.with_name(journal.name + ".lock")).is_symlink():
        lock.symlink_to(journal)


@pytest.mark.usefixtures("root")
def test_where_nothing_is_searched_it_takes_no_tensorflow_and_chooses_nothing() -> None:
    configure(tune={"trials": 0})
    program = "import sys; from stages.tune import main; main(); assert not {'tensorflow', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    for name in LINES:
        folder = Path("data/tuning") / name
        assert read_json(folder / "chosen.json") == {"values": {}}
        assert read_json(folder / "search.json") == {"not_searched": "off"}
        assert (folder / "trials.csv").read_text() == "trial,state,epochs,log_loss,accuracy\n"


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("dense", {"tune": {"trials": 0}}, "off"),
        ("left", {}, "not fine-tuned"),
        ("scratch", {}, "unfrozen"),
        ("linear", {"tune": {"space": {"units": []}}}, "no dense head"),
        ("linear", {}, None),
        ("dense", {"tune": {"space": {"units": []}}}, None),
    ],
)
def test_a_dense_head_of_a_frozen_candidate_is_searched_and_nothing_else(
    name: str, changes: dict, reason: str | None
) -> None:
    configure(**changes)
    assert tune.reason_against(read_recipe(FinetuneRecipe, name), load(TuneParams, "tune")) == reason


def refused(job: object) -> None:
    raise parameters.ParameterError("training diverged", "a finite loss", "lower the learning rate")


@pytest.mark.usefixtures("root")
def test_a_search_whose_default_diverges_is_one_line_and_leaves_what_was_there(monkeypatch) -> None:
    write_json(Path("data/tuning/dense/chosen.json"), {"values": {}})
    monkeypatch.setattr(tune, "search", refused)
    with pytest.raises(parameters.ParameterError, match="training diverged; expected a finite loss"):
        tune.main()
    assert json.loads(Path("data/tuning/dense/chosen.json").read_text()) == {"values": {}}
    assert [path.name for path in Path("data/tuning").iterdir()] == ["dense"]
