"""Whether the test images that the source brought are like its others: the comparison holds for images like these."""

import math

from stages.core.intervals import Interval, wilson
from stages.pages.language import Language, Name, Text, Value
from stages.report.runs import Run
from stages.report.verdict import Evidence


def source_split_note(evidence: Evidence, language: Language) -> list[Text]:
    """Return a warning where the source's own test images are much easier or harder than its validation images."""
    run, images = evidence.verdict.subject, evidence.audit["splits"]["validation"]
    if not evidence.source_split or not images:
        return []
    harder, easier = _difference(run, images)
    if harder <= 0 <= easier:
        return []
    values: dict[str, Value] = {
        "name": Name(run.backbone),
        "test": language.percent(run.metrics["accuracy"]),
        "validation": language.percent(run.metrics["validation"]["accuracy"]),
    }
    if harder > 0:
        return [
            language.say(
                "The source's own test images are easier than its others: %(name)s is right on %(test)s of them and on "
                "%(validation)s of the validation images, and chance does not explain that. These numbers hold for "
                "images like the former; split.use_folders: false tests on a mixture.",
                **values,
            )
        ]
    return [
        language.say(
            "The source's own test images are harder than its others: %(name)s is right on %(test)s of them and on "
            "%(validation)s of the validation images, and chance does not explain that. These numbers hold for images "
            "like the former; split.use_folders: false tests on a mixture.",
            **values,
        )
    ]


def _difference(run: Run, images: int) -> Interval:
    """Return the interval of the accuracy on the test images minus that on so many validation images.

    Of two independent shares by their Wilson intervals: Newcombe 1998, "Interval estimation for the difference between
    independent proportions", Statistics in Medicine 17, method 10. Validation images are worth as many independent ones
    as test images are.
    """
    test, validation = run.metrics["accuracy"], run.metrics["validation"]["accuracy"]
    other = wilson(validation, images / run.metrics["design_effect"], run.metrics["confidence"])
    difference = test - validation
    return Interval(
        difference - math.hypot(test - run.interval.low, other.high - validation),
        difference + math.hypot(run.interval.high - test, validation - other.low),
    )
