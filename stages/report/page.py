"""The report that people decide from: one HTML page that needs no network."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.pages import vega
from stages.pages.language import Language
from stages.pages.templates import render
from stages.pages.thumbnails import data_uris
from stages.report import mistakes, tables
from stages.report.explanations import Explanation
from stages.report.figures import all_figures
from stages.report.figures.all_figures import Gallery
from stages.report.figures.context import Scene
from stages.report.findings import misleading
from stages.report.heads import heads
from stages.report.pairwise_comparison import matrix
from stages.report.provenance import Provenance, words
from stages.report.ranking_agreement import Foretold
from stages.report.runs import Run, ranked, ranked_over_folds
from stages.report.transfer import Transfer
from stages.report.tuning import tuning
from stages.report.verdict import Evidence, decide
from stages.report.verdict_notes import notes
from stages.report.verdict_text import sentence

# From here on a grid of all classes is too large to read, and the most frequent confusions are listed instead.
_LARGEST_GRID = 20
# Points of the map that show their image; each takes some 4 kB.
_MOST_IMAGED = 500

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Material:
    """What the page is made of.

    `explanations` has those of each backbone; `raw` is the folder of the accepted images, `paths` says where each lay
    in the source; `splits` has columns label and split; `examples` is how many mistakes of each backbone are shown.
    """

    evidence: Evidence
    transfer: Transfer | None
    foretold: Foretold
    provenance: Provenance
    explanations: Mapping[str, Explanation]
    raw: Path
    paths: Mapping[str, str]
    splits: pd.DataFrame
    examples: int


@dataclass(frozen=True)
class Section:
    """A part of the page: where a link leads, what it is called, and what it is made by."""

    anchor: str
    heading: str
    template: str


def page(material: Material, language: Language) -> str:
    """Return comparison.html."""
    evidence = material.evidence
    ranking, verdict = ranked(list(evidence.runs)), decide(evidence)
    mapped, sheets = _mapped(material, ranking[0]), _sheets(material, ranking)
    thumbnails = _thumbnails(material, sheets, mapped)
    scene = Scene(ranking, verdict.chosen.backbone if verdict.chosen else None, language)
    figures = all_figures.draw(scene, material.foretold.before, mapped, thumbnails)
    scripts = [Markup(vega.script()), Markup(render(_FOLDER / "comparison.js.j2"))]  # noqa: S704 (ours)
    return render(
        _FOLDER / "comparison.html.j2",
        language,
        sections=_sections(material, figures, language),
        verdict=verdict,
        sentence=sentence(verdict, evidence, language),
        notes=notes(verdict, evidence, language),
        findings=misleading(evidence.audit, language),
        ranking=ranking,
        places={run.backbone: place for place, run in enumerate(ranking, start=1)},
        **_tables(material, ranking, language),
        **sheets,
        thumbnails=thumbnails,
        looks=[(run, material.explanations[run.backbone].examples) for run in ranking],
        figures=figures,
        specifications=_specifications(figures, language),
        scripts=scripts,
        digests=[_digest(script) for script in scripts],
    )


def _sections(material: Material, figures: Gallery, language: Language) -> list[Section]:
    """Return the parts of the page, without those for which there is nothing."""
    runs, transfer = material.evidence.runs, material.transfer
    folds = runs[0].folds.get("count", 0)
    explained = any(explanation.examples for explanation in material.explanations.values())
    parts = [
        ("ranking.html.j2", language.say("Ranking"), True),
        ("heads.html.j2", language.say("Which head was kept"), True),
        ("pairwise_comparison.html.j2", language.say("Who beats whom"), len(runs) > 1),
        ("folds.html.j2", language.say("Over %(count)s folds", count=folds), folds),
        ("costs.html.j2", language.say("What it costs"), True),
        ("transfer.html.j2", language.say("What transfer learning bought"), transfer),
        ("transfer.html.j2", language.say("With fewer images"), figures.training_images and not transfer),
        ("tuning.html.j2", language.say("What tuning brought"), figures.tuning),
        ("ranking_agreement.html.j2", language.say("What the ranking before training foretold"), True),
        ("curves.html.j2", language.say("Learning curves"), figures.curves),
        ("confusion.html.j2", language.say("Which classes are confused"), True),
        ("recall.html.j2", language.say("Recall of each class"), True),
        ("calibration.html.j2", language.say("How far confidence can be trusted"), True),
        ("mistakes.html.j2", language.say("What is wrong"), True),
        ("heatmaps.html.j2", language.say("Where the networks look"), explained),
        ("embedding.html.j2", language.say("Which images look alike"), figures.embedding),
        ("data.html.j2", language.say("Images"), True),
        ("provenance.html.j2", language.say("Where the numbers come from"), True),
    ]
    return [
        Section(template.removesuffix(".html.j2"), str(heading), template)
        for template, heading, wanted in parts
        if wanted
    ]


def _tables(material: Material, ranking: list[Run], language: Language) -> dict[str, Any]:
    """Return what the tables are filled with, beside the numbers of each backbone."""
    duels, classes = material.evidence.duels, ranking[0].classes
    names = [run.backbone for run in ranking]
    return {
        "metrics": tables.metrics(language),
        "repeats": max(run.metrics["repeats"]["count"] for run in ranking),
        "heads": heads(ranking, language),
        "matrix": matrix(names, duels, language) if len(names) > 1 else [],
        "duels": [duels.between(*pair) for pair in combinations(names, 2)],
        "by_folds": ranked_over_folds(ranking),
        "machines": tables.machines(ranking),
        "transfer": material.transfer,
        "gains": material.transfer and {row.run.backbone: row.duel for row in material.transfer.rows},
        "tuning": tuning(ranking, language),
        "foretold": material.foretold,
        "shares": tables.training_shares(ranking),
        "classes": classes,
        "grids": [(run, tables.grid(run)) for run in ranking] if len(classes) <= _LARGEST_GRID else [],
        "confusions": [(run, tables.most_confused(run)) for run in ranking],
        "images": tables.images(material.splits, classes),
        "audit": material.evidence.audit,
        "provenance": words(material.provenance, ranking, language),
    }


def _sheets(material: Material, ranking: list[Run]) -> dict[str, Any]:
    """Return what is wrong: by all backbones, and by each."""
    paths, most = material.paths, material.examples
    return {
        "wrong_by_all": mistakes.of_all(ranking, paths, most),
        "mistakes": [(run, mistakes.of_backbone(run, paths, most)) for run in ranking],
    }


def _mapped(material: Material, run: Run) -> pd.DataFrame:
    """Return the test images that have a place on the backbone's map, with what was predicted."""
    places = material.explanations[run.backbone].places
    return places[["file", "x", "y"]].merge(run.tested, on="file", validate="one_to_one")


def _thumbnails(material: Material, sheets: Mapping[str, Any], mapped: pd.DataFrame) -> dict[str, str]:
    """Return small copies of the images on the sheets, and of those on the map as far as there is room.

    By their file. What is wrong comes first on the map, too.
    """
    shown = [sheets["wrong_by_all"], *(sheet for _, sheet in sheets["mistakes"])]
    right = (mapped["label"] == mapped["predicted"]).to_numpy()
    imaged = mapped["file"].iloc[right.argsort(kind="stable")][:_MOST_IMAGED]
    names = {mistake.file for sheet in shown for mistake in sheet.shown}.union(imaged)
    found = data_uris((material.raw / name for name in names), "thumbnails")
    return {str(path.relative_to(material.raw)): address for path, address in found.items()}


def _specifications(figures: Gallery, language: Language) -> Markup:
    """Return what the page's script draws from, as JSON in which no text can end the element that holds it."""
    value = {
        "config": vega.config(language),
        "specifications": {figure.name: figure.specification for figure in figures},
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 (JSON without any <)


def _digest(script: str) -> str:
    """Return what the page's policy allows a script by: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
