import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.files import read_csv, read_json, write_csv, write_json
from tests.closure import ROOT

WIDTH, CLASSES = 12, ("cold", "warm")
NAME = "vgg16"
FILES = ("chosen.json", "search.json", "trials.csv")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write what stages before tune write: features of two classes that lie apart."""
    draw, rows, folder = np.random.default_rng(0), [], tmp_path / f"data/features/{NAME}"
    folder.mkdir(parents=True)
    for split, count in {"train": 60, "validation": 20, "test": 20}.items():
        numbers = np.arange(count) % 2
        np.save(folder / f"{split}.npy", (draw.normal(0, 2, (count, WIDTH)) + numbers[:, None]).astype("float32"))
        rows += [(split, row, f"{split}{row}.png", CLASSES[number], 0, -1) for row, number in enumerate(numbers)]
    prepared = tmp_path / "data/prepared"
    write_csv(prepared / "index.csv", pd.DataFrame(rows, columns=["split", "row", "file", "label", "view", "fold"]))
    write_json(prepared / "classes.json", {"classes": list(CLASSES)})
    write_json(tmp_path / f"data/weights/{NAME}/backbone.json", {"width": WIDTH})
    write_json(tmp_path / f"data/candidates/{NAME}.json", {"finetune": True})
    configure(tmp_path, trials=6)
    return tmp_path


def configure(root: Path, trials: int, **line) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["finetune"] |= {"epochs": 4, "batch_size": 16}
    params["finetune"]["head"]["units"] = [8]
    params["tune"] |= {"trials": trials, "startup_trials": 3}
    params["tune"]["space"] |= {"optimizer": [], "units": [[]], "batch_size": [], "views": []}
    params["backbones"] = {NAME: line}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def start(root: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.tune", NAME], cwd=root, env=environment, stderr=subprocess.PIPE, text=True
    )


def run(root: Path) -> dict[str, str]:
    """Run the stage; return what it has written."""
    process = start(root)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return {name: (root / f"data/tuning/{NAME}/{name}").read_text() for name in FILES}


def test_what_was_found_is_written_and_a_killed_search_goes_on_to_the_same_bytes(root: Path) -> None:
    expected = run(root)
    search, trials = json.loads(expected["search.json"]), read_csv(root / f"data/tuning/{NAME}/trials.csv")
    assert len(trials) == 6
    assert search["chosen_measure"] <= search["default_measure"]
    chosen = {} if search["chosen"] == search["default"] else search["chosen"]
    assert json.loads(expected["chosen.json"]) == {"values": chosen}
    assert not (root / f".cache/tuning/{NAME}").exists()

    process, journal = start(root), root / f".cache/tuning/{NAME}"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and sum(_count(path) for path in journal.glob("*.log")) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 3 <= sum(_count(path) for path in journal.glob("*.log")) < 6
    # As one that was killed while it wrote leaves it; most kills do not come just then.
    (log,) = journal.glob("*.log")
    with log.open("a") as file:
        file.write('{"op_code":4,"worker_id":"')
    if not (lock := log.with_name(log.name + ".lock")).is_symlink():
        lock.symlink_to(log.relative_to(root))
    assert run(root) == expected


def _count(journal: Path) -> int:
    """Return how many trials a journal of Optuna has."""
    return journal.read_text().count('"op_code":4')


@pytest.mark.parametrize(
    ("trials", "line", "reason"),
    [
        (0, {}, "off"),
        (5, {"unfreeze": {"blocks": "all"}}, "unfrozen"),
        (5, {"epochs": 0, "unfreeze": {"blocks": 1}}, "unfrozen"),
    ],
)
def test_where_nothing_is_searched_it_takes_no_tensorflow_and_chooses_nothing(
    root: Path, trials: int, line: dict, reason: str
) -> None:
    configure(root, trials, **line)
    program = "import sys; from stages.tune import main; main(); assert not {'tensorflow', 'optuna'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", program, NAME], cwd=root, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True
    )
    folder = root / f"data/tuning/{NAME}"
    assert read_json(folder / "chosen.json") == {"values": {}}
    assert read_json(folder / "search.json") == {"not_searched": reason}
    assert read_csv(folder / "trials.csv").empty


def test_for_a_backbone_that_is_not_fine_tuned_nothing_is_searched(root: Path) -> None:
    write_json(root / f"data/candidates/{NAME}.json", {"finetune": False})
    assert json.loads(run(root)["search.json"]) == {"not_searched": "not fine-tuned"}


def test_another_search_does_not_go_on_with_the_trials_of_an_earlier_one(root: Path) -> None:
    journal = root / f".cache/tuning/{NAME}/0123456789abcdef.log"
    journal.parent.mkdir(parents=True)
    journal.write_text("of other features")
    found = run(root)
    assert len(found["trials.csv"].splitlines()) == 7
