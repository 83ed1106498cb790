"""What learnt weights bring: accuracies with them, with random ones and from scratch, by the number of images.

    python benchmarks/transfer.py IMAGES --weights mobilenet_v2=FILE ... --folder DIR [--shares 0.1 0.3 1] [--seeds 3]

IMAGES is a folder, archive or table as `data.source` takes it, each FILE one of weights as a backbone's line takes it.
The project's own stages do the work, with the parameters as shipped but for `SECTIONS`, in clones of what is committed
here. One splits the images. One for each share has all test images, and this share of the training images and of the
validation images of each class, drawn as those of `training_shares` are: a smaller share is a part of a larger one, and
copies come in together. Each backbone has a twin with random weights.

Prints Markdown: accuracies on the test images, and differences between two on the same images, with 95 % intervals. Of
phase 2 and `scratch`, trained with as many seeds as `--seeds` says, the accuracy is that of the first training, beside
it stands the standard deviation of all, and the intervals of differences have it in them. Run again with the same DIR
it goes on where it was stopped, and adds backbones and shares. Some hours on two cores.
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
from stages.core.files import read_csv
from stages.core.params import read, seed
from stages.core.predictions import read_groups, read_predictions
from stages.networks.processor import processor
from stages.statistics.outcomes import Outcomes, read_outcomes
from stages.statistics.pairwise import difference, difference_interval

CONFIDENCE = 0.95
SCRATCH, LEARNT, RANDOM, LINEAR, PHASE_2 = "scratch", "learnt", "random", "linear head", "phase 2"
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


def lines(weights: dict[str, Path], seeds: int) -> dict[str, dict[str, Any]]:
    """Return the backbones as params.yaml has them."""
    unfreeze = UNFREEZE | {"repeats": seeds}
    scratch = read(ROOT / "params.yaml")["backbones"][SCRATCH]
    found = {SCRATCH: scratch | {"training_shares": [], "unfreeze": scratch["unfreeze"] | unfreeze}}
    for name, path in weights.items():
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


def train(split: Clone, share: float, weights: dict[str, Path], seeds: int) -> Clone:
    """Return a clone in which everything is trained on a share of the images."""
    project = Clone(
        split.folder.parent / f"share-{share:g}",
        data={"source": "images"},
        split={"use_folders": True},
        backbones=lines(weights, seeds),
    )
    for name, path in weights.items():
        shutil.copyfile(path, project.folder / f"data/own_weights/{name}{path.suffix}")
    (project.folder / "images").mkdir(exist_ok=True)
    chosen(split, share).to_csv(project.folder / "images/labels.csv", index=False)
    project.repro("unfreeze")
    return project


def outcomes(project: Clone, compared: list[Cell]) -> Outcomes:
    """Return which test images each cell is right on; the cells are called by their number."""
    tables, repeats = {}, {}
    for number, cell in enumerate(compared):
        folder = project.folder / "data" / ("probes" if cell.trained == LINEAR else "unfrozen") / cell.line
        tables[str(number)] = _tested(folder / "predictions.csv")
        if cell.trained != LINEAR:
            repeats[str(number)] = _tested(folder / "repeats.csv")
    return read_outcomes(tables, read_groups(project.folder / "data/splits.csv"), repeats)


def _tested(path: Path) -> pd.DataFrame:
    table = read_predictions(path)
    return table[table["split"] == "test"]


def accuracy(found: Outcomes, number: int) -> str:
    """Return an accuracy with its interval, and the standard deviation over trainings."""
    value = float(found.measured[number])
    low, high = found.interval(number, value, CONFIDENCE)
    trainings = found.trainings[number].mean(axis=1)
    spread = f", ± {100 * trainings.std(ddof=1):.1f}" if len(trainings) > 1 else ""
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f}{spread})"


def gain(found: Outcomes, first: int, second: int) -> str:
    """Return by how many points the first is better than the second, with its interval."""
    pair = found.of(str(first), str(second))
    low, high = difference_interval(pair, CONFIDENCE)
    return f"{100 * difference(pair):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def heading(project: Clone, share: float) -> str:
    """Return a share with its numbers of training and validation images."""
    counts = read_csv(project.folder / "data/splits.csv", text=("split",))["split"].value_counts()
    return f"{100 * share:g} %: {counts['train']} and {counts['validation']}"


def show(projects: dict[float, Clone], backbones: list[str]) -> None:
    """Print both tables."""
    compared = cells(backbones)
    found = {share: outcomes(project, compared) for share, project in projects.items()}
    headings = " | ".join(heading(project, share) for share, project in projects.items())
    first = next(iter(found.values()))
    print(f"{processor()}: {first.images} test images in {len(first.groups)} groups\n")
    print(f"| backbone | weights | trained | {headings} |\n|:--|:--|:--|{'--:|' * len(found)}")
    for number, cell in enumerate(compared):
        print(f"| {' | '.join([*cell, *(accuracy(each, number) for each in found.values())])} |")
    print(f"\n| backbone | first | less | {headings} |\n|:--|:--|:--|{'--:|' * len(found)}")
    for one, other in pairs(backbones):
        numbers = compared.index(one), compared.index(other)
        names = (one.backbone, *(_name(cell) for cell in (one, other)))
        print(f"| {' | '.join([*names, *(gain(each, *numbers) for each in found.values())])} |")


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
    options = parser.parse_args()
    weights = {name: Path(file) for name, _, file in (each.partition("=") for each in options.weights)}
    source = {"source": str(options.images.resolve())}
    split = Clone(options.folder.resolve() / "split", data=source, backbones={SCRATCH: {}})
    split.repro("split")
    projects = {share: train(split, share, weights, options.seeds) for share in sorted(options.shares)}
    show(projects, list(weights))


if __name__ == "__main__":
    main()
