"""How well the ranking before training predicted the result: data/ranking.csv beside the final test accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.intervals import Interval
from stages.core.measure import Measure
from stages.core.settings.report import ACCURACY
from stages.pages.language import Language, Names, Text
from stages.report.heads import LINEAR
from stages.report.measure_text import display_name
from stages.report.published import Published, published
from stages.report.runs import Run

# Columns of data/ranking.csv that hold numbers, or nothing, beside that of the measure.
NUMBERS = ("rank", "low", "high", "logme")
# With fewer there is no order to speak of.
_FEWEST = 3


@dataclass(frozen=True)
class Row:
    """One backbone before and after training; None for what is missing.

    `rank`, `value`, that of the measure, with its `interval`, `logme` and `rank_by_logme` are those before training,
    without test images; `final` is the value on the test images and `final_rank` the rank by it. `parameters` (those of
    the classifier) and `published` are known without any image.
    """

    backbone: str
    rank: int | None
    value: float | None
    interval: Interval | None
    logme: float | None
    rank_by_logme: int | None
    final: float
    final_rank: int
    random: bool
    parameters: int
    published: Published | None


@dataclass(frozen=True)
class RankingAgreement:
    """A row for each backbone, the best before training first, and the text."""

    rows: list[Row]
    sentences: list[Text]
    measure: Measure

    @property
    def before(self) -> dict[str, tuple[float, Interval]]:
        """The probe's accuracy and its interval of each backbone that has them; none where another measure decides."""
        return {
            row.backbone: (row.value, row.interval)
            for row in self.rows
            if row.value is not None and row.interval is not None and self.measure.name == ACCURACY
        }


def ranking_agreement(
    table: pd.DataFrame, ranking: Sequence[Run], measure: Measure, language: Language
) -> RankingAgreement:
    """Return how data/ranking.csv compares with the final `ranking`, the best first; both have the same backbones."""
    final = {run.backbone: (run, place) for place, run in enumerate(ranking, start=1)}
    table = table.assign(value=table[measure.key])
    by_logme = table["logme"].rank(ascending=False, method="min")
    rows = [_row(row, place, final) for row, place in zip(table.itertuples(), by_logme, strict=True)]
    return RankingAgreement(
        rows,
        [
            *_agreement(rows, measure, language),
            *_baselines(rows, measure, language),
            *_unranked(rows, language),
            *_same_heads(ranking, language),
        ],
        measure,
    )


def _row(row: Any, rank_by_logme: float, final: Mapping[str, tuple[Run, int]]) -> Row:
    run, rank = final[row.backbone]
    ranked_before = not pd.isna(row.rank)
    return Row(
        backbone=row.backbone,
        rank=int(row.rank) if ranked_before else None,
        value=float(row.value) if ranked_before else None,
        interval=Interval(row.low, row.high) if ranked_before else None,
        logme=float(row.logme) if ranked_before else None,
        rank_by_logme=int(rank_by_logme) if ranked_before else None,
        final=run.value,
        final_rank=rank,
        random=row.weights == "random",
        parameters=run.provenance["parameters"],
        published=published(run),
    )


def tau(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    """Return Kendall's tau-b of two sets of scores and its two-sided p-value; None where one set is all equal.

    Of all pairs of backbones, those in the same order minus those in the reverse, as a fraction, corrected for ties:
    1 for the same order, 0 for unrelated ones. Kendall 1945, "The treatment of ties in ranking problems",
    Biometrika 33.
    """
    from scipy.stats import kendalltau

    if min(len(set(before)), len(set(after))) == 1:
        return None
    found = kendalltau(before, after, variant="b")
    return float(found.statistic), float(found.pvalue)


def _agreement(rows: list[Row], measure: Measure, language: Language) -> list[Text]:
    """Return how well each score before training agrees with that on the test images, over those that have both."""
    both = [row for row in rows if row.rank is not None]
    if len(both) < _FEWEST:
        return [
            language.say(
                "How well the ranking before training predicted the result is unknown: fewer than %(fewest)s backbones "
                "were ranked.",
                fewest=_FEWEST,
            )
        ]
    final = [measure.sign * row.final for row in both]
    by_probe = tau([measure.sign * row.value for row in both if row.value is not None], final)
    by_logme = tau([row.logme for row in both if row.logme is not None], final)
    if by_probe is None or by_logme is None:
        return [
            language.say("How well the ranking before training predicted the result is unknown: all scores are equal.")
        ]
    return [
        language.say(
            "Kendall's tau-b over %(count)s backbones: %(probe)s between probe %(measure)s and test "
            "%(measure)s (%(p_probe)s), %(logme)s between LogME and test %(measure)s (%(p_logme)s).",
            measure=display_name(measure, language),
            count=len(both),
            probe=language.number(by_probe[0], 2),
            p_probe=language.p_value(by_probe[1]),
            logme=language.number(by_logme[0], 2),
            p_logme=language.p_value(by_logme[1]),
        ),
        language.say(
            "1 is the same order, 0 an unrelated one, -1 the reverse. With so few backbones it is uncertain: p is "
            "how often unrelated orders agree, or disagree, as much.",
        ),
    ]


def _baselines(rows: list[Row], measure: Measure, language: Language) -> list[Text]:
    """Return how well two scores that cost nothing agree with the result: size, and published accuracy.

    On 12 data sets ImageNet accuracy correlated with that after transfer at 0.96 to 0.99 (Kornblith et al. 2019,
    https://arxiv.org/abs/1805.08974); on six of practical tasks better networks were not consistently better (Fang et
    al. 2023, https://arxiv.org/abs/2301.04644).
    """
    ranked = [row for row in rows if row.rank is not None]
    known = [row for row in ranked if row.published]
    size = _tau([row.parameters for row in ranked], ranked, measure)
    accuracy = _tau([row.published.accuracy for row in ranked if row.published], known, measure)
    probe = _tau([measure.sign * row.value for row in known if row.value is not None], known, measure)
    texts = []
    if size:
        texts.append(
            language.say(
                "Without looking at any image: %(tau)s between the number of parameters and test %(measure)s (%(p)s).",
                measure=display_name(measure, language),
                tau=language.number(size[0], 2),
                p=language.p_value(size[1]),
            )
        )
    if accuracy and probe:
        texts.append(
            language.say(
                "%(tau)s between published ImageNet accuracy and test %(measure)s (%(p)s) over the %(count)s backbones "
                "with published weights; over these, probe %(measure)s has %(probe)s.",
                measure=display_name(measure, language),
                tau=language.number(accuracy[0], 2),
                p=language.p_value(accuracy[1]),
                count=len(known),
                probe=language.number(probe[0], 2),
            )
        )
    return texts


def _tau(scores: Sequence[float], rows: Sequence[Row], measure: Measure) -> tuple[float, float] | None:
    """Return `tau` of scores and the final values of `rows`, higher for better ones; None for too few of them."""
    return tau(scores, [measure.sign * row.final for row in rows]) if len(rows) >= _FEWEST else None


def _unranked(rows: list[Row], language: Language) -> list[Text]:
    names = tuple(row.backbone for row in rows if row.rank is None)
    if not names:
        return []
    return [
        language.say(
            "Without frozen features there is nothing to rank by before training, so tau leaves out %(names)s.",
            names=Names(names),
        )
    ]


def _same_heads(ranking: Sequence[Run], language: Language) -> list[Text]:
    """Return which backbones kept the kind of head that they were ranked by."""
    names = tuple(run.backbone for run in ranking if run.kept == LINEAR)
    if not names:
        return []
    return [
        language.say(
            "The ranking before training is by linear heads, which %(names)s kept: there only the images differ before "
            "and after.",
            names=Names(names),
        )
    ]
