"""How images are given to each network, and where that does not seem to suit its weights."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from stages.pages.language import Language, Name, Text
from stages.report.runs import Run
from stages.report.verdict import Evidence

# See stages/networks/expectation.py: 0.6 to 0.8 where preprocessing was right.
FAR = 1.5


def declared_inputs(run: Run) -> str:
    """Return the pixels that a network gets: a format of Keras's by its name, or mean and deviation."""
    declared = run.provenance["inputs"]["declared"]
    return declared if isinstance(declared, str) else f"({_row(declared, 'mean')}) / ({_row(declared, 'deviation')})"


def _row(declared: Mapping[str, Any], key: str) -> str:
    return ", ".join(f"{value:g}" for value in declared[key])


def input_notes(evidence: Evidence, language: Language) -> list[Text]:
    """Return a warning where images reach a network unlike those that its weights were trained on."""
    far = [run for run in evidence.ranking if (run.provenance["inputs"]["distance"] or 0) > FAR]
    if not far:
        return []
    found = [
        language.say(
            "%(name)s (%(inputs)s, distance %(distance)s)",
            name=Name(run.backbone),
            inputs=Name(declared_inputs(run)),
            distance=language.number(run.provenance["inputs"]["distance"], 1),
        )
        for run in far
    ]
    return [
        language.say(
            "The preprocessing may not suit the weights of %(backbones)s: the images reach the first normalisation "
            "unlike those that the weights were trained on (a distance up to 1 is usual). Check inputs in the "
            "backbone's line.",
            backbones=reduce(lambda one, two: language.say("%(first)s; %(second)s", first=one, second=two), found),
        )
    ]
