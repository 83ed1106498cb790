"""The text of the verdict: one sentence with its reason."""

import math
from collections.abc import Callable, Mapping
from functools import reduce

from stages.core.settings.report import Prefer
from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.runs import Run
from stages.report.verdict import TOO_COARSE, Evidence, Kind, cost, leaked, missing, random

# From this ratio on a cost is "N times smaller", below it "N % smaller".
_TWICE = 2


def sentence(evidence: Evidence, language: Language) -> Text:
    """Return the verdict as one sentence."""
    return _SENTENCES[evidence.verdict.kind](evidence, language)


def _unusable(evidence: Evidence, language: Language) -> Text:
    reasons = reduce(
        lambda first, second: language.say("%(first)s; %(second)s", first=first, second=second),
        objections(evidence, language),
    )
    return language.say("These numbers must not be used to choose: %(reasons)s.", reasons=reasons)


def objections(evidence: Evidence, language: Language) -> list[Text]:
    """Return why these numbers must not be used to choose, none where they may; each is a part of a sentence."""
    found = []
    if names := missing(evidence):
        found.append(language.say("there are no results of %(names)s", names=Names(tuple(names))))
    if count := sum(map(len, random(evidence).values())):
        found.append(
            language.say_plural(
                "%(count)s of %(all)s backbones carries random weights",
                "%(count)s of %(all)s backbones carry random weights",
                count,
                all=len(evidence.runs),
            )
        )
    if images := leaked(evidence):
        found.append(
            language.say_plural(
                "%(count)s image has a copy on another side of the source's own split",
                "%(count)s images have a copy on another side of the source's own split",
                images,
            )
        )
    return found


def _alone(evidence: Evidence, language: Language) -> Text:
    best = evidence.verdict.best
    return language.say(
        "%(best)s is the only backbone measured, so there is nothing to choose from: it is right on %(score)s.",
        best=Name(best.backbone),
        score=score(best, language),
    )


def _too_few(evidence: Evidence, language: Language) -> Text:
    verdict = evidence.verdict
    images = verdict.best.metrics["test_images"]
    values: dict[str, Value] = {
        "images": language.number(images),
        "needed": language.number(math.ceil(verdict.smallest * images / TOO_COARSE)),
        "coarse": language.number(100 * TOO_COARSE),
    }
    if verdict.smallest > 1:
        return language.say(
            "Nothing can be chosen with this test set of %(images)s images, which is too small to show any "
            "difference; %(needed)s would show differences of %(coarse)s points.",
            **values,
        )
    return language.say(
        "Nothing can be chosen with this test set of %(images)s images, which could only show differences of "
        "%(points)s points or more; %(needed)s would show differences of %(coarse)s points.",
        points=language.points(verdict.smallest),
        **values,
    )


def _winner(evidence: Evidence, language: Language) -> Text:
    best, following = evidence.ranking[:2]
    return language.say_plural(
        "Use %(best)s: it is significantly better than %(next)s, by %(points)s points on %(images)s test images.",
        "Use %(best)s: it is significantly better than each of the %(count)s other backbones, %(points)s points ahead "
        "of %(next)s, the next best, on %(images)s test images.",
        len(evidence.runs) - 1,
        best=Name(best.backbone),
        next=Name(following.backbone),
        points=language.points(best.metrics["accuracy"] - following.metrics["accuracy"]),
        images=language.number(best.metrics["test_images"]),
    )


def _ahead(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(best)s: no other backbone has a higher accuracy, and each is worse by more than chance explains, "
        "though not all of them after the Holm correction for %(pairs)s pairs.",
        best=Name(evidence.verdict.best.backbone),
        pairs=len(evidence.comparisons),
    )


def _best_and_cheapest(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(best)s: no other backbone has a higher accuracy, and it %(cheapest)s of the %(count)s backbones that "
        "are statistically tied on this test set of %(images)s images (which could show differences of %(points)s "
        "points or more).",
        cheapest=_cheapest(evidence.prefer, language),
        count=len(evidence.verdict.candidates),
        **_resolution(evidence, language),
    )


def _as_good(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(chosen)s: no other backbone has a higher accuracy, and it %(cheaper)s %(best)s, which has the same "
        "accuracy on this test set of %(images)s images (which could show differences of %(points)s points or more).",
        **_cheaper(evidence, language),
    )


def _cheaper_one(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(chosen)s: no other backbone is significantly better, and it %(cheaper)s the best-scoring %(best)s, with "
        "which it is statistically tied on this test set of %(images)s images (which could show differences of "
        "%(points)s points or more).",
        **_cheaper(evidence, language),
    )


_SENTENCES: Mapping[Kind, Callable[[Evidence, Language], Text]] = {
    "unusable": _unusable,
    "alone": _alone,
    "too few": _too_few,
    "winner": _winner,
    "ahead": _ahead,
    "best and cheapest": _best_and_cheapest,
    "as good": _as_good,
    "cheaper": _cheaper_one,
}


def _resolution(evidence: Evidence, language: Language) -> dict[str, Value]:
    verdict = evidence.verdict
    return {
        "best": Name(verdict.best.backbone),
        "images": language.number(verdict.best.metrics["test_images"]),
        "points": language.points(verdict.smallest),
    }


def _cheaper(evidence: Evidence, language: Language) -> dict[str, Value]:
    """Return the parts of a sentence about a choice that costs less than the best-scoring one."""
    verdict = evidence.verdict
    assert verdict.chosen
    cheaper = cost_ratio_text(verdict.chosen, verdict.best, evidence.prefer, language)
    return {"chosen": Name(verdict.chosen.backbone), "cheaper": cheaper, **_resolution(evidence, language)}


def cost_ratio_text(cheap: Run, dear: Run, prefer: Prefer, language: Language) -> Text:
    """Return by how much the first costs less, as the middle of a sentence: "is 9 times smaller than"."""
    low, high = cost(cheap, prefer), cost(dear, prefer)
    if math.isinf(high) or not low:
        return language.say("is of known cost, unlike")
    if high < _TWICE * low:
        share = language.percent(1 - low / high, 0)
        return {
            "size": language.say("is %(share)s smaller than", share=share),
            "latency": language.say("takes %(share)s less time than", share=share),
            "flops": language.say("needs %(share)s fewer operations than", share=share),
        }[prefer]
    factor = language.factor(high / low)
    return {
        "size": language.say("is %(factor)s times smaller than", factor=factor),
        "latency": language.say("is %(factor)s times faster than", factor=factor),
        "flops": language.say("needs %(factor)s times fewer operations than", factor=factor),
    }[prefer]


def _cheapest(prefer: Prefer, language: Language) -> Text:
    return {
        "size": language.say("is the smallest"),
        "latency": language.say("is the fastest"),
        "flops": language.say("needs the fewest operations"),
    }[prefer]


def score(run: Run, language: Language) -> Text:
    """Return the accuracy of a backbone with its interval, as a part of a sentence."""
    return language.say(
        "%(accuracy)s of %(images)s test images (%(confidence)s confidence interval %(low)s to %(high)s)",
        accuracy=language.percent(run.metrics["accuracy"]),
        images=language.number(run.metrics["test_images"]),
        confidence=language.share(run.metrics["confidence"]),
        low=language.percent(run.interval.low),
        high=language.percent(run.interval.high),
    )
