"""What twice the training images would bring, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.pages.language import Language, Name, Text, Value
from stages.report.runs import Run
from stages.statistics.groups import MIN_GROUPS
from stages.statistics.learning_curve import FEWEST_DRAWS, FEWEST_POINTS


def outlook_text(subject: Run, ranking: Sequence[Run], language: Language, *, quick: bool = False) -> Text | None:
    """Return what twice the images would bring the linear head of `subject`, or else of the best that has one.

    None where no backbone has a linear head, or `finetune.training_shares` is empty. `quick` is whether the quick
    preset left fractions out.
    """
    run = next((run for run in (subject, *ranking) if run.metrics["learning_curve"]), None)
    if run is None:
        return None
    said = {None: _foreseen, "groups": _groups, "few": _few, "flat": _flat, "level": _level}
    said |= {"few": _left_out} if quick else {}
    said |= {"missed": _missed, "wide": _wide}
    return said[run.metrics["learning_curve"]["unknown"]](run, language)


def _foreseen(run: Run, language: Language) -> Text:
    curve, now = run.metrics["learning_curve"], _now(run, language)
    return language.say(
        "Twice the training images (%(images)s) would bring the linear head of %(name)s from %(now)s to about "
        "%(accuracy)s of the test images (%(confidence)s interval %(low)s to %(high)s). %(backtest)s",
        name=Name(run.backbone),
        now=now,
        confidence=language.share(curve["confidence"]),
        backtest=language.say(
            "From %(known)s of the images now used the same method would have foreseen %(accuracy)s (%(low)s to "
            "%(high)s), and it became %(now)s.",
            now=now,
            **_written(curve["backtest"], language),
        ),
        **_written(curve["twice"], language),
    )


def _groups(run: Run, language: Language) -> Text:
    return language.say(
        "What twice the training images would bring %(name)s cannot be said: the test images come from fewer than "
        "%(least)s groups, too few to tell how certain an accuracy is.",
        name=Name(run.backbone),
        least=language.number(MIN_GROUPS),
    )


def _few(run: Run, language: Language) -> Text:
    return language.say(
        "What twice the training images would bring %(name)s cannot be said: that takes at least %(points)s fractions "
        "of up to half of them in which each class has an image (finetune.training_shares), drawn at least %(draws)s "
        "times (finetune.training_draws).",
        name=Name(run.backbone),
        points=FEWEST_POINTS,
        draws=FEWEST_DRAWS,
    )


def _left_out(run: Run, language: Language) -> Text:
    return language.say(
        "What twice the training images would bring %(name)s cannot be said: preset: quick leaves out most of the "
        "fractions of them that this takes.",
        name=Name(run.backbone),
    )


def _flat(run: Run, language: Language) -> Text:
    fewest, *_, most, _ = run.metrics["shares"]
    return language.say(
        "What twice the training images would bring %(name)s cannot be said: its linear head is not shown to be right "
        "more often with %(most)s images than with %(least)s.",
        name=Name(run.backbone),
        most=language.number(most["training_images"]),
        least=language.number(fewest["training_images"]),
    )


def _level(run: Run, language: Language) -> Text:
    return language.say(
        "What twice the training images would bring %(name)s cannot be said: the curve fitted to the accuracies of its "
        "linear head with fewer images rises no further.",
        name=Name(run.backbone),
    )


def _missed(run: Run, language: Language) -> Text:
    curve = run.metrics["learning_curve"]
    return language.say(
        "What twice the training images would bring %(name)s cannot be said: from %(known)s of %(images)s images the "
        "same method would have foreseen that its linear head is right on %(accuracy)s of the test images "
        "(%(confidence)s interval %(low)s to %(high)s), and it became %(now)s.",
        name=Name(run.backbone),
        now=_now(run, language),
        confidence=language.share(curve["confidence"]),
        **_written(curve["backtest"], language),
    )


def _wide(run: Run, language: Language) -> Text:
    curve = run.metrics["learning_curve"]
    return language.say(
        "What twice the training images would bring %(name)s cannot be said: its linear head, now right on %(now)s of "
        "the test images, would be right on %(low)s to %(high)s (%(confidence)s interval), too wide to be of use; more "
        "test images narrow it.",
        name=Name(run.backbone),
        now=_now(run, language),
        confidence=language.share(curve["confidence"]),
        **_written(curve["twice"], language),
    )


def _now(run: Run, language: Language) -> str:
    """Return the accuracy of the linear head on all images."""
    return language.percent(run.metrics["shares"][-1]["accuracy"])


def _written(forecast: Mapping[str, Any], language: Language) -> dict[str, Value]:
    counts = {key: language.number(forecast[key]) for key in ("known", "images")}
    return {**counts, **{key: language.percent(forecast[key]) for key in ("accuracy", "low", "high")}}
