"""What is to be known beside the verdict: what the choice costs, how sure it is, what to do where there is none."""

from stages.core.intervals import Interval, difference_over_folds
from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.findings import Finding, misleading
from stages.report.heads import unmoved
from stages.report.pairwise_comparison import interval
from stages.report.runs import Run, ranked, ranked_over_folds
from stages.report.transfer import helped
from stages.report.verdict import Evidence, Verdict, cost, leaked, missing, random
from stages.report.verdict_text import less, score


def notes(verdict: Verdict, evidence: Evidence, language: Language) -> list[Text]:
    """Return what is to be known beside the verdict, in sentences.

    How often the backbone is right, and what choosing it costs; what to do where nothing is to be chosen; whether
    other trainings and the folds agree; what transfer learning was good for, where it was not; whether frozen networks
    stand against such that were trained further; whether the images are too easy. The backbone is the chosen one or,
    where there is none, the one that is right most often.
    """
    looks = (_score, _price, _remedies, _repeats, _folds, _untaught, _unlike, _too_easy)
    return [note for look in looks for note in look(verdict, evidence, language)]


def warnings(evidence: Evidence, language: Language) -> list[Finding]:
    """Return what the audit found that changes how the numbers are to be read, but for what the verdict says."""
    return [found for found in misleading(evidence.audit, language) if found.section != "leaks" or not leaked(evidence)]


def _score(verdict: Verdict, _: Evidence, language: Language) -> list[Text]:
    if verdict.kind == "alone":
        return []
    values: dict[str, Value] = {"name": Name(verdict.subject.backbone), "score": score(verdict.subject, language)}
    if verdict.chosen:
        return [language.say("%(name)s is right on %(score)s.", **values)]
    return [language.say("Right most often is %(name)s: on %(score)s.", **values)]


def _price(verdict: Verdict, evidence: Evidence, language: Language) -> list[Text]:
    """Return how much better the best is than the chosen one, or how much cheaper the cheapest than a clear winner."""
    best, cheapest = verdict.best, min(evidence.runs, key=lambda run: cost(run, evidence.prefer))
    if verdict.kind not in ("cheaper", "winner") or (verdict.kind == "winner" and cheapest is best):
        return []
    other = cheapest if verdict.kind == "winner" else verdict.subject
    duel = evidence.duels.between(best.backbone, other.backbone)
    values: dict[str, Value] = {
        "best": Name(best.backbone),
        "other": Name(other.backbone),
        "points": language.points(duel.difference),
        "figures": interval(duel, evidence.duels, language),
    }
    if verdict.kind == "cheaper":
        return [language.say("%(best)s scores %(points)s points more (%(figures)s).", **values)]
    return [
        language.say(
            "The cheapest, %(other)s, %(cheaper)s it and scores %(points)s points less (%(figures)s).",
            cheaper=less(cheapest, best, evidence.prefer, language),
            **values,
        )
    ]


def _remedies(_: Verdict, evidence: Evidence, language: Language) -> list[Text]:
    found = []
    for reason, runs in random(evidence).items():
        names = Names(tuple(run.backbone for run in runs))
        found.append(
            language.say("Random weights in %(names)s because: %(reason)s.", names=names, reason=Name(reason))
            if reason
            else language.say("Random weights in %(names)s.", names=names)
        )
    if found:
        found.append(
            language.say(
                "Published weights come with weights.source: imagenet, without internet from weights.mirror; with "
                "weights.if_unreachable: stop nothing takes their place."
            )
        )
    if missing(evidence):
        found.append(language.say("Run dvc repro for those that are missing."))
    if leaked(evidence):
        found.append(
            language.say(
                "Remove the files that data/leaks.csv names from the source and run again. The copies that were found "
                "lie on one side here, but such a split is likely to hold others that were not: cropped, turned or "
                "mirrored ones."
            )
        )
    return found


def _repeats(verdict: Verdict, _: Evidence, language: Language) -> list[Text]:
    repeats = verdict.subject.metrics["repeats"]
    if repeats["count"] <= 1 or verdict.kind == "unusable":
        return []
    return [
        language.say(
            "Over %(count)s trainings with different seeds %(name)s is right on %(mean)s on average, with a spread of "
            "%(spread)s points.",
            count=repeats["count"],
            name=Name(verdict.subject.backbone),
            mean=language.percent(repeats["mean"]),
            spread=language.points(repeats["sd"]),
        )
    ]


def _folds(verdict: Verdict, evidence: Evidence, language: Language) -> list[Text]:
    """Return whether the folds have the same backbone in front, or one that they do not tell from it."""
    ranking, run = ranked_over_folds(list(evidence.runs)), verdict.subject
    if not ranking or verdict.kind == "unusable":
        return []
    values: dict[str, Value] = {"folds": run.folds["count"], "name": Name(run.backbone)}
    mean = language.percent(run.folds["accuracy_mean"])
    if len(ranking) == 1:
        return [language.say("Over %(folds)s folds it is right on %(mean)s on average.", mean=mean, **values)]
    if run is ranking[0]:
        return [
            language.say(
                "The %(folds)s folds agree: there, too, %(name)s is first, with %(mean)s on average.",
                mean=mean,
                **values,
            )
        ]
    return [_other_first(ranking[0], run, evidence.duels.confidence, language)]


def _other_first(first: Run, run: Run, confidence: float, language: Language) -> Text:
    """Return how far another backbone is ahead over the folds."""
    between = _between_folds(first, run, confidence)
    values: dict[str, Value] = {
        "folds": first.folds["count"],
        "first": Name(first.backbone),
        "name": Name(run.backbone),
        "points": language.points(first.folds["accuracy_mean"] - run.folds["accuracy_mean"]),
        "confidence": language.share(confidence),
        "low": language.points(between.low),
        "high": language.points(between.high),
    }
    if between.low <= 0:
        return language.say(
            "The %(folds)s folds do not contradict it: %(first)s is first there, %(points)s points ahead of %(name)s "
            "on average, which may be chance (%(confidence)s interval %(low)s to %(high)s).",
            **values,
        )
    return language.say(
        "The %(folds)s folds contradict it: %(first)s is first there, %(points)s points ahead of %(name)s on average, "
        "which chance does not explain (%(confidence)s interval %(low)s to %(high)s).",
        **values,
    )


def _between_folds(first: Run, run: Run, confidence: float) -> Interval:
    """Return the interval of the difference between two backbones' accuracies over the same K folds.

    K - 2 folds are trained on for each that is tested.
    """
    differences = [one - other for one, other in zip(first.folds["accuracy"], run.folds["accuracy"], strict=True)]
    return difference_over_folds(differences, 1 / (len(differences) - 2), confidence)


def _untaught(verdict: Verdict, evidence: Evidence, language: Language) -> list[Text]:
    """Return what was gained by transfer learning where no pretrained backbone beats one without it."""
    ranking = ranked(list(evidence.runs))
    untaught, pretrained = [run for run in ranking if run.untaught], [run for run in ranking if run.pretrained]
    if verdict.chosen is None or not untaught or not pretrained:
        return []
    if any(evidence.duels.better(run.backbone, untaught[0].backbone) for run in pretrained):
        return []
    return [helped(pretrained, untaught[0], evidence.duels, language)]


def _unlike(verdict: Verdict, evidence: Evidence, language: Language) -> list[Text]:
    """Return which networks stayed frozen where one that did not is best, or cannot be told from it.

    The same is said beside what `_untaught` says.
    """
    ranking = ranked(list(evidence.runs))
    frozen = [run for run in ranking if run.frozen]
    spoken_of = {run.backbone for run in verdict.candidates}
    if _untaught(verdict, evidence, language):
        spoken_of |= {run.backbone for run in ranking if run.untaught}
    trained = [run for run in ranking if not run.frozen and run.backbone in spoken_of]
    if not frozen or not trained or verdict.kind == "unusable":
        return []
    return [
        language.say(
            "Not all were trained alike: of %(names)s the network was trained on these images, of others the head "
            "alone.",
            names=Names(tuple(run.backbone for run in trained)),
        ),
        *unmoved(frozen, language),
    ]


def _too_easy(_: Verdict, evidence: Evidence, language: Language) -> list[Text]:
    perfect = [run.backbone for run in ranked(list(evidence.runs)) if run.metrics["accuracy"] == 1]
    if len(perfect) <= 1:
        return []
    return [
        language.say(
            "%(names)s recognise every test image: harder images would tell them apart.",
            names=Names(tuple(perfect)),
        )
    ]
