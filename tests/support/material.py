"""What the report's page is made of, around backbones that are made up: images, pairs, explanations."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.measure import Measure
from stages.pages.language import ENGLISH, Language
from stages.report import page as report
from stages.report.examples import read_explanation
from stages.report.opening import Setting
from stages.report.page import Material
from stages.report.pairwise_comparison import PairwiseComparisons
from stages.report.provenance import Provenance
from stages.report.ranking_agreement import ranking_agreement
from stages.report.runs import Run
from stages.report.transfer import transfer
from stages.report.verdict import Evidence
from stages.statistics.pairwise import all_pairs
from tests.support import artefacts


def evidence(runs: list[Run], **changes: Any) -> Evidence:
    """Return what a verdict on the runs is drawn from; `changes` replace parts of it, and `groups` those of images."""
    outcomes = changes.pop("outcomes", None) or artefacts.outcomes(runs)
    measure = Measure(runs[0].metrics["measure"]["name"])
    if groups := changes.pop("groups", None):
        outcomes = replace(outcomes, groups=groups)
    values = {
        "declared": list(outcomes.names),
        "outcomes": outcomes,
        "comparisons": PairwiseComparisons(all_pairs(outcomes, 0.95), measure, 0.95),
        "audit": artefacts.audit(),
        "source_split": False,
        "margin": 0.02,
        "prefer": "size",
        "resamples": 200,
        "seed": artefacts.SEED,
    }
    return Evidence(runs, **(values | changes))


def numbers(found: Evidence, language: Language = ENGLISH, **changes: Any) -> Material:
    """Return what the report is made of, without any images; `changes` replace parts of it."""
    values = {
        "transfer": transfer(found.ranking, found.comparisons, language),
        "ranking_agreement": ranking_agreement(
            artefacts.ranking(found.declared).assign(**{found.measure.key: lambda rows: rows["accuracy"]}),
            found.ranking,
            found.measure,
            language,
        ),
        "provenance": Provenance("aa", "bb", {"train": 220, "test": 110}, 20, None, {"Python": "3.11.9"}, []),
        "explanations": {},
        "raw": Path(),
        "paths": {},
        "splits": pd.DataFrame(),
        "examples": 0,
        "setting": Setting("poses", "full"),
    }
    return Material(found, **(values | changes))


def material(root: Path, found: Evidence, language: Language = ENGLISH, **changes: Any) -> Material:
    """Return what the page is made of, with its images below `root`; `changes` replace parts of it."""
    names = found.runs[0].tested["file"]
    artefacts.write_images(root / "raw", names)
    for number, run in enumerate(found.runs):
        artefacts.write_explanation(root / f"explanations/{number}", run.tested)
    values = {
        "explanations": {
            run.backbone: read_explanation(root / f"explanations/{number}") for number, run in enumerate(found.runs)
        },
        "raw": root / "raw",
        "paths": {name: f"images/{name}" for name in names},
        "splits": artefacts.splits(tuple(found.runs[0].classes)),
        "examples": 12,
    }
    return replace(numbers(found, language), **(values | changes))


def page(root: Path, found: Evidence, language: Language = ENGLISH, **changes: Any) -> str:
    """Return the page about the evidence."""
    return report.page(material(root, found, language, **changes), language)
