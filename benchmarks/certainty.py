"""How often the numbers are right: studies whose truth is known, as tables in Markdown.

    python benchmarks/certainty.py [--studies 2000] [--parts verdict coverage temperature]

`verdict`: the best backbone is right on 90 %, the latent correlation of two is 0.7, the margin is 2 points, the
confidence 95 %. A backbone may be recommended because it scores highest, which by few images happens by luck, or,
below a higher score, because it is shown to be within the margin: of this the verdict promises that it is wrong in at
most 5 % of studies. In brackets is the standard error of the simulation. `coverage`: how often the 95 % intervals of
the metrics hold the true value, with many classes and few images. `temperature`: what a temperature fitted on few
images does to the log loss of a calibrated network. It takes some minutes.
"""

import argparse
import math
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 (the project is on the path now)

from stages.core.predictions import apply_temperature  # noqa: E402
from stages.statistics import metrics  # noqa: E402
from stages.statistics.temperature import fitted  # noqa: E402
from tests.support.populations import calibrated, held  # noqa: E402
from tests.support.studies import judge  # noqa: E402

IMAGES, BACKBONES = (60, 100, 400, 1000, 4000), (2, 9)
ACCURACY, WORSE, MARGIN, CONFIDENCE = 0.9, 0.05, 0.02, 0.95
# Test images, by the number of classes.
SIZES = {2: (100, 400), 5: (100, 400), 10: (100, 400), 37: (100, 400, 2000), 100: (200, 400, 2000), 200: (400, 2000)}
HEADINGS = (
    "test images",
    "backbones",
    "cheapest 5 points worse, others equal: it is recommended",
    "below a higher score",
    "all but the dearest worse by the margin: one is recommended below a higher score",
    "all equal: the cheapest is recommended",
)


def row(images: int, backbones: int, count: int) -> list[str]:
    """Return one row of the table, from `count` studies of each kind."""
    dearest = backbones - 1
    worse, worse_below = judge([ACCURACY - WORSE, *[ACCURACY] * dearest], images, count, MARGIN, CONFIDENCE)
    rivals, rivals_below = judge([*[ACCURACY - MARGIN] * dearest, ACCURACY], images, count, MARGIN, CONFIDENCE)
    equal, _ = judge([ACCURACY] * backbones, images, count, MARGIN, CONFIDENCE)
    shares = (
        (worse == 0).mean(),
        ((worse == 0) & worse_below).mean(),
        ((rivals < dearest) & rivals_below).mean(),
        (equal == 0).mean(),
    )
    return [f"{images:,}", str(backbones), *(percent(float(share), count) for share in shares)]


def percent(share: float, count: int) -> str:
    """Return a share of `count` studies as a percentage, with its standard error in brackets."""
    return f"{100 * share:.1f} % ({100 * math.sqrt(share * (1 - share) / count):.1f})"


def verdict(count: int) -> None:
    """Print how often a backbone that is worse is recommended."""
    print(f"| {' | '.join(HEADINGS)} |\n|{'--:|' * len(HEADINGS)}")
    for backbones in BACKBONES:
        for images in IMAGES:
            print(f"| {' | '.join(row(images, backbones, count))} |", flush=True)


def coverage(count: int) -> None:
    """Print how often the intervals of the metrics hold the true values."""
    print("| classes | test images | accuracy | balanced accuracy | macro F1 |\n|--:|--:|--:|--:|--:|")
    for classes, sizes in SIZES.items():
        for images in sizes:
            found = held(classes, images, count, 200)
            cells = (percent(float(np.mean(each)), len(each)) if each else "not shown" for each in found.values())
            print(f"| {classes} | {images:,} | {' | '.join(cells)} |", flush=True)


def temperature(count: int) -> None:
    """Print the log loss of calibrated networks before and after temperature scaling."""
    print("| accuracy | validation images | log loss | change on average | at worst |\n|--:|--:|--:|--:|--:|")
    for accuracy in (0.97, 0.98, 0.99, 0.995):
        for images in (20, 68, 300):
            draw = np.random.default_rng(images)
            actual, probabilities = calibrated(draw, accuracy, 20_000)
            before = metrics.log_loss(actual, probabilities)
            after = [
                metrics.log_loss(actual, apply_temperature(probabilities, fitted(*calibrated(draw, accuracy, images))))
                for _ in range(count)
            ]
            changes = f"{np.mean(after) - before:+.3f} | {max(after) - before:+.3f}"
            print(f"| {100 * accuracy:g} % | {images} | {before:.3f} | {changes} |", flush=True)


PARTS = {"verdict": verdict, "coverage": coverage, "temperature": temperature}


def main() -> None:
    """Print the tables that are asked for, row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of each kind in each row, default 2000")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    for part in options.parts:
        PARTS[part](options.studies)
        print()


if __name__ == "__main__":
    main()
