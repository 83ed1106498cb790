"""Stage `tune@B`: search for a better head on the frozen features, chosen by the validation part.

Writes `data/tuning/B/`:

    chosen.json   the hyperparameters that finetune@B takes in place of its own; none where nothing better was found
    search.json   default and choice with their measures, and how much each hyperparameter matters
    trials.csv    each trial, see stages/models/search.py

With `tune.trials: 0`, and for a backbone that is not fine-tuned (`rank.candidates`), that has no frozen features or no
epoch on them, nothing is searched.
"""

import hashlib
import json
import logging
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from stages.errors import run
from stages.fates import is_fine_tuned
from stages.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.images.prepared import read_classes, read_index
from stages.models.backbones import Backbone, resolve
from stages.models.inputs import Inputs
from stages.models.space import TuneParams
from stages.params import load, named_backbone, read, seed, threads

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
FEATURES = Path("data/features")
WEIGHTS = Path("data/weights")
TUNING = Path("data/tuning")
JOURNALS = Path(".cache/tuning")
# What a trial's result follows from.
_LIBRARIES = ("keras", "numpy", "optuna", "tensorflow")


def reason_against(backbone: Backbone, params: TuneParams) -> str | None:
    """Return why nothing is searched; None where something is."""
    if params.trials == 0:
        return "off"
    if not is_fine_tuned(backbone.name):
        return "not fine-tuned"
    return "unfrozen" if backbone.frozen_epochs == 0 else None


def search(backbone: Backbone, params: TuneParams, folder: Path) -> None:
    """Search, and write what was found into `folder`."""
    import optuna

    from stages.models.head_trainer import HeadTrainer
    from stages.models.keras_engine import repeatable
    from stages.models.search import Search
    from stages.models.training import expect_tracing

    repeatable(seed(), threads())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    expect_tracing()
    inputs = Inputs(
        backbone,
        WEIGHTS / backbone.name,
        FEATURES / backbone.name,
        PREPARED,
        read_index(PREPARED),
        read_classes(PREPARED),
        seed(),
    )
    trainer = HeadTrainer(read_json(inputs.weights / "backbone.json")["width"], len(inputs.classes))
    # Each epoch of each trial would be a line.
    logging.getLogger("stages.models.training").setLevel(logging.WARNING)
    journal = _journal(inputs, params)
    checkpoints = scratch_folder(f"trials-{backbone.name}")
    found = Search(inputs, params, trainer, checkpoints).run(journal)
    shutil.rmtree(checkpoints)
    chosen = {} if found.chosen == found.default else found.chosen
    write_json(folder / "chosen.json", {"values": chosen})
    write_json(
        folder / "search.json",
        {
            "measure": params.measure,
            "default": found.default,
            "chosen": found.chosen,
            "default_measure": found.default_measure,
            "chosen_measure": found.chosen_measure,
            "importance": found.importance,
        },
    )
    write_csv(folder / "trials.csv", found.trials)
    log.info(
        "%s: %s on the validation part %.4f by default, %.4f as chosen: %s",
        backbone.name, params.measure, found.default_measure, found.chosen_measure, chosen or "the default",
    )  # fmt: skip


def _journal(inputs: Inputs, params: TuneParams) -> Path:
    """Return the file that keeps the finished trials of this very search, and let go those of any other."""
    said: dict[str, Any] = {
        "backbone": inputs.backbone.model_dump(mode="json"),
        "params": params.model_dump(mode="json", exclude={"trials"}),
        "seed": inputs.seed,
        "threads": threads(),
        "libraries": {library: version(library) for library in _LIBRARIES},
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for path in (PREPARED / "index.csv", *(inputs.features / f"{split}.npy" for split in ("train", "validation"))):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    path = JOURNALS / inputs.backbone.name / f"{digest.hexdigest()[:16]}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    # What a search leaves that was killed while it wrote goes, too: Optuna would wait for its lock without end (the
    # lock is a symbolic link that leads nowhere from its own folder), and take half a line for a broken file.
    for other in path.parent.iterdir():
        if other != path:
            other.unlink()
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    return path


def main() -> None:
    """Write `data/tuning/B/` for the backbone named on the command line."""
    backbone, params = resolve(named_backbone(), read()), load(TuneParams, "tune")
    against = reason_against(backbone, params)
    with replacing_folder(TUNING / backbone.name) as folder:
        if against is None:
            search(backbone, params, folder)
        else:
            write_json(folder / "chosen.json", {"values": {}})
            write_json(folder / "search.json", {"not_searched": against})
            write_csv(folder / "trials.csv", pd.DataFrame(columns=["trial", "state", "epochs", "log_loss", "accuracy"]))
    shutil.rmtree(JOURNALS / backbone.name, ignore_errors=True)


if __name__ == "__main__":
    run(main)
