"""Notes on the verdict: what the choice costs, how certain it is, and what to do where there is none."""

from stages.core.intervals import Interval, difference_over_folds
from stages.core.settings.report import ACCURACY
from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.findings import Finding, misleading
from stages.report.heads import unmoved
from stages.report.measure_text import amount, display_name, value
from stages.report.notes.constant import constant_notes
from stages.report.notes.copies import copy_notes
from stages.report.notes.imbalance import imbalance_note
from stages.report.notes.inputs import input_notes
from stages.report.notes.load import load_notes
from stages.report.notes.source_split import source_split_note
from stages.report.pairwise_comparison import interval
from stages.report.runs import Run
from stages.report.transfer import transfer_gain_text
from stages.report.verdict import NOTHING_CHOSEN, Evidence, cost, leaked, missing, random
from stages.report.verdict_text import cost_ratio_text, images_to_detect, measured, score
from stages.statistics.paired import POWER
from stages.statistics.resampled import IMAGES_FOR_F1

# Accuracies that differ by less read the same.
_VISIBLE = 0.0005


def notes(evidence: Evidence, language: Language) -> list[Text]:
    """Return what to know beside the verdict, in sentences.

    Whether one answer to every image does as well; what to do where nothing is to be chosen; the accuracy of the
    backbone, and how stable the choice is; which copies were moved or dropped; whether the source's own test
    images are unlike its others; what choosing it costs; whether accuracy says little, since one class has most
    images; how many test images would tell it from its rival; whether preprocessing suits the weights; whether
    repeated trainings and the folds agree; the gain by transfer learning, where there was none; whether frozen
    networks are compared with fine-tuned ones; whether the images are too easy; whether latencies were measured
    under load. The backbone is the chosen one or, where there is none, the best one.
    """
    builders = (
        *(
            constant_notes,
            _remedies,
            _score,
            _stability,
            copy_notes,
            source_split_note,
            _price,
            imbalance_note,
            _more_images,
            input_notes,
            _repeats,
            _trained_once,
        ),
        *(_folds, _from_scratch, _unlike, _too_easy, load_notes),
    )
    return [note for builder in builders for note in builder(evidence, language)]


def warnings(evidence: Evidence, language: Language) -> list[Finding]:
    """Return what the audit found that changes the meaning of the numbers, without what the verdict says already."""
    return [found for found in misleading(evidence.audit, language) if found.section != "leaks" or not leaked(evidence)]


def _score(evidence: Evidence, language: Language) -> list[Text]:
    verdict = evidence.verdict
    if verdict.kind == "alone":
        return []
    if evidence.measure.name != ACCURACY:
        return [_by_measure(evidence, language), *_biased(evidence, language)]
    values: dict[str, Value] = {"name": Name(verdict.subject.backbone), "score": score(verdict.subject, language)}
    if verdict.chosen:
        return [language.say("%(name)s is right on %(score)s.", **values)]
    return [language.say("The most accurate is %(name)s: right on %(score)s.", **values)]


def _by_measure(evidence: Evidence, language: Language) -> Text:
    """Return the value of the measure, where that is not the accuracy."""
    subject = evidence.verdict.subject
    values: dict[str, Value] = {
        "name": Name(subject.backbone),
        "measure": display_name(evidence.measure, language),
        "score": measured(subject, evidence, language),
    }
    if evidence.verdict.chosen:
        return language.say("The %(measure)s of %(name)s is %(score)s.", **values)
    return language.say("The best by %(measure)s is %(name)s: %(score)s.", **values)


def _biased(evidence: Evidence, language: Language) -> list[Text]:
    """Return why the measure has no interval here though differences of it have, where it is biased."""
    if not evidence.biased:
        return []
    return [
        language.say(
            "Macro F1 itself has no confidence interval here: with fewer than %(images)s test images a class it is too "
            "biased. The bias of two backbones is much the same, so their difference has one.",
            images=language.number(IMAGES_FOR_F1),
        )
    ]


def _price(evidence: Evidence, language: Language) -> list[Text]:
    """Return how much better the best is than a cheaper rival, or how much cheaper the cheapest than a winner."""
    verdict = evidence.verdict
    best, cheapest = verdict.best, min(evidence.runs, key=lambda run: cost(run, evidence.prefer))
    other = cheapest if verdict.kind == "winner" else verdict.rival
    if verdict.kind not in ("cheaper", "open", "winner") or other is None or other is best:
        return []
    comparison = evidence.comparisons.between(best.backbone, other.backbone)
    values: dict[str, Value] = {
        "best": Name(best.backbone),
        "other": Name(other.backbone),
        "amount": amount(evidence.measure, comparison.difference, language),
        "figures": interval(comparison, evidence.comparisons, language),
    }
    if evidence.measure.sign < 0:
        # Where lower is better, "less" would read as praise.
        return [language.say("%(other)s is worse by %(amount)s than %(best)s (%(figures)s).", **values)]
    if verdict.kind == "winner":
        return [
            language.say(
                "The cheapest, %(other)s, %(cheaper)s it and scores %(amount)s less (%(figures)s).",
                cheaper=cost_ratio_text(cheapest, best, evidence.prefer, language),
                **values,
            )
        ]
    if verdict.kind == "open":
        return [language.say("%(other)s scores %(amount)s less (%(figures)s).", **values)]
    return [language.say("%(best)s scores %(amount)s more (%(figures)s).", **values)]


def _stability(evidence: Evidence, language: Language) -> list[Text]:
    """Return how stable the choice is, and the accuracy without its optimism where that is lower."""
    if evidence.verdict.kind in ("alone", *NOTHING_CHOSEN):
        return []
    found, subject = evidence.resampled, evidence.verdict.subject
    counts = {name: round(100 * share) for name, share in found.shares.items()}
    rival = max((name for name in counts if name != subject.backbone), key=lambda name: counts[name])
    texts = [
        language.say(
            "Selected again in %(count)s of 100 bootstrap resamples of these test images; %(rival)s in %(other)s.",
            count=language.number(counts[subject.backbone]),
            rival=Name(rival),
            other=language.number(counts[rival]),
        )
        if counts[rival]
        else language.say("Selected again in more than 99 of 100 bootstrap resamples of these test images.")
    ]
    if found.value is None or found.interval is None:
        return texts
    if evidence.measure.sign * (subject.value - found.value) <= _VISIBLE:
        return texts
    return [
        *texts,
        language.say(
            "It was selected on these images, which flatters it: selecting in this way gives about %(accuracy)s on new "
            "ones (%(confidence)s confidence interval %(low)s to %(high)s).",
            accuracy=value(evidence.measure, found.value, language),
            confidence=language.share(evidence.confidence),
            low=value(evidence.measure, found.interval.low, language),
            high=value(evidence.measure, found.interval.high, language),
        ),
    ]


def _more_images(evidence: Evidence, language: Language) -> list[Text]:
    """Return how many test images would tell the best from its rival, and know the accuracy to within the margin."""
    verdict, margin = evidence.verdict, evidence.margin
    if verdict.kind not in ("open", "best and cheapest", "as good", "cheaper") or verdict.rival is None:
        return []
    subject, other = verdict.subject, verdict.rival if verdict.subject is verdict.best else verdict.best
    found = evidence.comparisons.between(subject.backbone, other.backbone)
    texts = []
    if found.difference and (found.p > 1 - evidence.confidence or evidence.comparisons.limited(found)):
        needed = images_to_detect(abs(found.difference), verdict.rival, evidence)
        values: dict[str, Value] = {
            "name": Name(other.backbone),
            "amount": amount(evidence.measure, abs(found.difference), language),
        }
        if needed is None:
            texts.append(
                language.say(
                    "The difference from %(name)s, %(amount)s, is not larger than what another seed makes: no "
                    "number of test images shows it.",
                    **values,
                )
            )
        elif needed > evidence.images:
            texts.append(
                language.say(
                    "If the difference from %(name)s is as large as it looks, %(amount)s, it takes about "
                    "%(needed)s test images like these to show it with %(power)s power.",
                    needed=language.about(needed),
                    power=language.share(POWER),
                    **values,
                )
            )
    ends = subject.value_interval
    half = (ends.high - ends.low) / 2 if ends else 0.0
    if half > margin > 0:
        texts.append(
            language.say(
                "To know its %(measure)s to within %(margin)s takes about %(needed)s test images like these.",
                measure=display_name(evidence.measure, language),
                margin=amount(evidence.measure, margin, language),
                # The width falls with the root of the number.
                needed=language.about(evidence.images * (half / margin) ** 2),
            )
        )
    return texts


def _trained_once(evidence: Evidence, language: Language) -> list[Text]:
    """Return which of the backbones that the verdict is about have no repeats to know the seed's part from."""
    verdict = evidence.verdict
    concerned = dict.fromkeys(run.backbone for run in (verdict.subject, verdict.best, verdict.rival) if run)
    once = [run.backbone for run in evidence.ranking if run.backbone in concerned and run.trained_once]
    if not once or verdict.kind == "unusable":
        return []
    return [
        language.say(
            "Trained once: %(names)s. What is said holds for this training; another seed may come out "
            "differently. finetune.repeats and finetune.unfreeze.repeats above 1 take that into account.",
            names=Names(tuple(once)),
        )
    ]


def _remedies(evidence: Evidence, language: Language) -> list[Text]:
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
                "Published weights come with weights.source: imagenet, without internet from weights.mirror; "
                "weights.if_unreachable: stop refuses to replace them by random ones."
            )
        )
    if missing(evidence):
        found.append(language.say("Run dvc repro for those that are missing."))
    if leaked(evidence):
        found.append(
            language.say(
                "Leave out the copies whose action in data/leaks.csv is not kept, and run again: audit.html has the "
                "line for data.exclude. They are in one split here, but the source's test split is likely to hold "
                "others that were not found: cropped, rotated or mirrored ones."
            )
        )
    return found


def _repeats(evidence: Evidence, language: Language) -> list[Text]:
    verdict = evidence.verdict
    repeats = verdict.subject.metrics["repeats"]
    if repeats["count"] <= 1 or verdict.kind == "unusable":
        return []
    return [
        language.say(
            "Over %(count)s trainings with different seeds %(name)s is right on %(mean)s on average, with a standard "
            "deviation of %(deviation)s points.",
            count=repeats["count"],
            name=Name(verdict.subject.backbone),
            mean=language.percent(repeats["mean"]),
            deviation=language.points(repeats["sd"]),
        )
    ]


def _folds(evidence: Evidence, language: Language) -> list[Text]:
    """Return whether the same backbone is first over the folds, or one that is statistically tied with it."""
    ranking, run = evidence.ranking_over_folds, evidence.verdict.subject
    # Folds are scored by accuracy.
    if not ranking or evidence.verdict.kind == "unusable" or evidence.measure.name != ACCURACY:
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
    return [_other_first(ranking[0], run, evidence.comparisons.confidence, language)]


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


def _from_scratch(evidence: Evidence, language: Language) -> list[Text]:
    """Return the gain by transfer learning where no pretrained backbone is better than one trained from scratch."""
    ranking = evidence.ranking
    from_scratch, pretrained = [run for run in ranking if run.from_scratch], [run for run in ranking if run.pretrained]
    if evidence.verdict.chosen is None or not from_scratch or not pretrained:
        return []
    if any(evidence.comparisons.better(run.backbone, from_scratch[0].backbone) for run in pretrained):
        return []
    return [transfer_gain_text(pretrained, from_scratch[0], evidence.comparisons, language)]


def _unlike(evidence: Evidence, language: Language) -> list[Text]:
    """Return which networks stayed frozen where one that did not is among the best, or `_from_scratch` has a note."""
    ranking, verdict = evidence.ranking, evidence.verdict
    frozen = [run for run in ranking if run.frozen]
    concerned = {run.backbone for run in (*verdict.candidates, verdict.subject)}
    if _from_scratch(evidence, language):
        concerned |= {run.backbone for run in ranking if run.from_scratch}
    trained = [run for run in ranking if not run.frozen and run.backbone in concerned]
    if not frozen or not trained or verdict.kind == "unusable":
        return []
    return [
        language.say(
            "Not all were trained alike: the network of %(names)s was trained on these images, of others only the "
            "head.",
            names=Names(tuple(run.backbone for run in trained)),
        ),
        *unmoved(frozen, language),
    ]


def _too_easy(evidence: Evidence, language: Language) -> list[Text]:
    perfect = [run.backbone for run in evidence.ranking if run.metrics["accuracy"] == 1]
    if len(perfect) <= 1:
        return []
    return [
        language.say(
            "%(names)s recognise every test image: harder images would tell them apart.",
            names=Names(tuple(perfect)),
        )
    ]
