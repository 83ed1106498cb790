"""What learnt weights bring: accuracies with them, with random ones and from scratch, by the number of images.

    python benchmarks/transfer.py IMAGES --weights mobilenet_v2=FILE ... --folder DIR [--shares 0.1 0.3 1] [--seeds 3]

IMAGES is a folder, archive or table as `data.source` takes it, each FILE one of weights as a backbone's line takes it.
The project's own stages do the work, with the parameters as shipped but for `SECTIONS`, in clones of what is committed
here. One splits the images. One for each share has all test images, and this share of the training images and of the
validation images of each class, drawn as those of `training_shares` are: a smaller share is a part of a larger one, and
copies come in together. Each backbone has a twin with random weights.

Prints Markdown: accuracies on the test images, and differences between two on the same images, with 95 % intervals. Of
phase 2 and `scratch`, trained with as many seeds as `--seeds` says (`--once` names backbones with one), the accuracy is
that of the first training, beside it stands the standard deviation of all, and the intervals of differences have it in
them. "start" marks phase 2 of which no epoch was better on the validation images than the linear head that it starts
from. That one is fitted on the training images alone, a linear head that is compared on the validation images, too. Run
again with the same DIR it goes on where it was stopped, and adds backbones and shares; `--show` prints what is there.
Half an hour on two cores for each backbone of the size of MobileNetV2, more for larger ones.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd

from benchmarks.pipeline import ROOT, Project
from stages.core.dataset.subsample import subsample
from stages.core.files import read_csv, read_json
from stages.core.params import read, seed
from stages.core.predictions import read_groups, read_predictions
from stages.networks.processor import processor
from stages.statistics.outcomes import Outcomes, read_outcomes
from stages.statistics.pairwise import difference, difference_interval

CONFIDENCE = 0.95
SCRATCH, LEARNT, RANDOM, LINEAR, PHASE_2 = "scratch", "learnt", "random", "linear head", "phase 2"
NOTHING = "-"
# No epoch is left out on a busy machine.
UNFREEZE = {"minutes": 600}
SECTIONS: dict[str, Any] = {"rank": {"candidates": "all"}, "finetune": {"training_shares": []}}


class Clone(Project):
    """A clone with images of its own; one that is there already is used again."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        if not folder.exists():
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        self.change(**SECTIONS, **sections)


class Cell(NamedTuple):
    """A backbone, its weights, and what was trained of it."""

    backbone: str
    weights: str
    trained: str

    @property
    def line(self) -> str:
        """Its name in params.yaml."""
        return f"{self.backbone}_{RANDOM}" if self.weights == RANDOM and self.backbone != SCRATCH else self.backbone


def cells(backbones: list[str]) -> list[Cell]:
    """Return what is compared, in the order of the table."""
    kinds = [(weights, trained) for trained in (LINEAR, PHASE_2) for weights in (LEARNT, RANDOM)]
    return [*(Cell(name, *kind) for name in backbones for kind in kinds), Cell(SCRATCH, RANDOM, "whole network")]


def pairs(backbones: list[str]) -> list[tuple[Cell, Cell]]:
    """Return which of them are subtracted from one another."""
    found = []
    for name in backbones:
        frozen, frozen_random, unfrozen, unfrozen_random, scratch = cells([name])
        found += [(frozen, frozen_random), (unfrozen, unfrozen_random), (unfrozen, frozen)]
        found += [(unfrozen_random, frozen_random), (frozen, scratch), (unfrozen, scratch)]
    return found


def lines(weights: dict[str, Path], seeds: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return the backbones as params.yaml has them; `seeds` says how often each is trained."""
    scratch = read(ROOT / "params.yaml")["backbones"][SCRATCH]
    unfreeze = scratch["unfreeze"] | UNFREEZE | {"repeats": seeds[SCRATCH]}
    found = {SCRATCH: scratch | {"training_shares": [], "unfreeze": unfreeze}}
    for name, path in weights.items():
        unfreeze = UNFREEZE | {"repeats": seeds[name]}
        found[name] = {"weights": f"data/own_weights/{name}{path.suffix}", "unfreeze": unfreeze}
        found[f"{name}_{RANDOM}"] = {"builder": name, "weights": RANDOM, "unfreeze": unfreeze}
    return found


def chosen(split: Clone, share: float) -> pd.DataFrame:
    """Return path, label, split and group of the test images, and of a share of the others."""
    table = read_csv(split.folder / "data/splits.csv", text=("file", "label", "group", "split"))
    number = seed(ROOT / "params.yaml")
    parts = [part if name == "test" else part[subsample(part, share, number)] for name, part in table.groupby("split")]
    rows = pd.concat(parts)
    paths = [str(split.folder / "data/raw" / file) for file in rows["file"]]
    return rows[["label", "split", "group"]].assign(path=paths)


def lay_out(folder: Path, split: Clone, share: float, weights: dict[str, Path], seeds: dict[str, int]) -> Clone:
    """Return a clone with a share of the images, in which all backbones are declared."""
    own = {"data": {"source": "images"}, "split": {"use_folders": True}, "backbones": lines(weights, seeds)}
    project = Clone(folder, **own)
    for name, path in weights.items():
        shutil.copyfile(path, folder / f"data/own_weights/{name}{path.suffix}")
    (folder / "images").mkdir(exist_ok=True)
    chosen(split, share).to_csv(folder / "images/labels.csv", index=False)
    return project


def written(project: Path, cell: Cell) -> Path:
    """Return the folder of what was trained."""
    return project / "data" / ("probes" if cell.trained == LINEAR else "unfrozen") / cell.line


def outcomes(project: Path, compared: list[Cell]) -> Outcomes:
    """Return which test images each cell that is trained is right on, the cells called by their text."""
    tables, repeats = {}, {}
    for cell in compared:
        folder = written(project, cell)
        if not (folder / "predictions.csv").exists():
            continue
        tables[str(cell)] = _tested(folder / "predictions.csv")
        if cell.trained != LINEAR:
            repeats[str(cell)] = _tested(folder / "repeats.csv")
    return read_outcomes(tables, read_groups(project / "data/splits.csv"), repeats)


def _tested(path: Path) -> pd.DataFrame:
    table = read_predictions(path)
    return table[table["split"] == "test"]


def accuracy(project: Path, found: Outcomes, cell: Cell) -> str:
    """Return an accuracy with its interval, the standard deviation over trainings, and whether the start was kept."""
    if str(cell) not in found.names:
        return NOTHING
    number = found.names.index(str(cell))
    value, trainings = float(found.measured[number]), found.trainings[number].mean(axis=1)
    low, high = found.interval(number, value, CONFIDENCE)
    notes = [f"{100 * low:.1f} to {100 * high:.1f}"]
    notes += [f"± {100 * trainings.std(ddof=1):.1f}"] if len(trainings) > 1 else []
    if cell.trained == PHASE_2 and read_json(written(project, cell) / "attempt.json")["best_epoch"] == 0:
        notes.append("start")
    return f"{100 * value:.1f} % ({', '.join(notes)})"


def gain(found: Outcomes, first: Cell, second: Cell) -> str:
    """Return by how many points the first is better than the second, with its interval."""
    if not {str(first), str(second)} <= set(found.names):
        return NOTHING
    pair = found.of(str(first), str(second))
    low, high = difference_interval(pair, CONFIDENCE)
    return f"{100 * difference(pair):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def heading(project: Path, share: float) -> str:
    """Return a share with its numbers of training and validation images."""
    counts = read_csv(project / "data/splits.csv", text=("split",))["split"].value_counts()
    return f"{100 * share:g} %: {counts['train']} and {counts['validation']}"


def show(projects: dict[float, Path], backbones: list[str]) -> None:
    """Print both tables."""
    compared = cells(backbones)
    found = [(project, outcomes(project, compared)) for project in projects.values()]
    headings = " | ".join(heading(project, share) for share, project in projects.items())
    _, first = found[0]
    print(f"{processor()}: {first.images} test images in {len(first.groups)} groups\n")
    print(f"| backbone | weights | trained | {headings} |\n|:--|:--|:--|{'--:|' * len(found)}")
    for cell in compared:
        print(f"| {' | '.join([*cell, *(accuracy(*each, cell) for each in found)])} |")
    print(f"\n| backbone | first | less | {headings} |\n|:--|:--|:--|{'--:|' * len(found)}")
    for pair in pairs(backbones):
        names = (pair[0].backbone, *(_name(cell) for cell in pair))
        print(f"| {' | '.join([*names, *(gain(each, *pair) for _, each in found)])} |")


def _name(cell: Cell) -> str:
    return SCRATCH if cell.backbone == SCRATCH else f"{cell.weights}, {cell.trained}"


def main() -> None:
    """Train, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", nargs="+", required=True, metavar="BACKBONE=FILE")
    parser.add_argument("--folder", type=Path, required=True, help="where there is room, for the clones")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 1.0])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each phase 2 and of scratch")
    parser.add_argument("--once", nargs="*", default=[], metavar="BACKBONE", help="those with one training each")
    parser.add_argument("--show", action="store_true", help="train nothing")
    options = parser.parse_args()
    weights = {name: Path(file) for name, _, file in (each.partition("=") for each in options.weights)}
    place = options.folder.resolve()
    projects = {share: place / f"share-{share:g}" for share in sorted(options.shares)}
    if not options.show:
        seeds = {name: 1 if name in options.once else options.seeds for name in (SCRATCH, *weights)}
        split = Clone(place / "split", data={"source": str(options.images.resolve())}, backbones={SCRATCH: {}})
        split.repro("split")
        for share, folder in projects.items():
            lay_out(folder, split, share, weights, seeds).repro("unfreeze")
    show(projects, list(weights))


if __name__ == "__main__":
    main()
