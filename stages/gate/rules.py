"""The rules of the gate, section `gate` of params.yaml: whether a comparison may replace an earlier one.

The accuracy is that of the winner of each comparison, the backbone that `export@winner` ships: the recommended one, or
else the best. Both are selected in the same way, so that neither is favoured by chance. Following only the earlier
winner would mistake regression to the mean for a regression, and testing every backbone needs a correction that costs
power; `dvc metrics diff` shows all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.errors import UserError
from stages.core.settings.gate import GateParams
from stages.core.settings.report import BEST, RECOMMENDED, winner
from stages.statistics.paired import POWER, Pairs, detectable_difference, mcnemar, min_discordant_pairs, pair

# The weights in data/metrics.json of backbones that are not pretrained.
_NOT_PRETRAINED = ("random", "none")


class GateError(UserError):
    """A rule that is broken, or cannot be checked."""

    kind = "gate"


@dataclass(frozen=True)
class Results:
    """The results of a comparison: the commit or workspace, its metrics and the winner's predictions."""

    place: str
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame

    @property
    def winner(self) -> str:
        """The name of the backbone that ships."""
        return winner(self.metrics)

    @property
    def backbones(self) -> set[str]:
        """The names of all backbones."""
        return set(self.metrics) - {BEST, RECOMMENDED}

    @property
    def test_images(self) -> int:
        """The number of images that the accuracies are computed on."""
        return int((self.predictions["split"] == "test").sum())


def faults(before: Results | None, now: Results, audit: Mapping[str, Any], params: GateParams) -> list[UserError]:
    """Return every rule that `now` breaks; without `before`, only those that need no comparison.

    `audit` is data/audit.json of `now`.
    """
    found = [_leaks(audit, params)]
    if before:
        found += [_fall(before, now, params), _lost(before, now, params), _randomised(before, now, params)]
    return [fault for fault in found if fault]


def summary(before: Results, now: Results, params: GateParams) -> str:
    """Return a sentence that says what was compared, and which drop would have been detected."""
    pairs = pair(before.predictions, now.predictions)
    discordant = (pairs.only_first + pairs.only_second) / len(pairs)
    # One-sided: as a two-sided test of twice the significance.
    least = detectable_difference(len(pairs), discordant, 2 * params.significance)
    seen = f"a drop of {100 * min(least, 1):.1f} points would be detected in {100 * POWER:g} % of all cases"
    return f"accuracy of the winner {_figures(before, now, pairs)}; {seen}"


def _leaks(audit: Mapping[str, Any], params: GateParams) -> GateError | None:
    images, groups = audit["leaks"]["images"], audit["leaks"]["groups"]
    if images <= params.max_leaks:
        return None
    return GateError(
        f"leakage: {images} images (groups of copies: {groups}) are in several splits of the source",
        f"at most {params.max_leaks}",
        "remove those of data/leaks.csv from the source, or raise gate.max_leaks",
    )


def _fall(before: Results, now: Results, params: GateParams) -> GateError | None:
    """Return the fault of a significant drop in accuracy, or of too few images to test for one."""
    pairs, least = pair(before.predictions, now.predictions), min_discordant_pairs(params.significance, "greater")
    if len(pairs) < least:
        return GateError(
            f"{len(pairs)} test images are in both, of {before.test_images} at {before.place} "
            f"and {now.test_images} now",
            f"at least {least} with the same label, to test a drop for significance",
            "compare with a commit that shares more, or commit a new reference by hand",
        )
    if pairs.difference <= params.max_fall or mcnemar(pairs, "greater") > params.significance:
        return None
    return GateError(
        f"accuracy of the winner fell by {100 * pairs.difference:.1f} points: {_figures(before, now, pairs)}",
        f"at most {100 * params.max_fall:g} points, unless not significant (p above {params.significance:g})",
        "see 'dvc params diff' and 'dvc metrics diff' for what changed, or raise gate.max_fall",
    )


def _figures(before: Results, now: Results, pairs: Pairs) -> str:
    """Return both accuracies on the common images, and their difference."""
    first, second = (f"{100 * right.mean():.1f} %" for right in (pairs.first, pairs.second))
    changes = f"{pairs.only_first} newly wrong, {pairs.only_second} newly right, p = {mcnemar(pairs, 'greater'):.2g}"
    return (
        f"{first} ({before.winner}) at {before.place}, {second} ({now.winner}) now, "
        f"on the {len(pairs)} test images of both ({changes})"
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
