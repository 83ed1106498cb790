"""What stands around the verdict on the report's first screen: the images, the setting, what to do next.

The page and its summary say the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from stages.core.presets import QUICK
from stages.pages.language import Language, Name, Names, Text
from stages.report.notes.load import under_load
from stages.report.provenance import Commit
from stages.report.verdict import Evidence, leaked, missing, random
from stages.report.verdict_text import sentence

# Characters of a commit's digest that tell it from others at a glance, as git abbreviates it.
_ABBREVIATED = 7


@dataclass(frozen=True)
class Setting:
    """What of params.yaml the first screen names: the name of `data.source`, and the preset."""

    source: str
    preset: str

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Setting":
        """Return that of params.yaml; of a path or a URL the last part alone, without what may be secret in it."""
        source = str(params["data"]["source"])
        name = PurePosixPath(re.sub(r"[?#].*", "", source, flags=re.DOTALL) if "://" in source else source).name
        return cls(name.rpartition("@")[2] if "://" in source else name, params["preset"])

    @property
    def quick(self) -> bool:
        """Whether it is the quick preset."""
        return self.preset == QUICK


@dataclass(frozen=True)
class Step:
    """What to do next: a sentence, and the line to paste into a terminal."""

    what: Text
    command: str


def about(evidence: Evidence, setting: Setting, commit: Commit | None, language: Language) -> list[Text]:
    """Return what was compared: images, code, and whether other programs slowed the measurements down."""
    first, audit = evidence.ranking[0], evidence.audit
    texts = [
        language.say(
            "%(source)s: %(images)s images of %(classes)s classes, %(test)s of them in the test split.",
            source=Name(setting.source),
            images=language.number(sum(audit["images"].values())),
            classes=language.number(len(first.classes)),
            test=language.number(first.metrics["test_images"]),
        )
    ]
    if commit:
        texts.append(_code(commit, language))
    if loaded := under_load(evidence.ranking):
        names = Names(tuple(loaded))
        texts.append(language.say("The machine was busy while costs of %(names)s were measured.", names=names))
    return texts


def _code(commit: Commit, language: Language) -> Text:
    digest = Name(commit.digest[:_ABBREVIATED])
    if commit.changed:
        return language.say("Code and parameters of commit %(digest)s with uncommitted changes.", digest=digest)
    return language.say("Code and parameters of commit %(digest)s.", digest=digest)


def headline(evidence: Evidence, setting: Setting, language: Language) -> Text:
    """Return the verdict, and of the quick preset what it holds for."""
    found = sentence(evidence, language)
    if not setting.quick or evidence.verdict.chosen is None:
        return found
    return language.say("Without fine-tuning: %(verdict)s", verdict=found)


def warning(setting: Setting, language: Language) -> Text | None:
    """Return what the quick preset leaves out, None where all was done."""
    if not setting.quick:
        return None
    return language.say(
        "Quick run (preset: quick): no network was fine-tuned, and fine-tuned ones may come out in another order."
    )


def next_step(evidence: Evidence, setting: Setting, language: Language) -> Step:
    """Return what to do next: mend what forbids a choice, compare in full, or use what was chosen."""
    if evidence.verdict.chosen is None:
        return _mending(evidence, language)
    if setting.quick:
        return Step(language.say("Next: set preset: full in params.yaml and compare in full:"), "dvc repro")
    return Step(language.say("Next: label new images with it:"), "python -m stages.predict FOLDER")


def _mending(evidence: Evidence, language: Language) -> Step:
    if missing(evidence):
        return Step(language.say("Next: run what is missing:"), "dvc repro")
    if reasons := random(evidence):
        return _published(unreachable=any(reasons), language=language)
    if leaked(evidence):
        return Step(
            language.say("Next: paste the line that audit.html has for these copies into params.yaml, then:"),
            "dvc repro",
        )
    return Step(language.say("Next: add labelled images to the source, then:"), "dvc repro")


def _published(*, unreachable: bool, language: Language) -> Step:
    what = language.say("Next, where published weights can be reached:")
    # Random weights are kept until section `weights` changes.
    return Step(what, f"dvc exp run -S weights.{'if_unreachable=stop' if unreachable else 'source=imagenet'}")
