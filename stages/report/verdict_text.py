"""The verdict in words: one sentence with its reason."""

import math
from collections.abc import Callable, Mapping
from functools import reduce

from stages.core.settings.report import Prefer
from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.runs import Run, ranked
from stages.report.verdict import TOO_COARSE, Evidence, Kind, Verdict, cost, leaked, missing, random

# From this ratio on a cost is said to be so many times smaller, below it so many percent.
_TWICE = 2


def sentence(verdict: Verdict, evidence: Evidence, language: Language) -> Text:
    """Return the verdict as one sentence."""
    return _SENTENCES[verdict.kind](verdict, evidence, language)


def _unusable(_: Verdict, evidence: Evidence, language: Language) -> Text:
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
                "%(count)s image has a copy on another side of the split that the source brought",
                "%(count)s images have a copy on another side of the split that the source brought",
                images,
            )
        )
    return found


def _alone(verdict: Verdict, _: Evidence, language: Language) -> Text:
    return language.say(
        "%(best)s is the only backbone measured, so there is nothing to choose from: it is right on %(score)s.",
        best=Name(verdict.best.backbone),
        score=score(verdict.best, language),
    )


def _too_few(verdict: Verdict, _: Evidence, language: Language) -> Text:
    images = verdict.best.metrics["test_images"]
    values: dict[str, Value] = {
        "images": language.number(images),
        "needed": language.number(math.ceil(verdict.smallest * images / TOO_COARSE)),
        "coarse": language.number(100 * TOO_COARSE),
    }
    if verdict.smallest > 1:
        return language.say(
            "Nothing can be chosen by this test set of %(images)s images, which is too small to show any "
            "difference; %(needed)s would show differences of %(coarse)s points.",
            **values,
        )
    return language.say(
        "Nothing can be chosen by this test set of %(images)s images, which could only show differences of "
        "%(points)s points or more; %(needed)s would show differences of %(coarse)s points.",
        points=language.points(verdict.smallest),
        **values,
    )


def _winner(verdict: Verdict, evidence: Evidence, language: Language) -> Text:
    following = ranked(list(evidence.runs))[1]
    return language.say_plural(
        "Use %(best)s: it is significantly better than %(next)s, by %(points)s points on %(images)s test images.",
        "Use %(best)s: it is significantly better than each of the %(count)s other backbones, %(points)s points ahead "
        "of %(next)s, the next best, on %(images)s test images.",
        len(evidence.runs) - 1,
        best=Name(verdict.best.backbone),
        next=Name(following.backbone),
        points=language.points(verdict.best.metrics["accuracy"] - following.metrics["accuracy"]),
        images=language.number(verdict.best.metrics["test_images"]),
    )


def _ahead(verdict: Verdict, evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(best)s: nothing measured is right more often, and every other backbone is worse by more than chance "
        "explains, though not all of them after the Holm correction for %(pairs)s pairs.",
        best=Name(verdict.best.backbone),
        pairs=len(evidence.duels),
    )


def _best_and_cheapest(verdict: Verdict, evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(best)s: nothing measured is right more often, and it %(cheapest)s of the %(count)s backbones that this "
        "test set of %(images)s images cannot tell apart (it could show differences of %(points)s points or more).",
        cheapest=_cheapest(evidence.prefer, language),
        count=len(verdict.candidates),
        **_resolution(verdict, language),
    )


def _as_good(verdict: Verdict, evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(chosen)s: nothing measured is right more often, and it %(cheaper)s %(best)s, which is right just as "
        "often on this test set of %(images)s images (it could show differences of %(points)s points or more).",
        **_cheaper(verdict, evidence, language),
    )


def _cheaper_one(verdict: Verdict, evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(chosen)s: nothing measured is significantly better, and it %(cheaper)s the best-scoring %(best)s, from "
        "which this test set of %(images)s images cannot tell it apart (it could show differences of %(points)s "
        "points or more).",
        **_cheaper(verdict, evidence, language),
    )


_SENTENCES: Mapping[Kind, Callable[[Verdict, Evidence, Language], Text]] = {
    "unusable": _unusable,
    "alone": _alone,
    "too few": _too_few,
    "winner": _winner,
    "ahead": _ahead,
    "best and cheapest": _best_and_cheapest,
    "as good": _as_good,
    "cheaper": _cheaper_one,
}


def _resolution(verdict: Verdict, language: Language) -> dict[str, Value]:
    return {
        "best": Name(verdict.best.backbone),
        "images": language.number(verdict.best.metrics["test_images"]),
        "points": language.points(verdict.smallest),
    }


def _cheaper(verdict: Verdict, evidence: Evidence, language: Language) -> dict[str, Value]:
    """Return the parts of a sentence about a choice that costs less than the best-scoring one."""
    assert verdict.chosen
    cheaper = less(verdict.chosen, verdict.best, evidence.prefer, language)
    return {"chosen": Name(verdict.chosen.backbone), "cheaper": cheaper, **_resolution(verdict, language)}


def less(cheap: Run, dear: Run, prefer: Prefer, language: Language) -> Text:
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
    """Return how often a backbone is right, with the interval of that, as a part of a sentence."""
    return language.say(
        "%(accuracy)s of %(images)s test images (%(confidence)s interval %(low)s to %(high)s)",
        accuracy=language.percent(run.metrics["accuracy"]),
        images=language.number(run.metrics["test_images"]),
        confidence=language.share(run.metrics["confidence"]),
        low=language.percent(run.interval.low),
        high=language.percent(run.interval.high),
    )
