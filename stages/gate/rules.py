"""Whether a comparison may take the place of an earlier one: the rules of section `gate` of params.yaml.

The accuracy is that of the best backbone of each, whichever it was: both were chosen in the same way, so that
chance favours neither. To follow the earlier best alone would take the end of its luck on the test images for
a fall, and to test every backbone needs a correction that hides what a test set can show; `dvc metrics diff`
has them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.errors import UserError
from stages.core.settings.gate import GateParams
from stages.core.settings.report import BEST, RECOMMENDED
from stages.statistics.paired import Pairs, fewest, mcnemar, pair

# What data/metrics.json calls the weights of a backbone that had nothing to learn from.
_UNLEARNT = ("random", "none")


class GateError(UserError):
    """A rule that is broken, or cannot be judged."""

    kind = "gate"


@dataclass(frozen=True)
class Results:
    """One comparison: the commit, or workspace, where it lies, its metrics and the best backbone's predictions."""

    place: str
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame

    @property
    def best(self) -> str:
        """The name of the best backbone."""
        return str(self.metrics[BEST])

    @property
    def backbones(self) -> set[str]:
        """The names of all backbones."""
        return set(self.metrics) - {BEST, RECOMMENDED}

    @property
    def test_images(self) -> int:
        """How many images the accuracies are of."""
        return int((self.predictions["split"] == "test").sum())


def faults(before: Results | None, now: Results, audit: Mapping[str, Any], params: GateParams) -> list[UserError]:
    """Return every rule that `now` breaks; without results `before` those that compare with nothing.

    `audit` is data/audit.json of `now`.
    """
    found = [_leaks(audit, params)]
    if before:
        found += [_fall(before, now, params), _lost(before, now, params), _randomised(before, now, params)]
    return [fault for fault in found if fault]


def summary(before: Results, now: Results, params: GateParams) -> str:
    """Return what was compared, in one sentence, and what that cannot show."""
    least = fewest(params.significance, "greater")
    figures = _figures(before, now, pair(before.predictions, now.predictions))
    return f"best accuracy {figures}; a fall of fewer than {least} images cannot be told from chance"


def _leaks(audit: Mapping[str, Any], params: GateParams) -> GateError | None:
    images, groups = audit["leaks"]["images"], audit["leaks"]["groups"]
    if images <= params.max_leaks:
        return None
    return GateError(
        f"leakage: {images} images (groups of copies: {groups}) lie on several sides of the source's own split",
        f"at most {params.max_leaks}",
        "remove those of data/leaks.csv from the source, or raise gate.max_leaks",
    )


def _fall(before: Results, now: Results, params: GateParams) -> GateError | None:
    """Return the fault of an accuracy that fell further than chance explains, or of too few images to tell."""
    pairs, least = pair(before.predictions, now.predictions), fewest(params.significance, "greater")
    if len(pairs) < least:
        return GateError(
            f"{len(pairs)} test images are in both, of {before.test_images} at {before.place} "
            f"and {now.test_images} now",
            f"at least {least} with the same label, to tell a fall from chance",
            "compare with a commit that shares more, or commit by hand what is to be compared with from now on",
        )
    if pairs.difference <= params.max_fall or mcnemar(pairs, "greater") > params.significance:
        return None
    return GateError(
        f"best accuracy fell by {100 * pairs.difference:.1f} points: {_figures(before, now, pairs)}",
        f"at most {100 * params.max_fall:g} points, unless chance explains them (p above {params.significance:g})",
        "see 'dvc params diff' and 'dvc metrics diff' for what changed, or raise gate.max_fall",
    )


def _figures(before: Results, now: Results, pairs: Pairs) -> str:
    """Return both accuracies on the images of both, and how they differ."""
    first, second = (f"{100 * right.mean():.1f} %" for right in (pairs.first, pairs.second))
    changes = f"{pairs.only_first} newly wrong, {pairs.only_second} newly right, p = {mcnemar(pairs, 'greater'):.2g}"
    return (
        f"{first} ({before.best}) at {before.place}, {second} ({now.best}) now, "
        f"on the {len(pairs)} test images of both ({changes})"
    )


def _lost(before: Results, now: Results, params: GateParams) -> GateError | None:
    lost = sorted(before.backbones - now.backbones)
    if not params.keep_backbones or not lost:
        return None
    return GateError(
        f"no results of {', '.join(lost)}",
        f"those of all {len(before.backbones)} backbones at {before.place}",
        "declare what is missing in params.yaml again, let rank.candidates take it in, or set gate.keep_backbones to "
        "false",
    )


def _randomised(before: Results, now: Results, params: GateParams) -> GateError | None:
    """Return the fault of weights that were learnt before, and are random now."""
    weights = {
        name: before.metrics[name]["weights"]
        for name in sorted(before.backbones & now.backbones)
        if before.metrics[name]["weights"] not in _UNLEARNT and now.metrics[name]["weights"] == "random"
    }
    if not params.keep_weights or not weights:
        return None
    return GateError(
        f"random weights in {', '.join(weights)}",
        f"{', '.join(sorted(set(weights.values())))} as at {before.place}",
        "let stage weights reach them (weights.if_unreachable: stop), or set gate.keep_weights to false",
    )
