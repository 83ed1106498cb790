"""What transfer learning bought: pretrained backbones against one that was trained on these pictures alone."""

from dataclasses import dataclass

from stages.results.duels import Duel, Duels, interval
from stages.results.language import Language, Name, Names, Text
from stages.results.runs import Run


@dataclass(frozen=True)
class Row:
    """One backbone against the untaught one: None for that one itself.

    `seconds` is the time that training took, on this machine. `accuracies` are those after training on each share of
    the training pictures, in the order of `Transfer.shares`, None where there is none.
    """

    run: Run
    duel: Duel | None
    seconds: float
    accuracies: list[float | None]


@dataclass(frozen=True)
class Transfer:
    """The untaught backbone that all are compared with, a row for each backbone, and what these say.

    `shares` has each share of the training pictures, ascending, and how many pictures it is; the last is 1.0, and
    there is no other where `finetune.training_shares` is empty.
    """

    untaught: Run
    shares: dict[float, int]
    rows: list[Row]
    sentences: list[Text]


def transfer(ranking: list[Run], duels: Duels, language: Language) -> Transfer | None:
    """Return what transfer learning bought; None where no backbone, or each, is trained on these pictures alone.

    `ranking` has the best first.
    """
    untaught = next((run for run in ranking if run.untaught), None)
    if untaught is None or all(run.untaught for run in ranking):
        return None
    found = sorted(untaught.metrics["shares"], key=lambda share: share["share"])
    shares = {share["share"]: share["training_pictures"] for share in found}
    rows = [_row(run, untaught, duels, list(shares)) for run in ranking]
    return Transfer(untaught, shares, rows, _sentences(untaught, rows, shares, duels, language))


def _row(run: Run, untaught: Run, duels: Duels, shares: list[float]) -> Row:
    duel = None if run is untaught else duels.between(run.backbone, untaught.backbone)
    found = {share["share"]: share["accuracy"] for share in run.metrics["shares"]}
    seconds = run.timings["head_seconds"] + run.timings["finetune_seconds"]
    return Row(run, duel, seconds, [found.get(share) for share in shares])


def _sentences(
    untaught: Run, rows: list[Row], shares: dict[float, int], duels: Duels, language: Language
) -> list[Text]:
    pretrained = [row for row in rows if row.run.pretrained]
    if not pretrained:
        names = Names(tuple(row.run.backbone for row in rows if row.run.random))
        return [language.say("Nothing was transferred: %(names)s began with random weights.", names=names)]
    own = next(row for row in rows if row.run is untaught)
    found = helped([row.run for row in pretrained], untaught, duels, language)
    return [found, _time(pretrained, own, language), *_shares(pretrained[0], own, shares, language)]


def helped(pretrained: list[Run], untaught: Run, duels: Duels, language: Language) -> Text:
    """Return whether pretrained backbones, the best first, are better than the untaught one, and by how much."""
    found = [duels.between(run.backbone, untaught.backbone) for run in pretrained]
    better = [duel for duel in found if duel.outcome == "better"]
    name = Name(untaught.backbone)
    if better:
        return language.say_plural(
            "Transfer learning helped: %(count)s of %(all)s pretrained backbones is significantly better than "
            "%(name)s, which was trained on these pictures alone; %(best)s by %(points)s points (%(figures)s).",
            "Transfer learning helped: %(count)s of %(all)s pretrained backbones are significantly better than "
            "%(name)s, which was trained on these pictures alone; %(best)s by %(points)s points (%(figures)s).",
            len(better),
            all=len(pretrained),
            name=name,
            best=Name(better[0].first),
            points=language.points(better[0].difference),
            figures=interval(better[0], duels, language),
        )
    if all(duel.outcome == "worse" for duel in found):
        return language.say(
            "Transfer learning did not help on these pictures: %(name)s, trained on them alone, is significantly "
            "better than every pretrained backbone.",
            name=name,
        )
    return language.say(
        "Transfer learning could not be shown to help: no pretrained backbone is significantly better than %(name)s, "
        "which was trained on these pictures alone.",
        name=name,
    )


def _time(pretrained: list[Row], own: Row, language: Language) -> Text:
    seconds = [row.seconds for row in pretrained]
    if len(seconds) == 1:
        return language.say(
            "Training took %(seconds)s s for %(best)s, on features that are computed once, and %(own)s s for %(name)s.",
            seconds=language.figures(seconds[0]),
            best=Name(pretrained[0].run.backbone),
            own=language.figures(own.seconds),
            name=Name(own.run.backbone),
        )
    return language.say(
        "Training took from %(least)s to %(most)s s for the pretrained backbones, on features that are computed once, "
        "and %(own)s s for %(name)s.",
        least=language.figures(min(seconds)),
        most=language.figures(max(seconds)),
        own=language.figures(own.seconds),
        name=Name(own.run.backbone),
    )


def _shares(best: Row, own: Row, shares: dict[float, int], language: Language) -> list[Text]:
    """Return how both do with the fewest training pictures, and how many the pretrained one needs to catch up."""
    if not any(share < 1 for share in shares):
        return []
    few, names = min(shares), {"best": Name(best.run.backbone), "name": Name(own.run.backbone)}
    with_few = language.say(
        "With %(share)s of the training pictures (%(count)s) %(best)s is right on %(accuracy)s of the test pictures, "
        "%(name)s on %(own)s.",
        count=language.number(shares[few]),
        share=language.share(few),
        accuracy=language.percent(best.accuracies[0]),
        own=language.percent(own.accuracies[0]),
        **names,
    )
    reached = [
        share
        for share, accuracy in zip(shares, best.accuracies, strict=True)
        if accuracy is not None and accuracy >= own.run.metrics["accuracy"]
    ]
    if not reached or min(reached) == 1:
        return [with_few]
    enough = min(reached)
    return [
        with_few,
        language.say(
            "%(best)s needs %(share)s of them (%(count)s) to be right as often as %(name)s is with all.",
            share=language.share(enough),
            count=language.number(shares[enough]),
            **names,
        ),
    ]
