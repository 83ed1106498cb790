"""How often the numbers are right: studies whose truth is known, as tables in Markdown.

    python benchmarks/certainty.py [--studies 2000] [--parts groups seeds ...]

In brackets is the standard error of the simulation. It takes some minutes. The parts:

`verdict`: the best backbone is right on 90 %, the latent correlation of two is 0.7, the margin is 2 points, the
confidence 95 %. A backbone may be recommended because it scores highest, which by few images happens by luck, or,
below a higher score, because it is shown to be within the margin: of this the verdict promises that it is wrong in at
most 5 % of studies.

`coverage`: how often the 95 % intervals of the metrics hold the true value, with many classes and few images.

`groups`: images that come in groups, such as ten of a person, of which half of what makes them easy is their group's:
how often the interval of an accuracy and that of a difference hold the truth, and how often equally good backbones are
called different. `seeds`: the same of backbones that are trained three times with different results.

`winner`: how far the accuracy of the best one of several that are equally good lies above the truth, as measured and as
corrected, and how stable its selection is. `real`: the same of real predictions, from which test sets are drawn.

`measures`: of measures other than accuracy, on classes of unequal frequency: how often equally good backbones are told
apart, and how often the limit of a difference and the interval of a value hold the truth.

`significance`: of the same measures, how often the exchange test alone, and how often the report, which asks for an
interval without 0 as well, calls two backbones different: equally good ones, and one that is worse on rare classes.

`gate`: how often it is shut by falls of the accuracy.

`temperature`: what a temperature fitted on few images does to the log loss of a calibrated network.

`drift`: how often `predict --drift` finds that new images look unlike the validation images, and how often that their
classes are mixed otherwise.
"""

import argparse
import math
import sys
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 (the project is on the path now)
import pandas as pd  # noqa: E402

from stages.core.measure import Measure  # noqa: E402
from stages.core.predictions import apply_temperature, fit_temperature, read_predictions  # noqa: E402
from stages.core.settings.gate import GateParams  # noqa: E402
from stages.gate.rules import fallen  # noqa: E402
from stages.report.pairwise_comparison import PairwiseComparisons  # noqa: E402
from stages.statistics import metrics  # noqa: E402
from stages.statistics.decision import resampled  # noqa: E402
from stages.statistics.groups import accuracy_interval  # noqa: E402
from stages.statistics.outcomes import read_outcomes  # noqa: E402
from stages.statistics.pairwise import all_pairs, difference, difference_interval, p_value  # noqa: E402
from stages.statistics.scores import Scores  # noqa: E402
from tests.support.drifting import POPULATIONS, verdicts  # noqa: E402
from tests.support.populations import calibrated, held  # noqa: E402
from tests.support.studies import GROUPED_ACCURACY, grouped, independent, judge, measured, seeded, smallest_p, studies  # noqa: E402

IMAGES, BACKBONES = (60, 100, 400, 1000, 4000), (2, 9)
ACCURACY, WORSE, MARGIN, CONFIDENCE = 0.9, 0.05, 0.02, 0.95
# Measures other than accuracy; one class costs ten times as much to miss.
MEASURES = (
    Measure("balanced_accuracy"),
    Measure("macro_f1"),
    Measure("log_loss"),
    Measure("cost", {"c": {"a": 10.0, "b": 5.0}}),
)
# Of the second of two backbones, how much better it knows rare classes, and worse the frequent one.
DIFFERENT = (0.0, 1.0)
# The same of one that is worse by any measure.
WEAKER = (0.0, -1.0)
# Test images, by the number of classes.
SIZES = {2: (100, 400), 5: (100, 400), 10: (100, 400), 37: (100, 400, 2000), 100: (200, 400, 2000), 200: (400, 2000)}
# Mix and looks of new images, and how many there are.
CHANGES = (
    ("as before", "as before"),
    ("60 % of one class", "as before"),
    ("one class alone", "as before"),
    ("as before", "noise added"),
    ("as before", "all moved"),
    ("60 % of one class", "noise added"),
)
NEW_IMAGES = (30, 100, 500)
BY = ("test", "reported")
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


def groups(count: int) -> None:
    """Print what intervals and tests say of equally good backbones on images in groups."""
    headings = ("groups", "images each", "accuracy held", "difference held", "told apart, 2 backbones", "9 backbones")
    print(f"| {' | '.join(headings)} |\n|{'--:|' * len(headings)}")
    for number, size in ((15, 10), (25, 4), (25, 10), (40, 10), (40, 25), (100, 4), (100, 10)):
        pairs = list(grouped(number, size, 2, count, seed=number))
        intervals = [difference_interval(pair, CONFIDENCE) for pair in pairs]
        ends = [accuracy_interval(pair.right[:, 0], pair.groups, CONFIDENCE) for pair in pairs]
        nine = [smallest_p(study) for study in grouped(number, size, 9, count // 4, seed=number)]
        cells = (
            percent(float(np.mean([low <= GROUPED_ACCURACY <= high for low, high in ends])), count),
            percent(float(np.mean([low <= 0 <= high for low, high in intervals])), count),
            percent(float(np.mean([p_value(pair) <= 1 - CONFIDENCE for pair in pairs])), count),
            percent(float(np.mean(np.array(nine) <= 1 - CONFIDENCE)), count // 4),
        )
        print(f"| {number} | {size} | {' | '.join(cells)} |", flush=True)


def seeds(count: int) -> None:
    """Print how often equally good backbones whose trainings differ are called different."""
    print("| test images | standard deviation of the seeds, points | 9 backbones told apart |\n|--:|--:|--:|")
    for images in (100, 400, 1000):
        for deviation in (0.0, 0.01, 0.02, 0.04):
            found = [smallest_p(study) for study in seeded(images, [ACCURACY] * 9, 3, deviation, count // 4)]
            share = percent(float(np.mean(np.array(found) <= 1 - CONFIDENCE)), count // 4)
            print(f"| {images:,} | {100 * deviation:g} | {share} |", flush=True)


def winner(count: int) -> None:
    """Print the accuracy of the best of equally good backbones less its true one, as measured and as corrected."""
    headings = (
        *("accuracy", "backbones", "test images", "measured, points above", "corrected", "interval held"),
        *("selected again in resamples", "by new images"),
    )
    print(f"| {' | '.join(headings)} |\n|{'--:|' * len(headings)}")
    for accuracy, backbones, images in product((0.75, 0.9), BACKBONES, (100, 400)):
        drawn = np.concatenate(list(studies([accuracy] * backbones, images, count // 4, seed=3)))
        found = [resampled(independent(right), range(backbones), None, CONFIDENCE, 200, 0) for right in drawn]
        measured = drawn.mean(axis=1).max(axis=1) - accuracy
        corrected = np.array([each.value for each in found]) - accuracy
        held_by = np.mean([each.interval.low <= accuracy <= each.interval.high for each in found])
        best = drawn.mean(axis=1).argmax(axis=1)
        stable = np.mean([each.shares[str(name)] for each, name in zip(found, best, strict=True)])
        cells = (
            *(f"{100 * measured.mean():+.1f}", f"{100 * corrected.mean():+.1f}", percent(float(held_by), len(found))),
            *(f"{100 * stable:.0f} %", f"{100 * (best[1:] == best[:-1]).mean():.0f} %"),
        )
        print(f"| {100 * accuracy:g} % | {backbones} | {images} | {' | '.join(cells)} |", flush=True)


def measures(count: int) -> None:
    """Print how often tests, limits and intervals of other measures than accuracy are wrong or right."""
    headings = (
        *("measure", "groups", "images each", "equal ones told apart"),
        *("limit held, equal ones", "limit held, different ones", "value held"),
    )
    print(f"| {' | '.join(headings)} |\n|:--|{'--:|' * (len(headings) - 1)}")
    for measure in MEASURES:
        (large,) = measured(measure, 200_000, 1, DIFFERENT, 1, seed=0)
        for number, size in ((60, 1), (200, 1), (1000, 1), (20, 5), (40, 10)):
            equal = list(measured(measure, number, size, (0.0, 0.0), count, seed=number))
            other = list(measured(measure, number, size, DIFFERENT, count, seed=number + 1))
            ends = [study.interval(0, float(study.measured[0]), CONFIDENCE) for study in other]
            cells = (
                percent(float(np.mean([p_value(study) <= 1 - CONFIDENCE for study in equal])), count),
                percent(_limits_held(equal, 0.0), 2 * count),
                percent(_limits_held(other, difference(large)), 2 * count),
                percent(float(np.mean([low <= large.measured[0] <= high for low, high in ends])), count),
            )
            print(f"| {measure.words} | {number} | {size} | {' | '.join(cells)} |", flush=True)


def _limits_held(studies: list[Scores], true: float) -> float:
    """Return how often the one-sided limits, of either backbone against the other, hold the true difference."""
    limits = [study.counts.upper_limits(CONFIDENCE)[0] for study in studies]
    return float(np.mean([(true <= upper[0, 1], -true <= upper[1, 0]) for upper in limits]))


def significance(count: int) -> None:
    """Print how often two backbones are called different, by the test alone and as reported."""
    headings = (
        "measure",
        "groups",
        "images each",
        *(f"{two} ones, {by}" for two in ("equal", "different") for by in BY),
    )
    print(f"| {' | '.join(headings)} |\n|:--|{'--:|' * (len(headings) - 1)}")
    for measure, (number, size) in product(MEASURES, ((60, 1), (200, 1), (40, 10))):
        cells = []
        for edges in ((0.0, 0.0), WEAKER):
            pairs = [all_pairs(study, CONFIDENCE) for study in measured(measure, number, size, edges, count, number)]
            tested = np.mean([float(pair["p"].iloc[0]) <= 1 - CONFIDENCE for pair in pairs])
            found = [PairwiseComparisons(pair, measure, CONFIDENCE).between("0", "1").outcome for pair in pairs]
            reported = np.mean([outcome != "open" for outcome in found])
            cells += [percent(float(share), count) for share in (tested, reported)]
        print(f"| {measure.words} | {number} | {size} | {' | '.join(cells)} |", flush=True)


def gate(count: int) -> None:
    """Print how often the gate is shut by true falls, and without one, of backbones that are trained three times."""
    settings = GateParams(max_fall=0.01, significance=0.05, keep_backbones=True, keep_weights=True, max_leaks=0)
    falls = (0.0, 0.02, 0.05, 0.1)
    print("| test images | seeds, points | " + " | ".join(f"fall of {100 * fall:g}" for fall in falls) + " |")
    print("|--:|--:|" + "--:|" * len(falls))
    for images, deviation in product((100, 400, 1000), (0.0, 0.01, 0.02)):
        cells = []
        for fall in falls:
            pairs = seeded(images, [ACCURACY, ACCURACY - fall], 3, deviation, count)
            cells.append(percent(float(np.mean([fallen(pair, settings) for pair in pairs])), count))
        print(f"| {images:,} | {100 * deviation:g} | {' | '.join(cells)} |", flush=True)


def real(count: int) -> None:
    """Print the same of real predictions: those of the probes in data/, of which test sets are drawn."""
    tables = {path.parent.name: read_predictions(path) for path in sorted(ROOT.glob("data/probes/*/predictions.csv"))}
    tables = {name: table for name, table in tables.items() if len(table)}
    files = next(iter(tables.values()))["file"]
    right = read_outcomes(tables, pd.Series(files.to_numpy(), index=files)).right
    true, draw = right.mean(axis=0), np.random.default_rng(0)
    print(f"{len(right)} images, {len(tables)} backbones\n")
    print(
        "| test images | measured, points above | corrected | interval held | differences held |\n|--:|--:|--:|--:|--:|"
    )
    for images in (60, 100, 200):
        rows = []
        for _ in range(count // 4):
            study = independent(right[draw.integers(0, len(right), images)])
            found, best = (
                resampled(study, range(len(true)), None, CONFIDENCE, 200, 0),
                study.right.mean(axis=0).argmax(),
            )
            pair = study.of(*(str(name) for name in draw.choice(len(true), 2, replace=False)))
            low, high = difference_interval(pair, CONFIDENCE)
            difference = true[int(pair.names[0])] - true[int(pair.names[1])]
            above = study.right[:, best].mean() - true[best], found.value - true[best]
            rows.append((*above, found.interval.low <= true[best] <= found.interval.high, low <= difference <= high))
        measured, corrected, held_by, differences = np.mean(rows, axis=0)
        cells = (
            f"{100 * measured:+.1f}",
            f"{100 * corrected:+.1f}",
            *(percent(share, len(rows)) for share in (held_by, differences)),
        )
        print(f"| {images} | {' | '.join(cells)} |", flush=True)


def temperature(count: int) -> None:
    """Print the log loss of calibrated networks before and after temperature scaling."""
    print("| accuracy | validation images | log loss | change on average | at worst |\n|--:|--:|--:|--:|--:|")
    for accuracy in (0.97, 0.98, 0.99, 0.995):
        for images in (20, 68, 300):
            draw = np.random.default_rng(images)
            actual, probabilities = calibrated(draw, accuracy, 20_000)
            before = metrics.log_loss(actual, probabilities)
            after = [
                metrics.log_loss(
                    actual, apply_temperature(probabilities, fit_temperature(*calibrated(draw, accuracy, images)))
                )
                for _ in range(count)
            ]
            changes = f"{np.mean(after) - before:+.3f} | {max(after) - before:+.3f}"
            print(f"| {100 * accuracy:g} % | {images} | {before:.3f} | {changes} |", flush=True)


def drift(count: int) -> None:
    """Print how often new images are found to look otherwise, and to have another mix of classes."""
    sizes = [heading for images in NEW_IMAGES for heading in (f"{images} new images: other looks", "another mix")]
    print(f"| classes | mix | looks | {' | '.join(sizes)} |\n|:--|:--|:--|{'--:|' * len(sizes)}")
    for population in POPULATIONS:
        for mix, look in CHANGES:
            cells = []
            for images in NEW_IMAGES:
                found = verdicts(population, mix, look, images, count)
                others = ["mix of classes differs (" in one.sentence for one in found]
                cells += [percent(float(np.mean(each)), count) for each in ([one.found for one in found], others)]
            print(f"| {population} | {mix} | {look} | {' | '.join(cells)} |", flush=True)


PARTS = {
    "verdict": verdict, "coverage": coverage, "groups": groups, "seeds": seeds, "winner": winner, "gate": gate,
    "measures": measures, "significance": significance,
    "real": real,
    "temperature": temperature, "drift": drift,
}  # fmt: skip


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
