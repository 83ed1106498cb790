"""comparison.md: the report in short, for a pull request's comment and for Prefect's artifact."""

from pathlib import Path

from stages.pages.language import UNKNOWN, Language
from stages.pages.templates import render
from stages.report.heads import heads
from stages.report.pairwise_comparison import Duel, signed
from stages.report.provenance import Provenance, words
from stages.report.ranking_agreement import Foretold
from stages.report.runs import ranked, ranked_over_folds
from stages.report.transfer import Transfer
from stages.report.tuning import tuning
from stages.report.verdict import Evidence, decide
from stages.report.verdict_notes import notes, warnings
from stages.report.verdict_text import sentence


def markdown(
    evidence: Evidence, transfer: Transfer | None, foretold: Foretold, provenance: Provenance, language: Language
) -> str:
    """Return comparison.md."""
    verdict, ranking = decide(evidence), ranked(list(evidence.runs))
    best, duels = ranking[0].backbone, evidence.duels
    return render(
        Path(__file__).with_name("comparison.md.j2"),
        language,
        verdict=sentence(verdict, evidence, language),
        notes=notes(verdict, evidence, language),
        findings=warnings(evidence, language),
        ranking=ranking,
        behind=[_points(None if run is ranking[0] else duels.between(run.backbone, best), language) for run in ranking],
        heads=heads(ranking, language),
        by_folds=ranked_over_folds(ranking),
        transfer=transfer,
        foretold=foretold,
        gained=[_points(row.duel, language) for row in transfer.rows] if transfer else [],
        tuning=tuning(ranking, language),
        provenance=words(provenance, ranking, language),
    )


def _points(duel: Duel | None, language: Language) -> str:
    """Return how many points one backbone has more than another, in bold where it is significant."""
    if duel is None:
        return UNKNOWN
    points = signed(duel.difference, language)
    return points if duel.outcome == "open" else f"**{points}**"
