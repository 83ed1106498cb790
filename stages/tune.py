"""Stage `tune`: search for a better dense head on the frozen features of each backbone, chosen by the validation part.

Writes for each backbone, in `data/tuning/B/`:

    chosen.json   the hyperparameters that finetune@B takes in place of its own; none where nothing better was found
    search.json   default and choice with their measures, and how much each hyperparameter matters
    trials.csv    each trial, see stages/training/search.py

With `tune.trials: 0`, and for a backbone that is no candidate (`rank.candidates`), that has no frozen features or no
dense head to search, nothing is searched. Finished trials are kept in `.cache/tuning`: a search that was killed goes on
where it was, and one whose backbone has not changed is not made again when another one's has.
"""

import hashlib
import json
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.dataset.prepared import read_classes, read_index
from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.core.parallel import apart
from stages.core.params import declared_backbones, load, lookup, read, seed, threads
from stages.core.selection import is_fine_tuned
from stages.core.settings.backbones import Backbone, read_head
from stages.core.settings.tune import TuneParams
from stages.training.inputs import Inputs

log = logging.getLogger(__name__)
RECIPES = Path("data/recipes")
PREPARED = Path("data/prepared")
FEATURES = Path("data/features")
WEIGHTS = Path("data/weights")
VIEWS = Path("data/views")
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
    if not read_json(WEIGHTS / backbone.name / "backbone.json")["frozen"]:
        return "unfrozen"
    return None if backbone.head.units or params.space.units else "no dense head"


def search(job: tuple[Backbone, TuneParams, Path]) -> None:
    """Search, and write what was found into a folder: the last of `job`."""
    backbone, params, folder = job
    import optuna

    from stages.networks.keras_engine import repeatable
    from stages.training.head_trainer import HeadTrainer
    from stages.training.loop import expect_tracing
    from stages.training.search import Search

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
        views=lookup(read(), "preprocess.views"),
        view_features=VIEWS / backbone.name,
    )
    trainer = HeadTrainer(read_json(inputs.weights / "backbone.json")["width"], len(inputs.classes))
    # Each epoch of each trial would be a line.
    logging.getLogger("stages.training.loop").setLevel(logging.WARNING)
    journal = _journal(inputs, params)
    with scratch_folder(f"trials-{backbone.name}") as checkpoints:
        found = Search(inputs, params, trainer, checkpoints).run(journal)
    chosen = {} if found.chosen == found.default and backbone.head.units else found.chosen
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
    views = [inputs.view_features / "train.npy"] if inputs.view_features and inputs.views else []
    features = [inputs.features / f"{split}.npy" for split in ("train", "validation")]
    for path in (PREPARED / "index.csv", *features, *views):
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
    """Write `data/tuning/B/` for each declared backbone.

    Each search has a process of its own: TensorFlow keeps the networks that it has traced.
    """
    params = load(TuneParams, "tune")
    with replacing_folder(TUNING) as folder:
        for name in declared_backbones():
            backbone, own = read_head(RECIPES, name), folder / name
            own.mkdir()
            against = reason_against(backbone, params)
            if against is None:
                apart(search, (backbone, params, own), f"the search for '{name}'")
            else:
                write_not_searched(own, against)


def write_not_searched(folder: Path, reason: str) -> None:
    """Write what stands for a search where there is none."""
    write_json(folder / "chosen.json", {"values": {}})
    write_json(folder / "search.json", {"not_searched": reason})
    write_csv(folder / "trials.csv", pd.DataFrame(columns=["trial", "state", "epochs", "log_loss", "accuracy"]))


if __name__ == "__main__":
    run(main)
