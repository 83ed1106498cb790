"""What the report's page is made of, around backbones that are made up: images, pairs, explanations."""

from pathlib import Path
from typing import Any

from stages.pages.language import ENGLISH, Language
from stages.report import explanations
from stages.report import page as report
from stages.report.page import Material
from stages.report.pairwise_comparison import Duels
from stages.report.provenance import Provenance
from stages.report.ranking_agreement import foretold
from stages.report.runs import Run, ranked
from stages.report.transfer import transfer
from stages.report.verdict import Evidence
from stages.statistics.pairwise import all_pairs
from tests.support import artefacts


def evidence(runs: list[Run], **changes: Any) -> Evidence:
    """Return what a verdict on the runs is drawn from; `changes` replace parts of it."""
    tables = {run.backbone: run.tested.assign(split="test") for run in runs}
    values = {
        "declared": list(tables),
        "duels": Duels(all_pairs(tables, 0.95, 200, artefacts.SEED), 0.95),
        "audit": artefacts.audit(),
        "source_split": False,
        "prefer": "size",
    }
    return Evidence(runs, **(values | changes))


def material(root: Path, found: Evidence, language: Language = ENGLISH, **changes: Any) -> Material:
    """Return what the page is made of, with its images below `root`; `changes` replace parts of it."""
    names = found.runs[0].tested["file"]
    artefacts.write_images(root / "raw", names)
    for number, run in enumerate(found.runs):
        artefacts.write_explanation(root / f"explanations/{number}", run.tested)
    values = {
        "transfer": transfer(ranked(list(found.runs)), found.duels, language),
        "foretold": foretold(artefacts.ranking(found.declared), found.runs, language),
        "provenance": Provenance("aa", "bb", {"train": 220, "test": 110}, 20, None, {"Python": "3.11.9"}, []),
        "explanations": {
            run.backbone: explanations.read(root / f"explanations/{number}") for number, run in enumerate(found.runs)
        },
        "raw": root / "raw",
        "paths": {name: f"images/{name}" for name in names},
        "splits": artefacts.splits(tuple(found.runs[0].classes)),
        "examples": 12,
    }
    return Material(found, **(values | changes))


def page(root: Path, found: Evidence, language: Language = ENGLISH, **changes: Any) -> str:
    """Return the page about the evidence."""
    return report.page(material(root, found, language, **changes), language)
