"""Stage `tune`: search for a better dense head on the frozen features of each backbone, chosen by validation.

Writes for each backbone, in `data/tuning/B/`:

    chosen.json   the hyperparameters that finetune@B uses instead of its own; none if nothing better was found
    search.json   default and choice with their measures, and the importance of each hyperparameter
    trials.csv    each trial, see stages/training/search.py

There is no search with `tune.trials: 0`, nor for a backbone that is no candidate (`rank.candidates`), or has no frozen
features or no dense head to search. Finished trials are kept in `.cache/tuning`: a killed search resumes, and the
search of an unchanged backbone is not repeated when another one changes.
"""

import hashlib
import json
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import run
from stages.core.files import read_json, replacing_folder, scratch_folder, write_csv, write_json
from stages.core.measure import Measure
from stages.core.parallel import apart
from stages.core.params import load
from stages.core.selection import is_fine_tuned
from stages.core.settings.backbones import Backbone
from stages.core.settings.recipes import FinetuneRecipe, read_names, read_recipe
from stages.core.settings.tune import TuneParams
from stages.training.inputs import TrainingData

log = logging.getLogger(__name__)
PREPARED = Path("data/prepared")
FEATURES = Path("data/features")
VIEWS = Path("data/views")
TUNING = Path("data/tuning")
JOURNALS = Path(".cache/tuning")
# Libraries that the result of a trial depends on.
_LIBRARIES = ("keras", "numpy", "optuna", "tensorflow")


def reason_against(backbone: Backbone, params: TuneParams) -> str | None:
    """Return the reason to skip the search, or None."""
    if params.trials == 0:
        return "off"
    if not is_fine_tuned(backbone.name):
        return "not fine-tuned"
    if not read_json(FEATURES / backbone.name / "features.json")["network"]["frozen"]:
        return "unfrozen"
    return None if backbone.head.units or params.space.units else "no dense head"


def search(job: tuple[FinetuneRecipe, TuneParams, Path]) -> None:
    """Run a search, and write its result to a folder, the last of `job`."""
    backbone, params, folder = job
    import optuna

    from stages.networks.keras_engine import make_deterministic
    from stages.training.head_trainer import HeadTrainer
    from stages.training.loop import expect_tracing
    from stages.training.search import Search

    make_deterministic(backbone.seed, backbone.threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    expect_tracing()
    inputs = TrainingData.with_view_features(backbone, PREPARED, FEATURES, VIEWS)
    trainer = HeadTrainer(inputs.network["width"], len(inputs.classes))
    # Without this, each epoch of each trial would log a line.
    logging.getLogger("stages.training.loop").setLevel(logging.WARNING)
    journal = _journal(inputs, params)
    with scratch_folder(f"trials-{backbone.name}") as checkpoints:
        searching = Search(inputs, params, Measure.of(backbone.deciding), trainer, checkpoints)
        found = searching.run(journal)
    chosen = {} if found.chosen == found.default and backbone.head.units else found.chosen
    write_json(folder / "chosen.json", {"values": chosen})
    write_json(
        folder / "search.json",
        {
            "measure": searching.key,
            "default": found.default,
            "chosen": found.chosen,
            "default_measure": found.default_measure,
            "chosen_measure": found.chosen_measure,
            "importance": found.importance,
        },
    )
    write_csv(folder / "trials.csv", found.trials)
    log.info(
        "%s: %s on validation %.4f by default, %.4f as chosen: %s",
        backbone.name, searching.key, found.default_measure, found.chosen_measure, chosen or "the default",
    )  # fmt: skip


def _journal(inputs: TrainingData, params: TuneParams) -> Path:
    """Return the file with the finished trials of this search; delete journals of other searches."""
    identity: dict[str, Any] = {
        "backbone": inputs.backbone.model_dump(mode="json"),
        "params": params.model_dump(mode="json", exclude={"trials"}),
        "libraries": {library: version(library) for library in _LIBRARIES},
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    views = [inputs.view_features / "train.npy"] if inputs.view_features and inputs.views else []
    features = [inputs.features / f"{split}.npy" for split in ("train", "validation")]
    for path in (PREPARED / "index.csv", *features, *views):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    path = JOURNALS / inputs.backbone.name / f"{digest.hexdigest()[:16]}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Also remove the remains of a search killed while writing: Optuna would wait for its lock forever (a dangling
    # symbolic link), and report a half-written line as a broken file.
    for other in path.parent.iterdir():
        if other != path:
            other.unlink()
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    return path


def main() -> None:
    """Write `data/tuning/B/` for each declared backbone.

    Each search has its own process: TensorFlow keeps all networks that it has traced.
    """
    params = load(TuneParams, "tune")
    with replacing_folder(TUNING) as folder:
        for name in read_names():
            backbone, own = read_recipe(FinetuneRecipe, name), folder / name
            own.mkdir()
            against = reason_against(backbone, params)
            if against is None:
                apart(search, (backbone, params, own), f"the search for '{name}'")
            else:
                write_not_searched(own, against)


def write_not_searched(folder: Path, reason: str) -> None:
    """Write the results that stand for a skipped search."""
    write_json(folder / "chosen.json", {"values": {}})
    write_json(folder / "search.json", {"not_searched": reason})
    write_csv(folder / "trials.csv", pd.DataFrame(columns=["trial", "state", "epochs", "log_loss", "accuracy"]))


if __name__ == "__main__":
    run(main)
