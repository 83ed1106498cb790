"""Costs that were measured on a busy machine: what the report says of them."""

from collections.abc import Iterable

from stages.pages.language import Language, Names, Text
from stages.report.runs import Run
from stages.report.verdict import Evidence


def under_load(runs: Iterable[Run]) -> list[str]:
    """Return the backbones whose latency or throughput was measured under load."""
    marks = ("latency_under_load", "throughput_under_load")
    return [run.backbone for run in runs if any(run.benchmark[mark] for mark in marks)]


def load_notes(evidence: Evidence, language: Language) -> list[Text]:
    """Return a warning where the verdict goes by latencies of which some were measured under load."""
    names = [run.backbone for run in evidence.ranking if run.benchmark["latency_under_load"]]
    if evidence.prefer != "latency" or not names:
        return []
    return [
        language.say(
            "The latency of %(names)s was measured on a busy machine, so the order by latency may be wrong: "
            "run dvc repro -f -s benchmark@NAME for each when the machine is idle, then dvc repro.",
            names=Names(tuple(names)),
        )
    ]
