"""Whether accuracy says little, since most images are of one class: what other measures would choose."""

from collections.abc import Mapping, Sequence

from stages.core.measure import Measure
from stages.core.settings.report import ACCURACY
from stages.pages.language import Language, Name, Text
from stages.report.notes.constant import unlearned
from stages.report.runs import Run
from stages.report.verdict import Evidence

# Always answering the most frequent class must score so high to be a threat: half, or, of several classes, twice what
# guessing any of them would, but no less than 10 %. And it must be so many times as frequent as the rarest, without
# which balanced accuracy and macro F1 weigh the classes much as accuracy does.
_HALF, _TWICE, _LEAST, _TIMES = 0.5, 2, 0.1, 4
# The measures that would weigh the classes otherwise.
_OTHERS = (Measure("balanced_accuracy"), Measure("macro_f1"), Measure("log_loss"))


def imbalance_note(evidence: Evidence, language: Language) -> list[Text]:
    """Return a sentence where accuracy decides and always answering one class would already score high.

    None where nothing is shown to have been learned, unless another measure would put another backbone first.

    Classes are as frequent as among the images of all splits: of many classes with a few test images each, chance
    alone gives some several times as many of these as others.
    """
    tested = evidence.runs[0].metrics["per_class"]
    images = {name: count for name, count in evidence.audit["images"].items() if count}
    if evidence.measure.name != ACCURACY or not _unequal(images):
        return []
    if unlearned(evidence) and set(_firsts(evidence.ranking)) == {evidence.ranking[0].backbone}:
        return []
    label = max(images, key=lambda name: images[name])
    return [
        language.say(
            "Accuracy says little about the rare classes: always answering %(label)s would be right on %(share)s of "
            "the test images, and that class has %(times)s times the images of the rarest; %(others)s "
            "(report.measure).",
            label=Name(label),
            share=language.percent(tested[label]["support"] / evidence.images),
            times=language.factor(images[label] / min(images.values())),
            others=_others(evidence.ranking, language),
        )
    ]


def _unequal(images: Mapping[str, int]) -> bool:
    most, least = max(images.values()), min(images.values())
    threat = min(_HALF, max(_TWICE / len(images), _LEAST))
    return most >= threat * sum(images.values()) and most >= _TIMES * least


def _firsts(ranking: Sequence[Run]) -> list[str]:
    """Return which backbone each of the other measures puts first."""
    return [max(ranking, key=lambda run: measure.sign * run.metrics[measure.key]).backbone for measure in _OTHERS]


def _others(ranking: Sequence[Run], language: Language) -> Text:
    """Return which backbones other measures put first, as a part of a sentence."""
    names = _firsts(ranking)
    if set(names) == {ranking[0].backbone}:
        return language.say("balanced accuracy, macro F1 and log loss would choose the same backbone")
    balanced, f1, loss = map(Name, names)
    return language.say(
        "balanced accuracy would put %(balanced)s first, macro F1 %(f1)s, log loss %(loss)s",
        balanced=balanced,
        f1=f1,
        loss=loss,
    )
