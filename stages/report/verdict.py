"""The verdict: which backbone to use and why, or why these numbers must not be used to choose.

It is the best-scoring backbone, unless a cheaper one is shown to be at most `report.margin` worse than any other: then
it is the cheapest of those. `report.prefer` says what is cheap: `size`, the default, is that of the weights in float32,
the same on every machine; `latency`, the median for one image, is measured on this machine, and two backbones of nearly
the same may change places from one measurement to the next; `flops` are the operations for one image. Where two cost
the same the one that scores better is taken, and where two score the same the cheaper one.

Shown is what the upper confidence limits of the differences to all others say (`Evidence.shortfalls`). Failing to
reject a difference is no evidence of equality: among those that a test of 100 images does not tell from the best is
often one that is 5 to 10 points worse. A cheaper one of these is named as open. For the same reason nothing is chosen
where the test set could only detect huge differences, or where its images come from few groups.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from stages.core.measure import Measure
from stages.core.settings.report import Prefer
from stages.report.pairwise_comparison import PairwiseComparisons
from stages.report.runs import Run, ranked, ranked_over_folds
from stages.statistics.contest import Contest
from stages.statistics.decision import Resampled, choose, resampled, shortfalls
from stages.statistics.pairwise import detectable
from stages.statistics.resampled import enough_for_f1

# The figure of data/benchmarks that is compared.
COSTS: Mapping[Prefer, str] = {"size": "size_mb", "latency": "latency_ms_median", "flops": "flops"}
# A test set that detects no smaller difference than this detects none that people choose by: of a cost that share of
# the highest one.
TOO_COARSE = 0.2

Kind = Literal[
    "unusable", "alone", "few groups", "too few", "winner", "ahead", "best and cheapest", "as good", "cheaper", "open"
]
# Kinds of which nothing is chosen.
NOTHING_CHOSEN: tuple[Kind, ...] = ("unusable", "few groups", "too few")


@dataclass(frozen=True)
class Verdict:
    """What the evidence says.

    `chosen` is the backbone to use, None where nothing is to be chosen; `best` is so by the measure (then by the lower
    log loss), `candidates` are those that the test set does not tell from it, the best first. `rival` is the one
    weighed against the best: the cheaper one that is chosen, else the cheapest of the candidates that cost less, else
    the next candidate, else the next best; None of a single backbone. `detectable` is the difference of these two that
    the test set detects (`pairwise.detectable`), 0 of a single backbone.
    """

    kind: Kind
    chosen: Run | None
    best: Run
    candidates: list[Run]
    rival: Run | None
    detectable: float

    @property
    def subject(self) -> Run:
        """The backbone that the text is about: the chosen one, or the best where nothing is chosen."""
        return self.chosen or self.best


@dataclass(frozen=True)
class Evidence:
    """What a verdict is drawn from.

    `declared` are the backbones of params.yaml; `outcomes` are the answers of the `runs` to the test images, by the
    measure that decides; `audit` is data/audit.json; `source_split` says whether the split that the source brought is
    used (`split.use_folders`); `margin` is a difference of that measure, 0 to 1. The decision is drawn again
    `resamples` times, with `seed`. Ranking and verdict follow from these, and are computed once.
    """

    runs: Sequence[Run]
    declared: Sequence[str]
    outcomes: Contest
    comparisons: PairwiseComparisons
    audit: Mapping[str, Any]
    source_split: bool
    margin: float
    prefer: Prefer
    resamples: int
    seed: int

    @cached_property
    def ranking(self) -> list[Run]:
        """The runs, the best first."""
        return ranked(self.runs, self.measure)

    @cached_property
    def ranking_over_folds(self) -> list[Run]:
        """The runs, the best over folds first; empty where there are no folds."""
        return ranked_over_folds(self.runs)

    @cached_property
    def verdict(self) -> Verdict:
        """What they say."""
        return _decide(self)

    @property
    def measure(self) -> Measure:
        """What decides."""
        return self.comparisons.measure

    @property
    def images(self) -> int:
        """The number of test images, of whatever class; `outcomes` has those that the measure is computed on."""
        return int(self.runs[0].metrics["test_images"])

    @property
    def too_coarse(self) -> float:
        """The smallest difference that a test set must detect, if anything is to be chosen by it."""
        return TOO_COARSE * (self._largest or 1)

    @property
    def detects(self) -> bool:
        """Whether the test set can show a difference at all: no two differ by more than an image can add."""
        return self.verdict.detectable <= (self._largest or math.inf)

    @property
    def _largest(self) -> float:
        return self.measure.largest(self.runs[0].classes)

    @property
    def confidence(self) -> float:
        """That of all intervals and tests."""
        return self.comparisons.confidence

    @cached_property
    def shortfalls(self) -> dict[str, float]:
        """How much worse than the best of all others each backbone may truly be, -1 to 1 (`decision.shortfalls`)."""
        found = shortfalls(self.outcomes.counts, self.confidence)[0]
        return dict(zip(self.outcomes.names, map(float, found), strict=True))

    @cached_property
    def resampled(self) -> Resampled:
        """How the choice comes out on resamples of the test images: of the recommended backbone, or else the best.

        Without a value and its interval where the measure is too biased for one (`biased`).
        """
        ranking = [self.outcomes.names.index(run.backbone) for run in self.ranking]
        order, margin = (self.order, self.margin) if self.verdict.chosen else (ranking, None)
        found = resampled(self.outcomes, order, margin, self.confidence, self.resamples, self.seed)
        return replace(found, value=None, interval=None) if self.biased else found

    @property
    def biased(self) -> bool:
        """Whether the measure is macro F1 of too few test images a class: its values have no interval."""
        shown = sum(row["support"] > 0 for row in self.runs[0].metrics["per_class"].values())
        return self.measure.name == "macro_f1" and not enough_for_f1(self.images, shown)

    @property
    def order(self) -> list[int]:
        """The positions of the backbones in `outcomes`, the cheapest first; of equal cost the better first."""
        cheapest = sorted(self.ranking, key=lambda run: cost(run, self.prefer))
        return [self.outcomes.names.index(run.backbone) for run in cheapest]


def _decide(evidence: Evidence) -> Verdict:
    ranking, comparisons = evidence.ranking, evidence.comparisons
    candidates = [run for run in ranking if _candidate(run, ranking, comparisons)]
    order = np.array(evidence.order)
    position = choose(evidence.outcomes.counts, order, evidence.margin, evidence.confidence)[0]
    cheapest = next(run for run in ranking if run.backbone == evidence.outcomes.names[position])
    rival = _rival(evidence, cheapest, candidates)
    detectable = _detectable(rival, evidence) if rival else 0.0
    kind = _kind(evidence, cheapest, candidates, rival, detectable)
    chosen = None if kind in NOTHING_CHOSEN else cheapest
    return Verdict(kind, chosen, ranking[0], candidates, rival, detectable)


def _rival(evidence: Evidence, cheapest: Run, candidates: list[Run]) -> Run | None:
    best, *others = evidence.ranking
    if cheapest is not best:
        return cheapest
    cheaper = [run for run in candidates if cost(run, evidence.prefer) < cost(best, evidence.prefer)]
    following = next(iter([*candidates[1:], *others]), None)
    return min(cheaper, key=lambda run: cost(run, evidence.prefer), default=following)


def _detectable(rival: Run, evidence: Evidence) -> float:
    return detectable(between(rival, evidence), 1 - evidence.confidence)


def between(rival: Run, evidence: Evidence) -> Contest:
    """Return the best and its rival."""
    return evidence.outcomes.of(evidence.ranking[0].backbone, rival.backbone)


def _candidate(run: Run, ranking: list[Run], comparisons: PairwiseComparisons) -> bool:
    """Return whether the test set leaves open that a backbone is as good as the best one of `ranking`."""
    best = ranking[0]
    if run is best:
        return True
    worse = any(comparisons.better(other.backbone, run.backbone) for other in ranking)
    return not worse and not comparisons.better_uncorrected(best.backbone, run.backbone)


def cost(run: Run, prefer: Prefer) -> float:
    """Return what a backbone costs; infinity where it was not measured."""
    found = run.benchmark[COSTS[prefer]]
    return math.inf if found is None else float(found)


def _kind(evidence: Evidence, cheapest: Run, candidates: list[Run], rival: Run | None, detectable: float) -> Kind:
    best = candidates[0]
    if unusable(evidence):
        return "unusable"
    if rival is None:
        return "alone"
    if evidence.outcomes.groups.few:
        return "few groups"
    if evidence.measure.sign * (best.value - cheapest.value) > 0:
        return "cheaper"
    if len(candidates) == 1:
        others = [run for run in evidence.runs if run is not best]
        return "winner" if all(evidence.comparisons.better(best.backbone, run.backbone) for run in others) else "ahead"
    return "too few" if detectable > evidence.too_coarse else _kind_of_tied(evidence, cheapest, rival)


def _kind_of_tied(evidence: Evidence, cheapest: Run, rival: Run) -> Kind:
    best = evidence.ranking[0]
    if cheapest is not best:
        return "as good"
    return "open" if cost(rival, evidence.prefer) < cost(best, evidence.prefer) else "best and cheapest"


def unusable(evidence: Evidence) -> bool:
    """Return whether these numbers must not be used to choose: random weights, leaks, or missing backbones."""
    return bool(missing(evidence) or random(evidence) or leaked(evidence))


def missing(evidence: Evidence) -> list[str]:
    """Return the declared backbones of which there are no results."""
    found = {run.backbone for run in evidence.runs}
    return [backbone for backbone in evidence.declared if backbone not in found]


def random(evidence: Evidence) -> dict[str, list[Run]]:
    """Return the backbones that carry random weights, by the reason for these."""
    found: dict[str, list[Run]] = {}
    for run in evidence.ranking:
        if run.random:
            found.setdefault(run.provenance["weights"]["reason"], []).append(run)
    return found


def leaked(evidence: Evidence) -> int:
    """Return how many images are copies of one another, in the source's own test split and outside of it.

    It is 0 where that split is not used. Stage split moves or drops the copies that it finds, so that none lies on two
    sides here; but where a source's test split has some, others that are not found, such as cropped ones, are to be
    expected there. Copies in its other splits say nothing about its test images.
    """
    return int(evidence.audit["leaks"]["test"]) if evidence.source_split else 0
