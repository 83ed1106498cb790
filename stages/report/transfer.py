"""The gain by transfer learning: pretrained backbones against one that was trained on these images alone."""

from dataclasses import dataclass

from stages.pages.language import Language, Name, Names, Text, Value
from stages.report.heads import unmoved
from stages.report.measure_text import amount
from stages.report.pairwise_comparison import Comparison, PairwiseComparisons, interval
from stages.report.runs import Run


@dataclass(frozen=True)
class Row:
    """One backbone against the one trained from scratch: `comparison` is None for that one itself.

    `accuracies` are those after training on each share of the training images, in the order of `Transfer.shares`, None
    where there is none.
    """

    run: Run
    comparison: Comparison | None
    accuracies: list[float | None]


@dataclass(frozen=True)
class Transfer:
    """The backbone trained from scratch that all are compared with, a row for each backbone, and the text.

    `shares` has each share of the training images, ascending; the last is 1.0, and there is none where
    `finetune.training_shares` is empty.
    """

    from_scratch: Run
    shares: list[float]
    rows: list[Row]
    sentences: list[Text]


def transfer(ranking: list[Run], comparisons: PairwiseComparisons, language: Language) -> Transfer | None:
    """Return the gain by transfer learning; None where no backbone, or each, is trained from scratch.

    `ranking` has the best first.
    """
    from_scratch = next((run for run in ranking if run.from_scratch), None)
    if from_scratch is None or all(run.from_scratch for run in ranking):
        return None
    shares = sorted(_images(from_scratch))
    rows = [_row(run, from_scratch, comparisons, shares) for run in ranking]
    return Transfer(from_scratch, shares, rows, _sentences(from_scratch, rows, shares, comparisons, language))


def _images(run: Run) -> dict[float, int]:
    """Return the number of images of each share that the backbone was trained on."""
    return {share["share"]: share["training_images"] for share in run.metrics["shares"]}


def _row(run: Run, from_scratch: Run, comparisons: PairwiseComparisons, shares: list[float]) -> Row:
    comparison = None if run is from_scratch else comparisons.between(run.backbone, from_scratch.backbone)
    found = {share["share"]: share["accuracy"] for share in run.metrics["shares"]}
    return Row(run, comparison, [found.get(share) for share in shares])


def _sentences(
    from_scratch: Run, rows: list[Row], shares: list[float], comparisons: PairwiseComparisons, language: Language
) -> list[Text]:
    pretrained = [row for row in rows if row.run.pretrained]
    if not pretrained:
        names = Names(tuple(row.run.backbone for row in rows if row.run.random))
        return [language.say("Nothing was transferred: %(names)s began with random weights.", names=names)]
    own, runs = next(row for row in rows if row.run is from_scratch), [row.run for row in pretrained]
    frozen = [] if _better(runs, from_scratch, comparisons) else unmoved(runs, language)
    return [
        transfer_gain_text(runs, from_scratch, comparisons, language),
        *frozen,
        _time(pretrained, own, language),
        *_shares(pretrained[0], own, shares, language),
    ]


def _better(pretrained: list[Run], from_scratch: Run, comparisons: PairwiseComparisons) -> list[Comparison]:
    """Return the comparisons of those that are significantly better than the one trained from scratch."""
    found = [comparisons.between(run.backbone, from_scratch.backbone) for run in pretrained]
    return [comparison for comparison in found if comparison.outcome == "better"]


def transfer_gain_text(
    pretrained: list[Run], from_scratch: Run, comparisons: PairwiseComparisons, language: Language
) -> Text:
    """Return whether pretrained backbones, the best first, are better than that from scratch, and by how much.

    Where they are not, `heads.unmoved` names those of which nothing was unfrozen.
    """
    name = Name(from_scratch.backbone)
    if better := _better(pretrained, from_scratch, comparisons):
        return language.say_plural(
            "Transfer learning helped: %(count)s of %(all)s pretrained backbones is significantly better than "
            "%(name)s, which was trained on these images alone; %(best)s by %(amount)s (%(figures)s).",
            "Transfer learning helped: %(count)s of %(all)s pretrained backbones are significantly better than "
            "%(name)s, which was trained on these images alone; %(best)s by %(amount)s (%(figures)s).",
            len(better),
            all=len(pretrained),
            name=name,
            best=Name(better[0].first),
            amount=amount(comparisons.measure, better[0].difference, language),
            figures=interval(better[0], comparisons, language),
        )
    if all(comparisons.better(from_scratch.backbone, run.backbone) for run in pretrained):
        return language.say(
            "Transfer learning did not help on these images: %(name)s, trained on them alone, is significantly "
            "better than every pretrained backbone.",
            name=name,
        )
    return language.say(
        "Transfer learning could not be shown to help: no pretrained backbone is significantly better than %(name)s, "
        "which was trained on these images alone.",
        name=name,
    )


def _time(pretrained: list[Row], own: Row, language: Language) -> Text:
    """Return how long training took, without those of which only a linear head was solved."""
    trained = [row for row in pretrained if row.run.training_seconds]
    seconds = [row.run.training_seconds for row in trained]
    values: dict[str, Value] = {"own": language.figures(own.run.training_seconds), "name": Name(own.run.backbone)}
    if not trained:
        return language.say(
            "Of the pretrained backbones only linear heads were fitted, on features that are computed once; training "
            "took %(own)s s for %(name)s.",
            **values,
        )
    if len(trained) == 1:
        return language.say(
            "Training took %(seconds)s s for %(best)s, on features that are computed once, and %(own)s s for %(name)s.",
            seconds=language.figures(seconds[0]),
            best=Name(trained[0].run.backbone),
            **values,
        )
    return language.say(
        "Training took from %(least)s to %(most)s s for %(count)s pretrained backbones, on features that are computed "
        "once, and %(own)s s for %(name)s.",
        least=language.figures(min(seconds)),
        most=language.figures(max(seconds)),
        count=len(trained),
        **values,
    )


def _shares(best: Row, own: Row, shares: list[float], language: Language) -> list[Text]:
    """Return how both do with the fewest images that both were trained on."""
    known = _images(best.run)
    few = next((share for share in shares if share < 1 and share in known), None)
    if few is None:
        return []
    stopped = next(share["validation_images"] for share in own.run.metrics["shares"])
    return [
        language.say(
            "With %(share)s of the training images the linear head of %(best)s (%(count)s images) is right on "
            "%(accuracy)s of the test images, %(name)s (%(own_count)s images, and %(validation)s more to stop by) on "
            "%(own)s.",
            share=language.share(few),
            best=Name(best.run.backbone),
            name=Name(own.run.backbone),
            count=language.number(known[few]),
            own_count=language.number(_images(own.run)[few]),
            validation=language.number(stopped),
            accuracy=language.percent(best.accuracies[shares.index(few)]),
            own=language.percent(own.accuracies[shares.index(few)]),
        )
    ]
