"""The text of the verdict: one sentence with its reason."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from stages.core.settings.report import ACCURACY, Prefer
from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.measure_text import amount, better, coarse, display_name, figure, of_measure, on_images, value
from stages.report.runs import Run
from stages.report.verdict import Evidence, Kind, between, cost, leaked, missing, random
from stages.statistics.groups import MIN_GROUPS
from stages.statistics.paired import POWER
from stages.statistics.pairwise import needed_images

# From this ratio on a cost is "N times smaller", below it "N % smaller".
_TWICE = 2


def sentence(evidence: Evidence, language: Language) -> Text:
    """Return the verdict as one sentence."""
    return _SENTENCES[evidence.verdict.kind](evidence, language)


def _unusable(evidence: Evidence, language: Language) -> Text:
    reasons = _joined(objections(evidence, language), language)
    return language.say("These numbers must not be used to choose: %(reasons)s.", reasons=reasons)


def _joined(parts: Sequence[Text], language: Language) -> Text:
    return reduce(lambda first, second: language.say("%(first)s; %(second)s", first=first, second=second), parts)


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
            language.say(
                "%(count)s images are copies of one another, in the source's own test split and outside of it",
                count=language.number(images),
            )
        )
    return found


def _alone(evidence: Evidence, language: Language) -> Text:
    best = evidence.verdict.best
    return language.say(
        "%(best)s is the only backbone measured, so there is nothing to choose from: %(score)s.",
        best=Name(best.backbone),
        score=language.say("it is right on %(score)s", score=score(best, language))
        if evidence.measure.name == ACCURACY
        else language.say(
            "its %(measure)s is %(score)s",
            measure=display_name(evidence.measure, language),
            score=measured(best, evidence, language),
        ),
    )


def _too_few(evidence: Evidence, language: Language) -> Text:
    builders = (_detected, _takes, _ruled_out)
    return language.say(
        "Nothing can be chosen with this test set of %(images)s images: %(reasons)s.",
        images=language.number(evidence.images),
        reasons=_joined([part for builder in builders for part in builder(evidence, language)], language),
    )


def _seeds_decide(evidence: Evidence) -> bool:
    """Return whether other seeds make so large differences that no number of test images is enough."""
    assert evidence.verdict.rival
    return images_to_detect(evidence.too_coarse, evidence.verdict.rival, evidence) is None


def _detected(evidence: Evidence, language: Language) -> list[Text]:
    """Return what the test set detects."""
    measure = evidence.measure
    if _seeds_decide(evidence):
        return [
            language.say(
                "trainings with other seeds differ by as much as %(coarse)s, more than test images could tell apart",
                coarse=of_measure(measure, coarse(measure, evidence.too_coarse, language), language),
            )
        ]
    if not evidence.detects:
        return [language.say("it is too small to show any difference")]
    least = amount(measure, evidence.verdict.detectable, language)
    return [
        language.say(
            "it only detects differences of %(least)s or more with %(power)s power",
            least=of_measure(measure, least, language),
            power=language.share(POWER),
        )
    ]


def _takes(evidence: Evidence, language: Language) -> list[Text]:
    """Return how many images would show the difference that is seen, or any large one where none is."""
    best, rival, measure = evidence.verdict.best, evidence.verdict.rival, evidence.measure
    assert rival
    names: dict[str, Value] = {"best": Name(best.backbone), "rival": Name(rival.backbone)}
    seen = evidence.comparisons.between(best.backbone, rival.backbone).difference
    if not seen and evidence.detects:
        return [language.say("%(best)s and %(rival)s score the same", **names)]
    needed = images_to_detect(seen or evidence.too_coarse, rival, evidence)
    if _seeds_decide(evidence) or (needed and needed <= evidence.images):
        return []
    about = language.about(needed or 0)
    if not seen:
        large = of_measure(measure, coarse(measure, evidence.too_coarse, language), language)
        return [language.say("it takes about %(needed)s to detect one of %(amount)s", needed=about, amount=large)]
    found = amount(measure, seen, language)
    # The part before names the measure, but where it has no number.
    values = {"amount": found if evidence.detects else of_measure(measure, found, language), **names}
    if needed is None:
        return [language.say("another seed may make the %(amount)s between %(best)s and %(rival)s", **values)]
    return [
        language.say(
            "it takes about %(needed)s to detect the %(amount)s between %(best)s and %(rival)s", needed=about, **values
        )
    ]


def _ruled_out(evidence: Evidence, language: Language) -> list[Text]:
    """Return which backbones are significantly worse than the best all the same."""
    best, comparisons = evidence.verdict.best, evidence.comparisons
    worse = [run.backbone for run in evidence.ranking if comparisons.better(best.backbone, run.backbone)]
    if not worse:
        return []
    values: dict[str, Value] = {"names": Names(tuple(worse)), "best": Name(best.backbone)}
    return [
        language.say_plural(
            "%(names)s is significantly worse than %(best)s",
            "%(names)s are significantly worse than %(best)s",
            len(worse),
            **values,
        )
    ]


def images_to_detect(difference: float, rival: Run, evidence: Evidence) -> int | None:
    """Return how many test images like these it takes to detect a `difference` between the best and its rival.

    Of all classes, also where the measure is the recall of one: its images are as frequent among more of them. None if
    no number does, because trainings with other seeds differ by as much.
    """
    pair = between(rival, evidence)
    needed = needed_images(pair, difference, 1 - evidence.confidence)
    return None if needed is None else math.ceil(needed * evidence.images / pair.images)


def _few_groups(evidence: Evidence, language: Language) -> Text:
    return language.say_plural(
        "Nothing can be chosen: the %(images)s all come from one group; images of a group are right or "
        "wrong together, and with fewer than %(least)s groups nobody can tell how certain a difference is.",
        "Nothing can be chosen: the %(images)s come from %(count)s groups; images of a group are right or "
        "wrong together, and with fewer than %(least)s groups nobody can tell how certain a difference is.",
        len(evidence.outcomes.groups),
        images=on_images(evidence.measure, evidence.outcomes.images, language),
        least=language.number(MIN_GROUPS),
    )


def _winner(evidence: Evidence, language: Language) -> Text:
    best, following = evidence.ranking[:2]
    return language.say_plural(
        "Use %(best)s: it is significantly better than %(next)s, by %(amount)s on %(images)s.",
        "Use %(best)s: it is significantly better than each of the %(count)s other backbones, %(amount)s ahead of "
        "%(next)s, the next best, on %(images)s.",
        len(evidence.runs) - 1,
        best=Name(best.backbone),
        next=Name(following.backbone),
        amount=amount(evidence.measure, evidence.measure.sign * (best.value - following.value), language),
        images=on_images(evidence.measure, evidence.outcomes.images, language),
    )


def _ahead(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(best)s: no other backbone has %(better)s, and each is worse by more than chance explains, though not "
        "all of them after the Holm correction for %(pairs)s pairs.",
        better=better(evidence.measure, language),
        best=Name(evidence.verdict.best.backbone),
        pairs=len(evidence.comparisons),
    )


def _best_and_cheapest(evidence: Evidence, language: Language) -> Text:
    values: dict[str, Value] = {
        "cheapest": _cheapest(evidence.prefer, language),
        "count": len(evidence.verdict.candidates),
        **_best(evidence, language),
    }
    # The limit of one that scores clearly higher may be below 0, although a test does not tell it from the other.
    if evidence.shortfalls[evidence.verdict.best.backbone] <= 0:
        return language.say(
            "Use %(best)s: no other backbone has %(better)s, and it %(cheapest)s of the %(count)s backbones that this "
            "test set of %(images)s images cannot tell apart.",
            **values,
        )
    return language.say(
        "Use %(best)s: no other backbone has %(better)s, and it %(cheapest)s of the %(count)s backbones that this test "
        "set of %(images)s images cannot tell apart (another may still be up to %(shortfall)s better).",
        shortfall=_shortfall(evidence.verdict.best, evidence, language),
        **values,
    )


def _as_good(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(rival)s: no other backbone has %(better)s, and it %(cheaper)s %(best)s, which has the same %(measure)s "
        "on this test set of %(images)s images (%(rival)s may still be up to %(shortfall)s worse).",
        measure=display_name(evidence.measure, language),
        **_cheaper(evidence, language),
    )


def _cheaper_one(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(rival)s: it %(cheaper)s the best-scoring %(best)s, and this test set of %(images)s images shows that it "
        "is within %(margin)s of the best (at most %(shortfall)s worse).",
        **_cheaper(evidence, language),
    )


def _open(evidence: Evidence, language: Language) -> Text:
    return language.say(
        "Use %(best)s, which %(first)s: %(rival)s %(cheaper)s it, but may be up to %(shortfall)s worse; %(images)s "
        "test images are too few to show that it is within %(margin)s.",
        first=language.say("scores highest")
        if evidence.measure.sign > 0
        else language.say("has the lowest %(measure)s", measure=display_name(evidence.measure, language)),
        **_cheaper(evidence, language),
    )


_SENTENCES: Mapping[Kind, Callable[[Evidence, Language], Text]] = {
    "unusable": _unusable,
    "alone": _alone,
    "few groups": _few_groups,
    "too few": _too_few,
    "winner": _winner,
    "ahead": _ahead,
    "best and cheapest": _best_and_cheapest,
    "as good": _as_good,
    "cheaper": _cheaper_one,
    "open": _open,
}


def _best(evidence: Evidence, language: Language) -> dict[str, Value]:
    best = evidence.verdict.best
    return {
        "best": Name(best.backbone),
        "better": better(evidence.measure, language),
        "images": language.number(evidence.images),
    }


def _cheaper(evidence: Evidence, language: Language) -> dict[str, Value]:
    """Return the parts of a sentence about a rival that costs less than the best-scoring one."""
    verdict = evidence.verdict
    assert verdict.rival
    return {
        "rival": Name(verdict.rival.backbone),
        "cheaper": cost_ratio_text(verdict.rival, verdict.best, evidence.prefer, language),
        "shortfall": _shortfall(verdict.rival, evidence, language),
        "margin": amount(evidence.measure, evidence.margin, language),
        **_best(evidence, language),
    }


def _shortfall(run: Run, evidence: Evidence, language: Language) -> Text | str:
    """Return how much worse a backbone may be; just above the margin, which must not read as the margin, rounded up."""
    measure, found = evidence.measure, max(0.0, evidence.shortfalls[run.backbone])
    if found > evidence.margin and figure(measure, found, language) == figure(measure, evidence.margin, language):
        found = math.ceil(1000 * found) / 1000
    return amount(measure, found, language)


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
    values: dict[str, Value] = {
        "accuracy": language.percent(run.metrics["accuracy"]),
        "images": language.number(run.metrics["test_images"]),
        "confidence": language.share(run.metrics["confidence"]),
        "low": language.percent(run.interval.low),
        "high": language.percent(run.interval.high),
    }
    if run.metrics["test_groups"] == run.metrics["test_images"]:
        return language.say(
            "%(accuracy)s of %(images)s test images (%(confidence)s confidence interval %(low)s to %(high)s)", **values
        )
    return language.say(
        "%(accuracy)s of %(images)s test images of %(groups)s groups (%(confidence)s confidence interval %(low)s to "
        "%(high)s)",
        groups=language.number(run.metrics["test_groups"]),
        **values,
    )


def measured(run: Run, evidence: Evidence, language: Language) -> Text:
    """Return the value of the measure of a backbone, with its interval if it has one, as a part of a sentence."""
    values: dict[str, Value] = {
        "value": value(evidence.measure, run.value, language),
        "images": on_images(evidence.measure, evidence.outcomes.images, language),
    }
    if run.value_interval is None:
        return language.say("%(value)s on %(images)s", **values)
    low, high = (value(evidence.measure, end, language) for end in run.value_interval)
    return language.say(
        "%(value)s on %(images)s (%(confidence)s confidence interval %(low)s to %(high)s)",
        confidence=language.share(run.metrics["confidence"]),
        low=low,
        high=high,
        **values,
    )
