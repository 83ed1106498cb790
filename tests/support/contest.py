"""Backbones that are right about chosen images, with what a verdict on them is drawn from."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stages.core.measure import Measure
from stages.pages.language import ENGLISH, Language
from stages.report.pairwise_comparison import PairwiseComparisons
from stages.report.runs import Run
from stages.report.verdict import Evidence
from stages.report.verdict_notes import notes
from stages.report.verdict_text import sentence
from stages.statistics.contest import Contest, read_contest
from stages.statistics.pairwise import all_pairs
from tests.support import artefacts, material

TWO = ("cat", "dog")
SIZES = {"small": 5.0, "middle": 20.0, "large": 90.0}


def table(images: int, wrong: Sequence[int]) -> Any:
    """Return predictions for `images` cats and dogs, `wrong` for these numbers."""
    actual = [TWO[number % 2] for number in range(images)]
    predicted = [TWO[(number + (number in set(wrong))) % 2] for number in range(images)]
    return artefacts.answers(actual, predicted, TWO)


def evidence(
    wrong: Mapping[str, Sequence[int]],
    images: int = 100,
    weights: Mapping[str, str] | None = None,
    folds: int = 0,
    kept: Mapping[str, str] | None = None,
    trainings: int = 0,
    measure: Measure = artefacts.MEASURE,
    **changes: Any,
) -> Evidence:
    """Return the evidence of backbones, each wrong about the numbers that `wrong` has.

    `weights` names those that are not ImageNet's, `kept` heads that are not linear ones; each was trained as often as
    `trainings` says, or as is usual; the `measure` decides. A backbone that `SIZES` names has the size given there, in
    MB, and takes as many milliseconds for an image; `changes` replace parts of the evidence.
    """
    tables = {name: table(images, numbers) for name, numbers in wrong.items()}
    runs = [
        _run(
            name,
            tables[name],
            (weights or {}).get(name, "imagenet"),
            folds,
            (kept or {}).get(name),
            trainings,
            measure,
        )
        for name in tables
    ]
    if measure.of_probabilities:
        # Runs hold predicted classes only.
        outcomes = changes.setdefault("outcomes", _by_probabilities(runs, tables, measure))
        changes.setdefault("comparisons", PairwiseComparisons(all_pairs(outcomes, 0.95), measure, 0.95))
    return material.evidence(runs, **changes)


def _by_probabilities(runs: Sequence[Run], tables: Mapping[str, pd.DataFrame], measure: Measure) -> Contest:
    test = {name: found[found["split"] == "test"] for name, found in tables.items()}
    repeats = {run.backbone: artefacts.repeats(tables[run.backbone], 1) for run in runs}
    temperatures = {run.backbone: run.metrics["temperature"] for run in runs}
    return read_contest(measure, test, artefacts.groups_of(runs[0].tested), repeats, temperatures)


def _run(name: str, answers: Any, weights: str, folds: int, kept: str | None, trainings: int, measure: Measure) -> Run:
    size = SIZES.get(name, 10.0)
    benchmark = artefacts.benchmark(size, 1000) | {"size_mb": size, "flops": int(1e9 * size)}
    usual = None if weights == "none" else "linear"
    provenance = artefacts.provenance(name, TWO, 1000, weights, kept or usual)
    return artefacts.run(name, answers, TWO, folds, trainings, measure, benchmark=benchmark, provenance=provenance)


def said(found: Evidence, language: Language = ENGLISH) -> str:
    """Return the verdict as a sentence."""
    return str(sentence(found, language))


def noted(found: Evidence) -> list[str]:
    """Return the notes beside the verdict."""
    return [str(note) for note in notes(found, ENGLISH)]


def verdict(found: Evidence) -> tuple[str, str | None]:
    """Return the kind of verdict, and the backbone to use."""
    return found.verdict.kind, found.verdict.chosen and found.verdict.chosen.backbone
