"""The verdict: which backbone to use and why, or why these numbers must not be used to choose.

It is the cheapest of the candidates: the best-scoring backbone, and those that are statistically tied with it.
`report.prefer` says what is cheap: `size`, the default, is that of the weights in float32, the same on every machine;
`latency`, the median for one image, is measured on this machine, and two backbones of nearly the same may change
places from one measurement to the next; `flops` are the operations for one image. Where two cost the same the one
that scores better is taken.

No other backbone is significantly better than a candidate (McNemar's exact test, Holm-corrected for all pairs), nor is
the best-scoring one without the correction. The correction guards claims of a difference, which go wrong the more often
the more pairs are compared. Failing to reject a difference is not evidence of equality: corrected for 36 pairs, a
backbone that is 14 points worse passed. For the same reason nothing is chosen where the test set could only show huge
differences.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from stages.core.settings.report import Prefer
from stages.report.pairwise_comparison import PairwiseComparisons
from stages.report.runs import Run, ranked, ranked_over_folds
from stages.statistics.pairwise import min_detectable_difference

# The figure of data/benchmarks that is compared.
COSTS: Mapping[Prefer, str] = {"size": "size_mb", "latency": "latency_ms_median", "flops": "flops"}
# A test set that shows no smaller difference than this shows none that people choose by.
TOO_COARSE = 0.2

Kind = Literal["unusable", "alone", "too few", "winner", "ahead", "best and cheapest", "as good", "cheaper"]


@dataclass(frozen=True)
class Verdict:
    """What the evidence says.

    `chosen` is the backbone to use, None where nothing is to be chosen; `best` has the highest accuracy (then the lower
    log loss), `candidates` are those it was chosen from, the best first. `smallest` is the smallest difference of two
    accuracies that the test set can show, 0 to 1; larger than 1 where it can show none.
    """

    kind: Kind
    chosen: Run | None
    best: Run
    candidates: list[Run]
    smallest: float

    @property
    def subject(self) -> Run:
        """The backbone that the text is about: the chosen one, or the best where nothing is chosen."""
        return self.chosen or self.best


@dataclass(frozen=True)
class Evidence:
    """What a verdict is drawn from.

    `declared` are the backbones of params.yaml; `audit` is data/audit.json; `source_split` says whether the split that
    the source brought is used (`split.use_folders`). Ranking and verdict follow from these, and are computed once.
    """

    runs: Sequence[Run]
    declared: Sequence[str]
    comparisons: PairwiseComparisons
    audit: Mapping[str, Any]
    source_split: bool
    prefer: Prefer

    @cached_property
    def ranking(self) -> list[Run]:
        """The runs, the best first."""
        return ranked(self.runs)

    @cached_property
    def ranking_over_folds(self) -> list[Run]:
        """The runs, the best over folds first; empty where there are no folds."""
        return ranked_over_folds(self.runs)

    @cached_property
    def verdict(self) -> Verdict:
        """What they say."""
        return _decide(self)


def _decide(evidence: Evidence) -> Verdict:
    ranking, comparisons = evidence.ranking, evidence.comparisons
    best, candidates = ranking[0], [run for run in ranking if _candidate(run, ranking, comparisons)]
    smallest = min_detectable_difference(
        best.metrics["test_images"], max(len(comparisons), 1), 1 - comparisons.confidence
    )
    cheapest = min(candidates, key=lambda run: cost(run, evidence.prefer))
    kind = _kind(evidence, cheapest, candidates, smallest)
    return Verdict(kind, None if kind in ("unusable", "too few") else cheapest, best, candidates, smallest)


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


def _kind(evidence: Evidence, cheapest: Run, candidates: list[Run], smallest: float) -> Kind:
    best = candidates[0]
    if unusable(evidence):
        return "unusable"
    if len(evidence.runs) == 1:
        return "alone"
    if len(candidates) == 1:
        others = [run for run in evidence.runs if run is not best]
        return "winner" if all(evidence.comparisons.better(best.backbone, run.backbone) for run in others) else "ahead"
    if smallest > TOO_COARSE:
        return "too few"
    if cheapest is best:
        return "best and cheapest"
    return "as good" if cheapest.metrics["accuracy"] == best.metrics["accuracy"] else "cheaper"


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
    """Return how many images have a copy on another side of the source's own split, 0 where that is not used.

    Stage split moves or drops the copies that it finds. Others that it does not find, such as cropped ones, are to be
    expected in such a split.
    """
    return int(evidence.audit["leaks"]["images"]) if evidence.source_split else 0
