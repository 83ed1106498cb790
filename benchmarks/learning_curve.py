"""How well twice the training images are foreseen, as tables in Markdown.

    python benchmarks/learning_curve.py [--studies 400] [--parts simulated strengths]

`simulated`: heads whose learning curve is known, ten draws of each shipped share. How often the 80 % interval holds the
accuracy that twice the images bring, and that of all images from up to half of them, how wide it is, and how often it
is said at all. In brackets is the standard error of the simulation. `strengths`: linear heads on fractions of the
images in `data/`, at the strength chosen on all images (stages/heads/subsets.py) and at one chosen anew for each of
them (stages/heads/linear.py): mean accuracy on the test images over six draws, and processor time of one head.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 (the project is on the path now)
from threadpoolctl import threadpool_limits  # noqa: E402

from stages import probe  # noqa: E402 (the project is on the path now)
from stages.core.dataset.prepared import read_classes, read_index  # noqa: E402
from stages.core.dataset.subsample import subsamples  # noqa: E402
from stages.core.files import read_json  # noqa: E402
from stages.core.settings.recipes import ProbeRecipe, read_names, read_recipe  # noqa: E402
from stages.heads import subsets  # noqa: E402
from stages.statistics.groups import Groups  # noqa: E402
from stages.statistics.learning_curve import Curve, Outlook, outlook  # noqa: E402
from tests.support.learning import ERRATIC, FLAT, LAWS, Study, study  # noqa: E402

# Training and test images.
SIZES = ((300, 100), (300, 300), (1000, 300), (3000, 1000))
SHARES, DRAWS = (0.05, 0.1, 0.25, 0.5, 0.9), 6


def simulated(count: int) -> None:
    """Print a row for each law and number of images."""
    print("| training, test images | law | twice the images | all, from half | width, points | said |")
    print("|--:|:--|--:|--:|--:|--:|")
    for total, tested in SIZES:
        for name, law in (LAWS | FLAT | ERRATIC).items():
            print(f"| {total:,}, {tested:,} | {name} | {_row(law, total, tested, count)} |", flush=True)


def _row(law: Callable[[float], float], total: int, tested: int, count: int) -> str:
    found = [_judged(study(law, total, tested, seed), seed) for seed in range(count)]
    twice, backtest, widths, said = np.array(found).T
    held = (_percent(float(each.mean()), count) for each in (twice, backtest))
    return " | ".join([*held, f"{100 * widths.mean():.1f}", _percent(float(said.mean()), count)])


def _judged(found: Study, seed: int) -> tuple[bool, bool, float, bool]:
    """Return whether both intervals hold what came out, the width of the first, and whether it is said."""
    groups = Groups.single(found.right.shape[2])
    forecast: Outlook = outlook(Curve.of(found.right, found.images, groups), found.total, found.accuracy, seed)
    twice, backtest = forecast.twice, forecast.backtest
    assert twice
    assert backtest
    held = (twice.low <= found.twice <= twice.high, backtest.low <= found.accuracy <= backtest.high)
    return *held, twice.high - twice.low, forecast.unknown is None


def _percent(share: float, count: int) -> str:
    return f"{100 * share:.0f} % ({100 * math.sqrt(share * (1 - share) / count):.0f})"


def strengths() -> None:
    """Print a row for each backbone in data/ that has frozen features."""
    print(f"| backbone | strength | {' | '.join(f'{share:.0%}' for share in SHARES)} | s |")
    print(f"|:--|:--|{'--:|' * (len(SHARES) + 1)}")
    table = probe.images(read_index(probe.PREPARED))
    with threadpool_limits(1), tempfile.TemporaryDirectory() as scratch:
        for name in read_names():
            facts = read_json(probe.PROBES / name / "probe.json")
            if facts["frozen"]:
                recipe, classes = read_recipe(ProbeRecipe, name), read_classes(probe.PREPARED)
                probed = probe.Probed(table, probe.FEATURES / name, classes, recipe, Path(scratch))
                _compare(name, probed, facts["strength"])


def _compare(name: str, probed: probe.Probed, strength: float) -> None:
    table, seed = probed.table, probed.recipe.seed
    seen, test = (table[(table["split"] == "test") == tested] for tested in (False, True))
    drawn = [part for draw in range(DRAWS) for part in subsamples(seen, SHARES, seed, draw)]
    pool = subsets.Pool(probed.rows(seen), probed.labels(seen), len(probed.classes), probed.recipe.class_weight)

    def fixed() -> list[np.ndarray]:
        parts = [np.flatnonzero(part) for part in drawn]
        return [*subsets.predict(pool, parts, strength, probed.rows(test), probed.scratch)]

    def anew() -> list[np.ndarray]:
        return [probed.predict(probed.solve(seen[part]).head, test).argmax(axis=1) for part in drawn]

    for label, heads in (("that of all", fixed), ("anew", anew)):
        began = time.process_time()
        right = np.array([(each == probed.labels(test)).mean() for each in heads()]).reshape(DRAWS, -1).mean(axis=0)
        took = (time.process_time() - began) / len(drawn)
        print(f"| {name} | {label} | {' | '.join(f'{100 * each:.1f}' for each in right)} | {took:.3f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--parts", nargs="+", choices=("simulated", "strengths"), default=("simulated", "strengths"))
    options = parser.parse_args()
    if "simulated" in options.parts:
        simulated(options.studies)
    if "strengths" in options.parts:
        strengths()


if __name__ == "__main__":
    main()
