"""comparison.md: the report in short, for a pull request's comment and for Prefect's artifact."""

from pathlib import Path

from stages.core.measure import Measure
from stages.pages.language import UNKNOWN, Language
from stages.pages.templates import render
from stages.report.heads import heads, selected
from stages.report.measure_text import Deciding
from stages.report.notes.load import under_load
from stages.report.notes.outlook import outlook_text
from stages.report.opening import about, headline, next_step, warning
from stages.report.page import Material
from stages.report.pairwise_comparison import Comparison, signed
from stages.report.provenance import sentences
from stages.report.tuning import tuning
from stages.report.verdict import Evidence
from stages.report.verdict_notes import notes, warnings


def markdown(material: Material, language: Language) -> str:
    """Return comparison.md."""
    evidence, transfer = material.evidence, material.transfer
    return render(
        Path(__file__).with_name("comparison.md.j2"),
        language,
        verdict=headline(evidence, material.setting, language),
        about=about(evidence, material.setting, material.provenance.commit, language),
        warning=warning(material.setting, language),
        step=next_step(evidence, material.setting, language),
        notes=notes(evidence, language),
        findings=warnings(evidence, language),
        ranking=evidence.ranking,
        under_load=under_load(evidence.ranking),
        deciding=Deciding(evidence.measure, language),
        behind=_behind(evidence, language),
        heads=heads(evidence.ranking, evidence.measure, language),
        by_folds=evidence.ranking_over_folds,
        selected=selected(evidence.ranking),
        transfer=transfer,
        outlook=outlook_text(evidence.verdict.subject, evidence.ranking, language, quick=material.setting.quick),
        ranking_agreement=material.ranking_agreement,
        gained=[_points(row.comparison, evidence.measure, language) for row in transfer.rows] if transfer else [],
        tuning=tuning(evidence.ranking, language),
        provenance=sentences(material.provenance, evidence.ranking, language),
    )


def _behind(evidence: Evidence, language: Language) -> list[str]:
    """Return how much better each backbone is than the best, at most 0, in the order of the ranking."""
    best, *others = (run.backbone for run in evidence.ranking)
    measure = evidence.measure
    return [UNKNOWN, *(_points(evidence.comparisons.between(other, best), measure, language) for other in others)]


def _points(comparison: Comparison | None, measure: Measure, language: Language) -> str:
    """Return how much better one backbone is than another, in bold where it is significant."""
    if comparison is None:
        return UNKNOWN
    points = signed(comparison.difference, measure, language)
    return points if comparison.outcome == "open" else f"**{points}**"
