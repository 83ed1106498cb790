"""How well the ranking before training predicted the result: data/ranking.csv beside the final test accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.intervals import Interval
from stages.pages.language import Language, Names, Text
from stages.report.heads import LINEAR
from stages.report.published import Published, published
from stages.report.runs import Run

# Columns of data/ranking.csv that hold numbers, or nothing.
NUMBERS = ("rank", "accuracy", "low", "high", "logme")
# With fewer there is no order to speak of.
_FEWEST = 3


@dataclass(frozen=True)
class Row:
    """One backbone before and after training; None for what is missing.

    `rank`, `accuracy` with its `interval`, `logme` and `rank_by_logme` are those before training, without test
    images; `final` is the test accuracy and `final_rank` the rank by it. `parameters` (those of the classifier) and
    `published` are known without any image.
    """

    backbone: str
    rank: int | None
    accuracy: float | None
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

    @property
    def before(self) -> dict[str, tuple[float, Interval]]:
        """The probe's accuracy and its interval of each backbone that has them."""
        return {
            row.backbone: (row.accuracy, row.interval)
            for row in self.rows
            if row.accuracy is not None and row.interval is not None
        }


def ranking_agreement(table: pd.DataFrame, ranking: Sequence[Run], language: Language) -> RankingAgreement:
    """Return how data/ranking.csv compares with the final `ranking`, the best first; both have the same backbones."""
    final = {run.backbone: (run, place) for place, run in enumerate(ranking, start=1)}
    by_logme = table["logme"].rank(ascending=False, method="min")
    rows = [_row(row, place, final) for row, place in zip(table.itertuples(), by_logme, strict=True)]
    return RankingAgreement(
        rows,
        [
            *_agreement(rows, language),
            *_baselines(rows, language),
            *_unranked(rows, language),
            *_same_heads(ranking, language),
        ],
    )


def _row(row: Any, rank_by_logme: float, final: Mapping[str, tuple[Run, int]]) -> Row:
    run, rank = final[row.backbone]
    ranked_before = not pd.isna(row.rank)
    return Row(
        backbone=row.backbone,
        rank=int(row.rank) if ranked_before else None,
        accuracy=float(row.accuracy) if ranked_before else None,
        interval=Interval(row.low, row.high) if ranked_before else None,
        logme=float(row.logme) if ranked_before else None,
        rank_by_logme=int(rank_by_logme) if ranked_before else None,
        final=run.metrics["accuracy"],
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


def _agreement(rows: list[Row], language: Language) -> list[Text]:
    """Return how well each score before training agrees with test accuracy, over the backbones that have both."""
    both = [row for row in rows if row.rank is not None]
    if len(both) < _FEWEST:
        return [
            language.say(
                "How well the ranking before training predicted the result is unknown: fewer than %(fewest)s backbones "
                "were ranked.",
                fewest=_FEWEST,
            )
        ]
    final = [row.final for row in both]
    by_probe = tau([row.accuracy for row in both if row.accuracy is not None], final)
    by_logme = tau([row.logme for row in both if row.logme is not None], final)
    if by_probe is None or by_logme is None:
        return [
            language.say("How well the ranking before training predicted the result is unknown: all scores are equal.")
        ]
    return [
        language.say(
            "Kendall's tau-b over %(count)s backbones: %(probe)s between probe accuracy and test accuracy "
            "(%(p_probe)s), %(logme)s between LogME and test accuracy (%(p_logme)s).",
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


def _baselines(rows: list[Row], language: Language) -> list[Text]:
    """Return how well two scores that cost nothing agree with test accuracy: size, and published accuracy.

    On 12 data sets ImageNet accuracy correlated with that after transfer at 0.96 to 0.99 (Kornblith et al. 2019,
    https://arxiv.org/abs/1805.08974); on six of practical tasks better networks were not consistently better (Fang et
    al. 2023, https://arxiv.org/abs/2301.04644).
    """
    ranked = [row for row in rows if row.rank is not None]
    known = [row for row in ranked if row.published]
    size = _tau([row.parameters for row in ranked], ranked)
    accuracy = _tau([row.published.accuracy for row in ranked if row.published], known)
    probe = _tau([row.accuracy for row in known if row.accuracy is not None], known)
    texts = []
    if size:
        texts.append(
            language.say(
                "Without looking at any image: %(tau)s between the number of parameters and test accuracy (%(p)s).",
                tau=language.number(size[0], 2),
                p=language.p_value(size[1]),
            )
        )
    if accuracy and probe:
        texts.append(
            language.say(
                "%(tau)s between published ImageNet accuracy and test accuracy (%(p)s) over the %(count)s backbones "
                "with published weights; over these, probe accuracy has %(probe)s.",
                tau=language.number(accuracy[0], 2),
                p=language.p_value(accuracy[1]),
                count=len(known),
                probe=language.number(probe[0], 2),
            )
        )
    return texts


def _tau(scores: Sequence[float], rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return `tau` of scores and the final accuracies of `rows`; None for too few of them."""
    return tau(scores, [row.final for row in rows]) if len(rows) >= _FEWEST else None


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
