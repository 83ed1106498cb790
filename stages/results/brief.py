"""comparison.md: the report in short, for a pull request's comment and for Prefect's artifact."""

from stages.results.duels import Duel, signed
from stages.results.foretold import Foretold
from stages.results.heads import heads
from stages.results.language import UNKNOWN, Language
from stages.results.notes import notes, warnings
from stages.results.pages import render
from stages.results.provenance import Provenance, words
from stages.results.runs import ranked, ranked_over_folds
from stages.results.transfer import Transfer
from stages.results.tuning import tuning
from stages.results.verdict import Evidence, decide
from stages.results.wording import sentence


def markdown(
    evidence: Evidence, transfer: Transfer | None, foretold: Foretold, provenance: Provenance, language: Language
) -> str:
    """Return comparison.md."""
    verdict, ranking = decide(evidence), ranked(list(evidence.runs))
    best, duels = ranking[0].backbone, evidence.duels
    return render(
        "comparison.md.j2",
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
