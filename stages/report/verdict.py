"""The verdict: which backbone to use and why, or why these numbers must not be used to choose.

It is the cheapest of the candidates: the best-scoring backbone, and those that the test set does not tell from it.
What is cheap says `report.prefer`: `size`, as shipped, is that of the weights in float32, the same on every machine;
`latency`, the median for one image, is measured on this machine, and two backbones of nearly the same may change
places from one measurement to the next; `flops` are the operations for one image. Where two cost the same the one
that scores better is taken.

A candidate is beaten significantly by no other backbone (McNemar's exact test, Holm-corrected for all pairs), nor by
the best-scoring one without the correction. The correction guards claims of a difference, which go wrong the more often
the more pairs are compared. To be told from nothing is a claim of none: corrected for 36 pairs, a backbone that is 14
points worse passed. For the same reason nothing is chosen where the test set could only show huge differences.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stages.core.settings.report import Prefer
from stages.report.pairwise_comparison import Duels
from stages.report.runs import Run, ranked
from stages.statistics.pairwise import least_difference

# The figure of data/benchmarks that is compared.
COSTS: Mapping[Prefer, str] = {"size": "size_mb", "latency": "latency_ms_median", "flops": "flops"}
# A test set that shows no smaller difference than this shows none that people choose by.
TOO_COARSE = 0.2

Kind = Literal["unusable", "alone", "too few", "winner", "ahead", "best and cheapest", "as good", "cheaper"]


@dataclass(frozen=True)
class Evidence:
    """What a verdict is drawn from.

    `declared` are the backbones of params.yaml; `audit` is data/audit.json; `source_split` says whether the split that
    the source brought is used (`split.use_folders`).
    """

    runs: Sequence[Run]
    declared: Sequence[str]
    duels: Duels
    audit: Mapping[str, Any]
    source_split: bool
    prefer: Prefer


@dataclass(frozen=True)
class Verdict:
    """What the evidence says.

    `chosen` is the backbone to use, None where nothing is to be chosen; `best` is right most often (then the lower log
    loss), `candidates` are those it was chosen from, the best first. `smallest` is the smallest difference of two
    accuracies that the test set can show, 0 to 1; larger than 1 where it can show none.
    """

    kind: Kind
    chosen: Run | None
    best: Run
    candidates: list[Run]
    smallest: float

    @property
    def subject(self) -> Run:
        """The backbone that is spoken of: the chosen one, or the best where nothing is chosen."""
        return self.chosen or self.best


def decide(evidence: Evidence) -> Verdict:
    """Return the verdict."""
    ranking, duels = ranked(list(evidence.runs)), evidence.duels
    best, candidates = ranking[0], [run for run in ranking if _candidate(run, ranking, duels)]
    smallest = least_difference(best.metrics["test_images"], max(len(duels), 1), 1 - duels.confidence)
    cheapest = min(candidates, key=lambda run: cost(run, evidence.prefer))
    kind = _kind(evidence, cheapest, candidates, smallest)
    return Verdict(kind, None if kind in ("unusable", "too few") else cheapest, best, candidates, smallest)


def _candidate(run: Run, ranking: list[Run], duels: Duels) -> bool:
    """Say whether the test set leaves open that a backbone is as good as the best one of `ranking`."""
    best = ranking[0]
    if run is best:
        return True
    beaten = any(duels.better(other.backbone, run.backbone) for other in ranking)
    return not beaten and not duels.ahead(best.backbone, run.backbone)


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
        return "winner" if all(evidence.duels.better(best.backbone, run.backbone) for run in others) else "ahead"
    if smallest > TOO_COARSE:
        return "too few"
    if cheapest is best:
        return "best and cheapest"
    return "as good" if cheapest.metrics["accuracy"] == best.metrics["accuracy"] else "cheaper"


def unusable(evidence: Evidence) -> bool:
    """Say whether these numbers must not be used to choose: random weights, leaks, or backbones that are missing."""
    return bool(missing(evidence) or random(evidence) or leaked(evidence))


def missing(evidence: Evidence) -> list[str]:
    """Return the declared backbones of which there are no results."""
    found = {run.backbone for run in evidence.runs}
    return [backbone for backbone in evidence.declared if backbone not in found]


def random(evidence: Evidence) -> dict[str, list[Run]]:
    """Return the backbones that carry random weights, by the reason for these."""
    found: dict[str, list[Run]] = {}
    for run in ranked(list(evidence.runs)):
        if run.random:
            found.setdefault(run.provenance["weights"]["reason"], []).append(run)
    return found


def leaked(evidence: Evidence) -> int:
    """Return how many images have a copy on another side of the source's own split, 0 where that is not used.

    Stage split moves or drops the copies that it finds. Where a split was made so carelessly, others that it does not
    find, such as cropped ones, are to be expected.
    """
    return int(evidence.audit["leaks"]["images"]) if evidence.source_split else 0
