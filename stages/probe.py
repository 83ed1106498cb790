"""Stage `probe@B`: fit a linear head on the backbone's frozen features, with out-of-fold predictions.

Writes `data/probes/B/`, without TensorFlow:

    head.npz          the head, fitted on training and validation images together (stages/core/head.py)
    predictions.csv   split, file, label, predicted, p:CLASS...: out-of-fold predictions of training and validation
                      images, predictions of test images by the head; images that no fit could predict are left out
    probe.json        the strength and the log loss of each one tried, and the criteria of stage rank: accuracy, log
                      loss and LogME of training and validation images
    shares.csv        classes of the test images by heads on fractions of the other images, each of them drawn several
                      times (`finetune.training_shares`, `finetune.training_draws`; stages/core/shares.py)
    folds.csv         fold, file, label, predicted, p:CLASS...: each image, predicted by the run that tests its fold

Stage audit finds doubtful labels with the predictions, stage rank ranks by them, and stage finetune uses the head.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.core import files, head
from stages.core.dataset.features import project, stratified_sample
from stages.core.dataset.prepared import SPLITS, Rows, count_folds, fold_roles, read_classes, read_index
from stages.core.dataset.subsample import possible, subsamples
from stages.core.errors import DataError, run
from stages.core.params import named_backbone
from stages.core.predictions import PREFIX
from stages.core.settings.recipes import ProbeRecipe, read_recipe
from stages.core.shares import Training
from stages.core.shares import table as table_of_trainings
from stages.heads import linear, subsets
from stages.statistics import metrics
from stages.statistics.logme import logme

PREPARED = Path("data/prepared")
FEATURES = Path("data/features")
PROBES = Path("data/probes")
# The most images that LogME is computed on.
_MAX_SCORED = 10_000
# Of more images shares are drawn less often: fits take long, and draws differ little.
_MANY = 20_000
_FEW_DRAWS = 3
# Rows predicted at a time.
_BATCH = 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probed:
    """The data of a linear head: images with their split, row, file, label, fold and group, and their features.

    `scratch` is a folder for temporary files.
    """

    table: pd.DataFrame
    features: Path
    classes: list[str]
    recipe: ProbeRecipe
    scratch: Path

    def rows(self, table: pd.DataFrame) -> Rows:
        """Return the features of the images of `table`."""
        return Rows(table, {split: self.features / f"{split}.npy" for split in table["split"].unique()})

    def labels(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """Return the positions of the labels of `table` among the classes."""
        return np.asarray(pd.Index(self.classes).get_indexer(pd.Index(table["label"])), dtype=np.int64)

    def solve(self, table: pd.DataFrame) -> linear.Solved:
        """Return the linear head of the images of `table`."""
        groups, _ = pd.factorize(table["group"])
        settings = linear.Settings(self.recipe.c, self.recipe.folds, self.recipe.class_weight)
        return linear.solve(
            self.rows(table), self.labels(table), groups, len(self.classes), settings, self.scratch
        )  # fmt: skip

    def predict(self, found: head.Head, table: pd.DataFrame) -> NDArray[np.float64]:
        """Return the probabilities of the images of `table` by a head, (n, classes)."""
        parts = [found.probabilities(batch) for batch in self.rows(table).batches(_BATCH)]
        return np.concatenate([np.empty((0, len(self.classes))), *parts])

    def described(self, table: pd.DataFrame, found: NDArray[np.float64], *keys: str) -> pd.DataFrame:
        """Return the columns `keys`, file, label, predicted and the probabilities of each image."""
        rows = table[[*keys, "file", "label"]].reset_index(drop=True)
        rows["predicted"] = [self.classes[number] for number in found.argmax(axis=1)]
        return rows.join(pd.DataFrame(found, columns=[f"{PREFIX}{label}" for label in self.classes]))


def images(index: pd.DataFrame) -> pd.DataFrame:
    """Return split, row, file, label, fold and group of each image, in the order of the splits and rows."""
    table = index.astype({"split": str, "file": str, "label": str})
    place = table["split"].map(SPLITS.index)
    return table.assign(place=place).sort_values(["place", "row"], ignore_index=True).drop(columns="place")


def main_run(probed: Probed) -> tuple[linear.Solved, pd.DataFrame]:
    """Return the linear head, and the predictions of all images that could be predicted."""
    seen, test = (probed.table[(probed.table["split"] == "test") == tested] for tested in (False, True))
    found = probed.solve(seen)
    known = ~np.isnan(found.out_of_fold[:, 0])
    own = probed.described(seen[known], found.out_of_fold[known], "split")
    tested = probed.described(test, probed.predict(found.head, test), "split")
    return found, pd.concat([own, tested], ignore_index=True)


def shares(probed: Probed, strength: float) -> list[Training]:
    """Return heads of the given strength on fractions of the images outside the test split, the smallest first."""
    seen, test = (probed.table[(probed.table["split"] == "test") == tested] for tested in (False, True))
    recipe, wanted = probed.recipe, [] if test.empty else possible(seen["label"], probed.recipe.training_shares)
    draws = recipe.training_draws if len(seen) <= _MANY else min(recipe.training_draws, _FEW_DRAWS)
    drawn = [subsamples(seen, wanted, recipe.seed, draw) for draw in range(draws)]
    cases = [(share, draw, np.flatnonzero(drawn[draw][n])) for n, share in enumerate(wanted) for draw in range(draws)]
    pool = subsets.Pool(probed.rows(seen), probed.labels(seen), len(probed.classes), recipe.class_weight)
    found = subsets.predict(pool, [part for *_, part in cases], strength, probed.rows(test), probed.scratch)
    pairs = zip(cases, found, strict=True)
    return [Training(share, draw, len(part), predicted) for (share, draw, part), predicted in pairs]


def folds(probed: Probed) -> pd.DataFrame:
    """Return the predictions of each image by the run that tests its fold; no rows without folds."""
    table, tables = probed.table, []
    for fold in range(count_folds(table)):
        roles = fold_roles(table["fold"], fold)
        test = table[roles == "test"].sort_values("file")
        tables.append(probed.described(test, probed.predict(probed.solve(table[roles != "test"]).head, test), "fold"))
    return pd.concat(tables, ignore_index=True) if tables else _no_rows(probed, "fold")


def _no_rows(probed: Probed, *keys: str) -> pd.DataFrame:
    return pd.DataFrame(columns=[*keys, "file", "label", "predicted", *(f"{PREFIX}{name}" for name in probed.classes)])


def numbers(probed: Probed, found: linear.Solved, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the facts of the head, and accuracy, log loss and LogME of training and validation images."""
    seen = predictions[predictions["split"] != "test"]
    count = int((probed.table["split"] != "test").sum())
    known = {
        "strength": found.strength,
        "losses": {f"{strength:g}": loss for strength, loss in found.losses.items()},
        "images": len(seen),
        "left_out": count - len(seen),
    }
    if seen.empty:
        return known | {"accuracy": None, "log_loss": None, "logme": None}
    labels = probed.labels(seen)
    return known | {
        "accuracy": float((seen["predicted"] == seen["label"]).mean()),
        "log_loss": metrics.log_loss(labels, seen.filter(like=PREFIX).to_numpy()),
        "logme": _logme(probed, seen["file"]),
    }


def _logme(probed: Probed, chosen: pd.Series) -> float:
    """Return LogME of the `chosen` images, or of a sample if there are many, by their raw features."""
    table = probed.table[probed.table["file"].isin(chosen)]
    labels = probed.labels(table)
    part = stratified_sample(np.arange(len(table)), labels, _MAX_SCORED, probed.recipe.seed)
    return logme(project(probed.rows(table.iloc[part]).batches(_BATCH), probed.recipe.seed), labels[part])


def write(folder: Path, probed: Probed) -> dict[str, Any]:
    """Fit, predict and write to `folder`; return the numbers."""
    found, predictions = main_run(probed)
    scores = numbers(probed, found, predictions)
    head.save(found.head, folder / "head.npz")
    files.write_csv(folder / "predictions.csv", predictions)
    files.write_csv(folder / "shares.csv", table_of_trainings(shares(probed, found.strength)))
    files.write_csv(folder / "folds.csv", folds(probed))
    return scores


def write_nothing(folder: Path, probed: Probed) -> dict[str, Any]:
    """Write the tables of a backbone that has no frozen features, without rows; return its numbers."""
    for name, key in {"predictions": "split", "folds": "fold"}.items():
        files.write_csv(folder / f"{name}.csv", _no_rows(probed, key))
    files.write_csv(folder / "shares.csv", table_of_trainings([]))
    left_out = int((probed.table["split"] != "test").sum())
    nothing = dict.fromkeys(("strength", "accuracy", "log_loss", "logme"))
    return {**nothing, "losses": {}, "images": 0, "left_out": left_out}


def main() -> None:
    """Probe the backbone named on the command line."""
    name = named_backbone()
    recipe = read_recipe(ProbeRecipe, name)
    try:
        facts = files.read_json(FEATURES / name / "features.json")["network"]
        table = images(read_index(PREPARED))
        # The last digits depend on the number of threads, and for most fits one thread is faster than two.
        with (
            threadpool_limits(1),
            files.scratch_folder(f"probe-{name}") as scratch,
            files.replacing_folder(PROBES / name) as folder,
        ):
            probed = Probed(table, FEATURES / name, read_classes(PREPARED), recipe, scratch)
            scores = (write if facts["frozen"] else write_nothing)(folder, probed)
            origin = {"frozen": facts["frozen"], "weights": facts["weights"]["source"]}
            files.write_json(folder / "probe.json", scores | origin | {"class_weight": recipe.class_weight})
    except FileNotFoundError as error:
        raise DataError(
            f"no {error.filename}", f"the features of '{name}'", f"run 'dvc repro features@{name}'"
        ) from error
    _say(name, facts, scores)


def _say(name: str, facts: dict[str, Any], scores: dict[str, Any]) -> None:
    if not facts["frozen"]:
        _log.info("%s: nothing is frozen, so there is no linear head", name)
        return
    if scores["accuracy"] is not None:
        _log.info(
            "%s: the linear head (C = %g) has an out-of-fold accuracy of %.3f on %d images, weights: %s",
            name, scores["strength"], scores["accuracy"], scores["images"], facts["weights"]["source"],
        )  # fmt: skip
    if scores["left_out"]:
        _log.warning("%s: %d images belong to classes too small to hold out", name, scores["left_out"])


if __name__ == "__main__":
    run(main)
