"""One answer to every image: where it does as well as what was trained, and which backbones give one."""

import math
from dataclasses import dataclass

from stages.core.settings.report import ACCURACY, COST
from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.measure_text import display_name, value
from stages.report.verdict import Evidence

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Constant:
    """The best that the same answer to every test image can score: the `value` of the measure, and the class.

    `label` is None where every class scores the same, and where the answer is none of them but their frequencies.
    """

    value: float
    label: str | None = None


def constant_notes(evidence: Evidence, language: Language) -> list[Text]:
    """Return whether the backbone that the verdict is about is shown to beat one answer, and which give only one."""
    return [*_unlearned(evidence, language), *_single_answers(evidence, language)]


def unlearned(evidence: Evidence) -> bool:
    """Return whether that backbone is not shown to be better than the same answer to every image, by the measure.

    Shown is what its interval does not reach; without an interval its value counts.
    """
    best, subject, sign = constant(evidence), evidence.verdict.subject, evidence.measure.sign
    if best is None:
        return False
    ends = subject.value_interval
    worst = subject.value if ends is None else ends.low if sign > 0 else ends.high
    return sign * (worst - best.value) <= _ROUNDING


def constant(evidence: Evidence) -> Constant | None:
    """Return the best constant answer; None where a recall decides, which naming that class always makes perfect.

    For the log loss, which asks for probabilities, it is the frequencies of the classes outside of the test split.
    """
    counts, measure = _tested(evidence), evidence.measure
    images, label = sum(counts.values()), max(counts, key=lambda name: counts[name])
    if measure.label is not None:
        return None
    if measure.name == COST:
        return _cheapest(evidence, counts)
    if measure.name == ACCURACY:
        return Constant(counts[label] / images, label)
    shown = sum(count > 0 for count in counts.values())
    if measure.name == "balanced_accuracy":
        return Constant(1 / shown)
    if measure.name == "macro_f1":
        return Constant(2 * counts[label] / (images + counts[label]) / shown, label)
    return _by_frequency(evidence, counts)


def _tested(evidence: Evidence) -> dict[str, int]:
    """Return the number of test images of each class."""
    return {name: int(row["support"]) for name, row in evidence.runs[0].metrics["per_class"].items()}


def _cheapest(evidence: Evidence, counts: dict[str, int]) -> Constant:
    matrix = evidence.runs[0].metrics["measure"]["matrix"]
    costs = {
        decided: sum(count * matrix[actual][decided] for actual, count in counts.items()) / sum(counts.values())
        for decided in counts
    }
    label = min(costs, key=lambda name: costs[name])
    return Constant(costs[label], label)


def _by_frequency(evidence: Evidence, counts: dict[str, int]) -> Constant:
    # One at least: a class all of whose images are tested must not have the probability 0.
    others = {name: max(1, evidence.audit["images"].get(name, 0) - count) for name, count in counts.items()}
    total, images = sum(others.values()), sum(counts.values())
    return Constant(-sum(count * math.log(others[name] / total) for name, count in counts.items()) / images)


def _unlearned(evidence: Evidence, language: Language) -> list[Text]:
    best, subject, measure = constant(evidence), evidence.verdict.subject, evidence.measure
    if best is None or not unlearned(evidence):
        return []
    values: dict[str, Value] = {
        "measure": display_name(measure, language),
        "answer": _answer(best, evidence, language),
        "constant": value(measure, best.value, language),
        "name": Name(subject.backbone),
        "score": value(measure, subject.value, language),
    }
    ends = subject.value_interval
    if ends is None or measure.sign * (subject.value - best.value) <= _ROUNDING:
        return [
            language.say(
                "The %(measure)s of %(answer)s is %(constant)s, that of %(name)s %(score)s: by this measure nothing "
                "has been learned.",
                **values,
            )
        ]
    return [
        language.say(
            "The %(measure)s of %(answer)s is %(constant)s, that of %(name)s %(score)s (%(confidence)s confidence "
            "interval %(low)s to %(high)s): by this measure it is not shown to have learned anything.",
            confidence=language.share(evidence.confidence),
            low=value(measure, ends.low, language),
            high=value(measure, ends.high, language),
            **values,
        )
    ]


def _answer(best: Constant, evidence: Evidence, language: Language) -> Text:
    if best.label is not None:
        return language.say("always answering %(label)s", label=Name(best.label))
    if evidence.measure.of_probabilities:
        return language.say("answering with the frequencies of the classes")
    return language.say("one answer to every image")


def _single_answers(evidence: Evidence, language: Language) -> list[Text]:
    """Return which backbones give one answer to every test image though these are of several classes."""
    if sum(count > 0 for count in _tested(evidence).values()) == 1:
        return []
    found: dict[str, list[str]] = {}
    for run in evidence.ranking:
        if run.confusion["predicted"].nunique() == 1:
            found.setdefault(run.confusion["predicted"].iloc[0], []).append(run.backbone)
    return [
        language.say(
            "Every test image gets the same answer, %(label)s, from %(names)s.",
            label=Name(label),
            names=Names(tuple(names)),
        )
        for label, names in found.items()
    ]
