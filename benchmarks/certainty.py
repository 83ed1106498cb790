"""How often the verdict is right: studies whose truth is known, as a table in Markdown.

    python benchmarks/certainty.py [--studies 2000]

The best backbone is right on 90 %, the latent correlation of two is 0.7, the margin is 2 points, the confidence 95 %. A
backbone may be recommended because it scores highest, which by few images happens by luck, or, below a higher score,
because it is shown to be within the margin: of this the verdict promises that it is wrong in at most 5 % of studies. In
brackets is the standard error of the simulation. It takes some minutes.
"""

import argparse
import math
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.studies import judge  # noqa: E402 (the project is on the path now)

IMAGES, BACKBONES = (60, 100, 400, 1000, 4000), (2, 9)
ACCURACY, WORSE, MARGIN, CONFIDENCE = 0.9, 0.05, 0.02, 0.95
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


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of each kind in each row, default 2000")
    count = parser.parse_args().studies
    print(f"| {' | '.join(HEADINGS)} |\n|{'--:|' * len(HEADINGS)}")
    for backbones in BACKBONES:
        for images in IMAGES:
            print(f"| {' | '.join(row(images, backbones, count))} |", flush=True)


if __name__ == "__main__":
    main()
