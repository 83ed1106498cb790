"""The linear head on as many images as are hardly ever compared: minutes, peak memory, accuracy, passes over the rows.

    python benchmarks/linear.py [--rows 100000] [--columns 2048] [--classes 100] [--folds 5] [--folder DIR]

Features are drawn: classes around centres, columns of many scales that depend on each other, cut off at 0 as those of
networks are. They lie in an array file; a process of its own solves what stage probe solves, with the shipped
strengths, on one thread as there. Before that the probabilities of 5,000 rows are compared with those of scikit-learn,
which minimises the same. 100,000 rows of 2,048 columns take 0.8 GB on disk, and as much again while they are solved.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from stages.core.dataset.prepared import ArrayWriter  # noqa: E402 (the project is on the path now)
from stages.networks.processor import processor  # noqa: E402 (the project is on the path now)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Drawn at a time, and kept from fits to measure how many images are recognised.
PIECE, UNSEEN = 2000, 2000
COMPARED, STRENGTH = 5000, 10.0
# What rows are made of: this many numbers of their own, of scales from 1 to this.
LATENT, SMALLEST = 256, 0.03
APART = 0.3


def lay_out(path: Path, rows: int, columns: int, classes: int) -> None:
    """Write features (rows, columns) in float32; row n is of class n modulo the number of classes."""
    random = np.random.default_rng(0)
    centres = APART * random.standard_normal((classes, LATENT))
    mix = random.standard_normal((LATENT, columns)) * np.geomspace(1, SMALLEST, LATENT)[:, None]
    with ArrayWriter(path, rows, (columns,), np.float32) as writer:
        for start in range(0, rows, PIECE):
            labels = np.arange(start, min(start + PIECE, rows)) % classes
            latent = centres[labels] + random.standard_normal((len(labels), LATENT))
            noise = 0.1 * random.standard_normal((len(labels), columns))
            writer.append(np.maximum(latent @ mix + noise, 0).astype(np.float32))


def solve(path: Path, classes: int, folds: int) -> dict[str, Any]:
    """Solve in this process, but for the last rows; return what is measured."""
    import time

    import pandas as pd
    import scipy.optimize
    from threadpoolctl import threadpool_limits

    from stages.core.dataset.prepared import Rows, count_rows
    from stages.core.params import lookup, read
    from stages.heads import linear

    passes: list[int] = []
    minimize = scipy.optimize.minimize

    def counted(*arguments: Any, **options: Any) -> Any:
        found = minimize(*arguments, **options)
        passes.append(found.nfev)
        return found

    scipy.optimize.minimize = counted
    table = pd.DataFrame({"split": "all", "row": np.arange(count_rows(path))})
    labels, seen = np.arange(len(table)) % classes, len(table) - UNSEEN
    settings = linear.Settings(lookup(read(ROOT / "params.yaml"), "finetune.linear.c"), folds, "none")
    begin = time.perf_counter()
    with threadpool_limits(1):
        rows = Rows(table[:seen], {"all": path})
        found = linear.solve(rows, labels[:seen], np.arange(seen), classes, settings, path.parent)
    seconds = time.perf_counter() - begin
    unseen = found.head.probabilities(np.load(path, mmap_mode="r")[seen:]).argmax(axis=1)
    return {
        "minutes": seconds / 60,
        "strength": found.strength,
        "out_of_fold": float((found.out_of_fold.argmax(axis=1) == labels[:seen]).mean()),
        "unseen": float((unseen == labels[seen:]).mean()),
        "losses": {f"{strength:g}": loss for strength, loss in found.losses.items()},
        "passes": passes,
        "megabytes": peak() / 1e6,
    }


def peak() -> int:
    """Return the most memory that this process has had, bytes (proc(5))."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def difference(features: "NDArray[np.float32]", classes: int) -> float:
    """Return the largest difference between any probability by stages.heads.linear and by scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    from stages.heads import linear

    labels = np.arange(len(features)) % classes
    with tempfile.TemporaryDirectory() as folder:
        head = linear.fit(features, labels, classes, "none", STRENGTH, Path(folder))
    # Of two classes it has one vector where a softmax has two, whose penalty is half as large.
    model = LogisticRegression(C=STRENGTH * (2 if classes == 2 else 1), tol=1e-9, max_iter=5000)  # noqa: PLR2004
    normalised = head.normalise(features).astype(np.float64)
    expected = model.fit(normalised, labels).predict_proba(normalised)
    return float(np.abs(head.probabilities(features) - expected).max())


def report(path: Path, options: argparse.Namespace) -> None:
    """Compare, measure and print."""
    print(f"{processor()}: {options.rows} rows of {options.columns} columns, {options.classes} classes", flush=True)
    compared = np.array(np.load(path, mmap_mode="r")[:COMPARED])
    apart = difference(compared, options.classes)
    print(f"{len(compared)} rows, C = {STRENGTH:g}: at most {apart:.1e} from scikit-learn's", flush=True)
    command = [sys.executable, __file__, "--solve", str(path), *_numbers(options)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    print(f"{found['minutes']:.1f} minutes, {found['megabytes']:.0f} MB")
    print(
        f"C = {found['strength']:g}, right on {found['out_of_fold']:.3f} out of fold, {found['unseen']:.3f} of others"
    )
    print("log loss by C: " + ", ".join(f"{strength} {loss:.3f}" for strength, loss in found["losses"].items()))
    print(f"passes over the rows of each fit: {', '.join(map(str, found['passes']))}")


def _numbers(options: argparse.Namespace) -> list[str]:
    return ["--classes", str(options.classes), "--folds", str(options.folds)]


def main() -> None:
    """Lay out, or solve in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--folds", type=int, default=5, help="of more than 20,000 images every fold is a half")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    parser.add_argument("--solve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.solve:
        print(json.dumps(solve(options.solve, options.classes, options.folds)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "features.npy"
        lay_out(path, options.rows + UNSEEN, options.columns, options.classes)
        report(path, options)


if __name__ == "__main__":
    main()
