"""Which head each backbone kept, and whether the network below it was trained as well.

Heads have the names of heads.csv: "linear", solved exactly on frozen features; "dense", the declared one on the same;
"unfrozen", the linear one with the top of the network trained from there; "whole", a network trained from nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.measure import Measure
from stages.core.settings.report import ACCURACY
from stages.pages.language import Language, Name, Names, Text
from stages.report.runs import Run

LINEAR, DENSE, UNFROZEN, WHOLE = "linear", "dense", "unfrozen", "whole"


@dataclass(frozen=True)
class Row:
    """One head of one backbone: its name for people, and what evaluate measured."""

    run: Run
    display_name: str
    found: Mapping[str, Any]


@dataclass(frozen=True)
class Heads:
    """A row for each head that was tried, by backbone, the best first; and the text."""

    rows: list[Row]
    sentences: list[Text]


def heads(ranking: Sequence[Run], measure: Measure, language: Language) -> Heads:
    """Return which heads were tried, and kept by the `measure`; `ranking` has the best first."""
    rows = [Row(run, display_name(name, language), found) for run in ranking for name, found in run.heads.items()]
    texts = [*_lost(ranking, measure, language), *_insisted(ranking, measure, language)]
    builders = (_fitted, _ended, _failed)
    return Heads(rows, texts + [text for builder in builders for text in builder(ranking, language)])


def selected(runs: Sequence[Run]) -> bool:
    """Return whether validation chose among several heads, of which any may be tuned, for one of `runs`."""
    return any(len(run.heads) > 1 for run in runs)


def display_name(head: str, language: Language) -> str:
    """Return the name of a head for people."""
    return {
        LINEAR: language.gettext("linear"),
        DENSE: language.gettext("dense"),
        UNFROZEN: language.gettext("unfrozen"),
        WHOLE: language.gettext("whole network"),
    }[head]


def unmoved(runs: Sequence[Run], language: Language) -> list[Text]:
    """Return why those of `runs` that stayed frozen did; a note beside networks that were fine-tuned."""
    frozen = [run for run in runs if run.frozen]
    untried = tuple(run.backbone for run in frozen if not run.provenance["unfrozen"])
    if not untried:
        return _failed(frozen, language)
    return [
        language.say(
            "No blocks of %(names)s were unfrozen: phase 2 (finetune.unfreeze.blocks) was not tried there, and may "
            "help.",
            names=Names(untried),
        ),
        *_failed(frozen, language),
    ]


def _failed(runs: Sequence[Run], language: Language) -> list[Text]:
    """Return where the network was unfrozen and did not get better."""
    names = tuple(run.backbone for run in runs if run.frozen and run.provenance["unfrozen"])
    if not names:
        return []
    return [
        language.say(
            "Phase 2 was tried on %(names)s and lost on validation: the frozen network was kept.", names=Names(names)
        )
    ]


def _beaten(run: Run, head: str, measure: Measure) -> bool:
    """Return whether validation prefers the linear head to `head`, of those that were tried."""
    return {LINEAR, head} <= set(run.heads) and _order(run.heads[LINEAR], measure) < _order(run.heads[head], measure)


def _order(found: Mapping[str, Any], measure: Measure) -> tuple[float, float]:
    return measure.order(found["validation_value"], found["validation_log_loss"])


def _lost(ranking: Sequence[Run], measure: Measure, language: Language) -> list[Text]:
    """Return whose declared head lost to the linear one, and by how much on the test images."""
    lost = [run for run in ranking if _beaten(run, DENSE, measure) and run.kept != DENSE]
    if not lost:
        return []
    if measure.name != ACCURACY:
        names = Names(tuple(run.backbone for run in lost))
        return [language.say("The declared head lost to the linear one on validation: %(names)s.", names=names)]
    if len(lost) == 1 and lost[0].kept == LINEAR:
        return [_lost_alone(lost[0], language)]
    gains = [run.heads[LINEAR]["accuracy"] - run.heads[DENSE]["accuracy"] for run in lost]
    return [
        language.say_plural(
            "The declared head of %(names)s lost to the linear one on validation: accuracy of the linear one minus its "
            "own is %(least)s points on the test images.",
            "The declared heads of %(names)s lost to the linear ones on validation: accuracy of the linear ones "
            "minus their own is %(least)s to %(most)s points on the test images.",
            len(lost),
            names=Names(tuple(run.backbone for run in lost)),
            least=language.points(min(gains)),
            most=language.points(max(gains)),
        )
    ]


def _lost_alone(run: Run, language: Language) -> Text:
    found = run.heads[DENSE]
    return language.say(
        "The declared head of %(name)s lost to the linear one on validation: accuracy of the linear one minus its "
        "own is %(points)s points on the test images (%(confidence)s interval %(low)s to %(high)s).",
        name=Name(run.backbone),
        points=language.points(found["difference"]),
        confidence=language.share(run.metrics["confidence"]),
        low=language.points(found["low"]),
        high=language.points(found["high"]),
    )


def _insisted(ranking: Sequence[Run], measure: Measure, language: Language) -> list[Text]:
    """Return where something else was kept though the linear head was better on validation."""
    names = tuple(run.backbone for run in ranking if _beaten(run, run.kept, measure))
    if not names:
        return []
    return [
        language.say(
            "%(names)s kept what is declared, as finetune.head.choose says, though validation preferred the linear "
            "head.",
            names=Names(names),
        )
    ]


def _fitted(ranking: Sequence[Run], language: Language) -> list[Text]:
    """Return which images the kept heads were fitted on, and which chose their strength or epoch."""
    groups: dict[tuple[bool, bool], list[str]] = {}
    for run in ranking:
        both = "validation" in run.provenance["head"]["fitted_on"]
        groups.setdefault((run.kept == LINEAR, both), []).append(run.backbone)
    return [_fitted_on(key, Names(tuple(groups[key])), language) for key in sorted(groups, reverse=True)]


def _fitted_on(key: tuple[bool, bool], names: Names, language: Language) -> Text:
    """Return which images heads were fitted on; `key` is whether they are linear, and saw validation images."""
    return {
        (True, True): language.say(
            "Linear heads fitted on the training and validation images together, at a strength chosen by images that "
            "the fit had not seen: %(names)s.",
            names=names,
        ),
        (True, False): language.say(
            "Linear heads fitted on the training images, at a strength chosen by images that the fit had not seen: "
            "%(names)s.",
            names=names,
        ),
        (False, True): language.say(
            "Trained on the training images, stopped by the validation images, then fitted on both together for as "
            "many steps: %(names)s.",
            names=names,
        ),
        (False, False): language.say(
            "Trained on the training images, stopped by the validation images: %(names)s.", names=names
        ),
    }[key]


def _ended(ranking: Sequence[Run], language: Language) -> list[Text]:
    """Return where phase 2 reached its time limit."""
    return [
        language.say(
            "Phase 2 of %(name)s (%(blocks)s of %(all)s blocks) ended at its time limit "
            "(finetune.unfreeze.minutes) after %(epochs)s epochs: more time may help.",
            name=Name(run.backbone),
            blocks=run.provenance["unfrozen"]["blocks"],
            all=run.provenance["unfrozen"]["of"],
            epochs=run.provenance["unfrozen"]["epochs"],
        )
        for run in ranking
        if run.provenance["unfrozen"] and run.provenance["unfrozen"]["stopped"] == "minutes"
    ]
