"""comparison.html: the report that people decide from, in one self-contained page."""

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
from stages.report import tables
from stages.report.examples import Explanation, labels_doubtful, mistakes_of, mistakes_of_all
from stages.report.figures import all_figures
from stages.report.figures.all_figures import Gallery
from stages.report.figures.context import FigureContext
from stages.report.findings import misleading
from stages.report.heads import heads, selected
from stages.report.measure_text import Deciding
from stages.report.notes.inputs import declared_inputs
from stages.report.notes.load import under_load
from stages.report.notes.outlook import outlook_text
from stages.report.opening import Setting, about, headline, next_step, warning
from stages.report.pairwise_comparison import matrix
from stages.report.provenance import Provenance, sentences
from stages.report.ranking_agreement import RankingAgreement
from stages.report.runs import Run
from stages.report.transfer import Transfer
from stages.report.tuning import tuning
from stages.report.verdict import Evidence
from stages.report.verdict_notes import notes
from stages.statistics.paired import POWER, min_discordant_pairs
from stages.statistics.resampled import IMAGES_FOR_F1

# With more classes a grid of all is too large to read, and the most frequent confusions are listed instead.
_LARGEST_GRID = 20
# Points of the map that show their image; each takes some 4 kB.
_MOST_IMAGED = 500

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Material:
    """What the report is made of, the page and its summary.

    `explanations` has those of each backbone; `raw` is the folder of the accepted images, `paths` says where each lay
    in the source; `splits` has columns label and split; `examples` is how many mistakes of each backbone are shown;
    `setting` is what the first screen names of params.yaml.
    """

    evidence: Evidence
    transfer: Transfer | None
    ranking_agreement: RankingAgreement
    provenance: Provenance
    explanations: Mapping[str, Explanation]
    raw: Path
    paths: Mapping[str, str]
    splits: pd.DataFrame
    examples: int
    setting: Setting


@dataclass(frozen=True)
class Section:
    """A section of the page: the anchor of links to it, its heading and its template."""

    anchor: str
    heading: str
    template: str


def page(material: Material, language: Language) -> str:
    """Return comparison.html."""
    evidence = material.evidence
    ranking, verdict = evidence.ranking, evidence.verdict
    mapped, sheets = _mapped(material, ranking[0]), _sheets(material)
    thumbnails = _thumbnails(material, sheets, mapped)
    context = FigureContext(ranking, verdict.chosen.backbone if verdict.chosen else None, language)
    figures = all_figures.draw(
        context, evidence.ranking_over_folds, material.ranking_agreement.before, mapped, thumbnails
    )
    scripts = [Markup(vega.script()), Markup(render(_FOLDER / "comparison.js.j2"))]  # noqa: S704 (ours)
    return render(
        _FOLDER / "comparison.html.j2",
        language,
        sections=_sections(material, figures, language),
        verdict=verdict,
        sentence=headline(evidence, material.setting, language),
        about=about(evidence, material.setting, material.provenance.commit, language),
        warning=warning(material.setting, language),
        step=next_step(evidence, material.setting, language),
        notes=notes(evidence, language),
        findings=misleading(evidence.audit, language),
        ranking=ranking,
        places={run.backbone: place for place, run in enumerate(ranking, start=1)},
        **_tables(material, language),
        **sheets,
        thumbnails=thumbnails,
        heatmaps=[(run, material.explanations[run.backbone].examples) for run in ranking],
        figures=figures,
        specifications=_specifications(figures, language),
        scripts=scripts,
        digests=[_digest(script) for script in scripts],
    )


def _sections(material: Material, figures: Gallery, language: Language) -> list[Section]:
    """Return the sections of the page, without the empty ones."""
    runs, transfer = material.evidence.runs, material.transfer
    folds = runs[0].folds.get("count", 0)
    explained = any(explanation.examples for explanation in material.explanations.values())
    sections = [
        ("ranking.html.j2", language.say("Ranking"), True),
        ("heads.html.j2", language.say("Which head was kept"), True),
        ("pairwise_comparison.html.j2", language.say("Pairwise comparisons"), len(runs) > 1),
        ("folds.html.j2", language.say("Over %(count)s folds", count=folds), folds),
        ("costs.html.j2", language.say("Costs"), True),
        ("transfer.html.j2", language.say("Gain by transfer learning"), transfer),
        ("transfer.html.j2", language.say("With fewer and with more images"), figures.training_images and not transfer),
        ("tuning.html.j2", language.say("Gain by hyperparameter search"), figures.tuning),
        ("ranking_agreement.html.j2", language.say("How well the ranking predicted the result"), True),
        ("curves.html.j2", language.say("Learning curves"), figures.curves),
        ("confusion.html.j2", language.say("Which classes are confused"), True),
        ("recall.html.j2", language.say("Images and recall of each class"), True),
        ("calibration.html.j2", language.say("How far confidence can be trusted"), True),
        ("mistakes.html.j2", language.say("Mistakes"), True),
        ("heatmaps.html.j2", language.say("Heatmaps: where the networks look"), explained),
        ("embedding.html.j2", language.say("Which images look alike"), figures.embedding),
        ("data.html.j2", language.say("Images"), True),
        ("provenance.html.j2", language.say("Where the numbers come from"), True),
        ("glossary.html.j2", language.say("Glossary"), True),
    ]
    return [
        Section(template.removesuffix(".html.j2"), str(heading), template)
        for template, heading, wanted in sections
        if wanted
    ]


def _tables(material: Material, language: Language) -> dict[str, Any]:
    """Return what the tables are filled with, beside the numbers of each backbone."""
    ranking, comparisons = material.evidence.ranking, material.evidence.comparisons
    classes = ranking[0].classes
    names = [run.backbone for run in ranking]
    return {
        "metrics": tables.metrics(language),
        "deciding": Deciding(material.evidence.measure, language),
        "detects": material.evidence.detects,
        "repeats": max(run.metrics["repeats"]["count"] for run in ranking),
        "heads": heads(ranking, material.evidence.measure, language),
        "power": POWER,
        "images_for_f1": IMAGES_FOR_F1,
        "least_significant": min_discordant_pairs(1 - comparisons.confidence) / ranking[0].metrics["test_images"],
        "matrix": matrix(names, comparisons, language) if len(names) > 1 else [],
        "comparisons": [comparisons.between(*pair) for pair in combinations(names, 2)],
        "by_folds": material.evidence.ranking_over_folds,
        "selected": selected(ranking),
        "machines": tables.machines(ranking),
        "under_load": under_load(ranking),
        "transfer": material.transfer,
        "gains": material.transfer and {row.run.backbone: row.comparison for row in material.transfer.rows},
        "tuning": tuning(ranking, language),
        "ranking_agreement": material.ranking_agreement,
        "shares": tables.training_shares(ranking),
        "outlook": outlook_text(material.evidence.verdict.subject, ranking, language, quick=material.setting.quick),
        "classes": classes,
        "grids": [(run, tables.grid(run)) for run in ranking] if len(classes) <= _LARGEST_GRID else [],
        "confusions": [(run, tables.most_confused(run)) for run in ranking],
        "images": tables.images(material.splits, classes),
        "few_tested": tables.few_tested(ranking[0]),
        "fewest": tables.FEW_TESTED,
        "audit": material.evidence.audit,
        "provenance": sentences(material.provenance, ranking, language),
        "declared_inputs": declared_inputs,
    }


def _sheets(material: Material) -> dict[str, Any]:
    """Return the mistakes: those of all backbones, and those of each."""
    ranking, paths, most = material.evidence.ranking, material.paths, material.examples
    wrong_by_all = mistakes_of_all(ranking, paths, most)
    return {
        "wrong_by_all": wrong_by_all,
        "labels_doubtful": labels_doubtful(ranking, wrong_by_all.count),
        "mistakes": [(run, mistakes_of(run, paths, most)) for run in ranking],
    }


def _mapped(material: Material, run: Run) -> pd.DataFrame:
    """Return the test images that have a place on the backbone's map, with what was predicted."""
    places = material.explanations[run.backbone].places
    return places[["file", "x", "y"]].merge(run.tested, on="file", validate="one_to_one")


def _thumbnails(material: Material, sheets: Mapping[str, Any], mapped: pd.DataFrame) -> dict[str, str]:
    """Return thumbnails, by file: of all images on the sheets, and of the first `_MOST_IMAGED` on the map.

    There, too, mistakes come first.
    """
    shown = [sheets["wrong_by_all"], *(sheet for _, sheet in sheets["mistakes"])]
    right = (mapped["label"] == mapped["predicted"]).to_numpy()
    imaged = mapped["file"].iloc[right.argsort(kind="stable")][:_MOST_IMAGED]
    names = {mistake.file for sheet in shown for mistake in sheet.shown}.union(imaged)
    found = data_uris((material.raw / name for name in names), "thumbnails")
    return {str(path.relative_to(material.raw)): url for path, url in found.items()}


def _specifications(figures: Gallery, language: Language) -> Markup:
    """Return what the page's script draws from, as JSON in which no text can close the element that holds it."""
    value = {
        "config": vega.config(language),
        "specifications": {figure.name: figure.specification for figure in figures},
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 (JSON without any <)


def _digest(script: str) -> str:
    """Return the digest by which the page's policy allows a script: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
