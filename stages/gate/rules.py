"""The rules of the gate, section `gate` of params.yaml: whether a comparison may replace an earlier one.

The measure, such as the accuracy, is `report.measure` of now: that of the winner of each comparison, the backbone that
`export@winner` ships: the recommended one, or else the best. Both are selected in the same way, so that neither is
favoured by chance. Following only the earlier winner would mistake regression to the mean for a regression, and testing
every backbone needs a correction that costs power; `dvc metrics diff` shows all of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.errors import UserError
from stages.core.measure import Measure
from stages.core.predictions import classes_of, fit_temperature, unseen
from stages.core.presets import FULL
from stages.core.settings.gate import GateParams
from stages.core.settings.report import ACCURACY, COST, COSTS, MEASURE, PRESET, backbones_of, winner
from stages.statistics.contest import Contest, read_contest
from stages.statistics.groups import MIN_GROUPS, Groups
from stages.statistics.paired import POWER, min_discordant_pairs
from stages.statistics.pairwise import detectable, difference, difference_interval, p_value

# The weights in data/metrics.json of backbones that are not pretrained.
_NOT_PRETRAINED = ("random", "none")
# A difference and its discordant images are computed from each other so often.
_ROUNDS = 20
# How the outcomes of both are told apart.
_SIDES = ("before", "now")


class GateError(UserError):
    """A rule that is broken, or cannot be checked."""

    kind = "gate"


@dataclass(frozen=True)
class Results:
    """The results of a comparison: the commit or workspace, its metrics and the winner's predictions.

    `repeats` are those of further trainings of the winner, empty where there are none.
    """

    place: str
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame
    repeats: pd.DataFrame

    @property
    def winner(self) -> str:
        """The name of the backbone that ships."""
        return winner(self.metrics)

    @property
    def selected(self) -> float:
        """In which share of the resamples of the test images the winner was selected, 0 to 1."""
        return float(self.metrics[self.winner]["selected_in_resamples"])

    @property
    def backbones(self) -> set[str]:
        """The names of all backbones."""
        return set(backbones_of(self.metrics))

    @property
    def measure(self) -> str:
        """The name of the measure that decided; before there was a choice that was the accuracy."""
        return str(self.metrics.get(MEASURE, ACCURACY))

    @property
    def preset(self) -> str:
        """The preset that the comparison was made with."""
        return str(self.metrics.get(PRESET, FULL))

    def temperature(self) -> float:
        """Return the temperature that the winner is exported with, as stage evaluate fits it."""
        found = unseen(self.predictions, classes_of(self.predictions))
        return fit_temperature(found.actual, found.probabilities)

    def images(self, measure: Measure) -> int:
        """Return the number of test images that the measure is computed on."""
        tested = self.predictions.loc[self.predictions["split"] == "test", "label"]
        return len(tested) if measure.label is None else int((tested == measure.label).sum())


@dataclass(frozen=True)
class Rules:
    """Section `gate` of params.yaml, and the measure that decides by section `report`."""

    params: GateParams
    measure: Measure


def faults(
    before: Results | None, now: Results, groups: "pd.Series[str]", audit: Mapping[str, Any], rules: Rules
) -> list[UserError]:
    """Return every rule that `now` breaks; without `before`, only those that need no comparison.

    `groups` has the name of the group of each image's file, and `audit` is data/audit.json, both of `now`.
    """
    params, found = rules.params, [_leaks(audit, rules.params), _other_measure(now, rules.measure)]
    if before:
        found += [_fall(before, now, groups, rules), _lost(before, now, params), _randomised(before, now, params)]
        found.append(_quicker(before, now))
    return [fault for fault in found if fault]


def summary(before: Results, now: Results, groups: "pd.Series[str]", rules: Rules) -> str:
    """Return a sentence that says what was compared, and which drop would have been detected."""
    pair, measure = _common(before, now, groups, rules.measure), rules.measure
    least = _detectable(pair, rules.params)
    seen = f"no {_drop(measure)} would be detected"
    if least <= (measure.largest(classes_of(now.predictions)) or math.inf):
        seen = f"a {_drop(measure)} of {_amount(least, measure)} would be detected in {100 * POWER:g} % of all cases"
    stable = f"{now.winner} is selected in {100 * now.selected:.0f} of 100 resamples of the test images"
    return f"{measure.words} of the winner {_figures(before, now, pair, measure)}; {seen}; {stable}"


def _drop(measure: Measure) -> str:
    return "drop" if measure.sign > 0 else "rise"


def _amount(difference: float, measure: Measure) -> str:
    return _number(difference, measure) + (" points" if measure.share else "")


def _number(difference: float, measure: Measure) -> str:
    """Return a difference without its unit."""
    return f"{100 * difference:.1f}" if measure.share else f"{difference:.3f}"


def _other_measure(now: Results, measure: Measure) -> GateError | None:
    """Return the fault of results that were decided by another measure, or other costs, than params.yaml has."""
    if now.measure == measure.name:
        if measure.name != COST or now.metrics.get(COSTS) == measure.costs:
            return None
        return GateError(
            f"the results in {now.place} were decided by other costs",
            "those of report.costs",
            "run 'dvc repro', or set report.costs back",
        )
    return GateError(
        f"the results in {now.place} were decided by {now.measure}",
        f"report.measure = {measure.name}",
        "run 'dvc repro', or set report.measure back",
    )


def _detectable(pair: Contest, params: GateParams) -> float:
    """Return the drop that is shown to be larger than `max_fall` with probability `POWER`.

    Above `Measure.largest` no drop is. A drop adds as many discordant images as it has points to those that there are.
    """
    found = params.max_fall
    for _ in range(_ROUNDS):
        # One-sided: as a two-sided test of twice the significance.
        found = params.max_fall + detectable(pair, 2 * params.significance, found)
    return found


def _common(before: Results, now: Results, groups: "pd.Series[str]", measure: Measure) -> Contest:
    """Return the answers of both winners to the test images that both have, with the same label.

    `file` is made of label and content: a relabelled image counts as another image, and is left out.
    """
    tested = [found.predictions[found.predictions["split"] == "test"] for found in (before, now)]
    both = tested[0][["file", "label"]].merge(tested[1][["file", "label"]])
    tables = {place: both.merge(table) for place, table in zip(_SIDES, tested, strict=True)}
    repeats = {
        place: both.merge(found.repeats[found.repeats["split"] == "test"])
        for place, found in zip(_SIDES, (before, now), strict=True)
    }
    scaled = measure.of_probabilities
    temperatures = {
        place: found.temperature() if scaled else None for place, found in zip(_SIDES, (before, now), strict=True)
    }
    return read_contest(measure, tables, groups, repeats, temperatures)


def _leaks(audit: Mapping[str, Any], params: GateParams) -> GateError | None:
    leaks = audit["leaks"]
    if not leaks["split_used"] or leaks["test"] <= params.max_leaks:
        return None
    return GateError(
        f"leakage: {leaks['test']} images are copies of one another, in the source's own test split and outside of it",
        f"at most {params.max_leaks}",
        "name those whose action in data/leaks.csv is not kept in data.exclude, or raise gate.max_leaks",
    )


def _fall(before: Results, now: Results, groups: "pd.Series[str]", rules: Rules) -> GateError | None:
    """Return the fault of a drop that is more than allowed, or of too few images to test for one."""
    params, measure = rules.params, rules.measure
    pair, least = _common(before, now, groups, measure), min_discordant_pairs(params.significance, "greater")
    if len(pair.groups) < least or pair.groups.few:
        return GateError(
            f"{pair.images} {_test_images(measure)}{_of_groups(pair.groups)} are in both, of {before.images(measure)} "
            f"at {before.place} and {now.images(measure)} now",
            f"at least {_least(pair.groups, least)} with the same label, to test a drop for significance",
            f"{_more(pair, now, least, measure)}, or commit a new reference by hand",
        )
    if not fallen(pair, params):
        return None
    shown = f"{_number(_least_fall(pair, params), measure)} with {1 - params.significance:.0%} confidence"
    moved = "fell" if measure.sign > 0 else "rose"
    return GateError(
        f"{measure.words} of the winner {moved} by {_amount(difference(pair), measure)}, and by at least {shown}: "
        f"{_figures(before, now, pair, measure)}",
        f"at most {100 * params.max_fall:g} points" if measure.share else f"at most {params.max_fall:g}",
        "see 'dvc params diff' and 'dvc metrics diff' for what changed, or raise gate.max_fall",
    )


def _more(pair: Contest, now: Results, least: int, measure: Measure) -> str:
    """Return how there would be more images in both: where those of now are few themselves, no commit shares more."""
    images = now.images(measure)
    if pair.images < images and images >= least:
        return "compare with a commit that shares more"
    return f"only more {_test_images(measure)}{' in other groups' if pair.groups.few else ''} help: add some"


def fallen(pair: Contest, params: GateParams) -> bool:
    """Return whether the second is shown to be worse than the first by more than is allowed.

    The probability of that where it is not worse by so much is at most `significance`. Of few images the exact test has
    to agree.
    """
    return _least_fall(pair, params) > params.max_fall and p_value(pair, "greater") <= params.significance


def _least_fall(pair: Contest, params: GateParams) -> float:
    """Return the lower end of the drop's one-sided confidence interval."""
    return difference_interval(pair, 1 - 2 * params.significance).low


def _least(groups: Groups, images: int) -> str:
    return f"{MIN_GROUPS} groups of images" if groups.few else str(images)


def _test_images(measure: Measure) -> str:
    return "test images" if measure.label is None else f"test images of {measure.label}"


def _of_groups(groups: Groups) -> str:
    return "" if groups.alone else f" of {len(groups)} groups"


def _figures(before: Results, now: Results, pair: Contest, measure: Measure) -> str:
    """Return the values of both on the common images, and how many of these differ."""
    first, second = (f"{100 * value:.1f} %" if measure.share else f"{value:.3f}" for value in pair.measured)
    worse, better = pair.only
    changed = f"{worse} newly wrong, {better} newly right"
    if not measure.of_outcomes:
        what = "" if pair.groups.alone else " groups"
        changed = f"{worse}{what} worse, {better} better"
    return (
        f"{first} ({before.winner}) at {before.place}, {second} ({now.winner}) now, on the {pair.images} "
        f"{_test_images(measure)}{_of_groups(pair.groups)} in both ({changed})"
    )


def _lost(before: Results, now: Results, params: GateParams) -> GateError | None:
    lost = sorted(before.backbones - now.backbones)
    if not params.keep_backbones or not lost:
        return None
    return GateError(
        f"no results of {', '.join(lost)}",
        f"those of all {len(before.backbones)} backbones at {before.place}",
        "declare what is missing in params.yaml again, let rank.candidates include it, or set gate.keep_backbones to "
        "false",
    )


def _randomised(before: Results, now: Results, params: GateParams) -> GateError | None:
    """Return the fault of weights that were pretrained before, and are random now."""
    weights = {
        name: before.metrics[name]["weights"]
        for name in sorted(before.backbones & now.backbones)
        if before.metrics[name]["weights"] not in _NOT_PRETRAINED and now.metrics[name]["weights"] == "random"
    }
    if not params.keep_weights or not weights:
        return None
    return GateError(
        f"random weights in {', '.join(weights)}",
        f"{', '.join(sorted(set(weights.values())))} as at {before.place}",
        "make them available to stage weights (weights.if_unreachable: stop), or set gate.keep_weights to false",
    )


def _quicker(before: Results, now: Results) -> GateError | None:
    """Return the fault of a first run in place of a whole one, whose winner may be another head's."""
    if now.preset in (before.preset, FULL):
        return None
    return GateError(
        f"the results in {now.place} are those of preset: {now.preset}",
        f"preset: {before.preset} as at {before.place}",
        f"set preset: {before.preset} in params.yaml and run 'dvc repro'",
    )
