"""Two sets of predictions for the same images: where they differ, and whether that is significant.

Images that both get right, or both wrong, carry no information about which is better: the tests use only the
discordant ones, never the difference of two accuracies.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# The alternative hypothesis: the two differ, or the first is better.
Alternative = Literal["two-sided", "greater"]


@dataclass(frozen=True)
class Pairs:
    """Whether the first and the second set are right on each of n images: two arrays of shape (n,)."""

    first: NDArray[np.bool_]
    second: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def only_first(self) -> int:
        """How many images the first gets right and the second does not."""
        return int((self.first & ~self.second).sum())

    @property
    def only_second(self) -> int:
        """How many images the second gets right and the first does not."""
        return int((self.second & ~self.first).sum())

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second, -1 to 1."""
        return (self.only_first - self.only_second) / len(self)


def pair(first: pd.DataFrame, second: pd.DataFrame, split: str = "test") -> Pairs:
    """Pair the images of `split` that both tables have with the same label, in the first one's order.

    The tables have `core.predictions.COLUMNS`. `file` is made of label and content: a relabelled image counts as
    another image, and is left out.
    """
    one, other = (table.loc[table["split"] == split, ["file", "label", "predicted"]] for table in (first, second))
    both = one.merge(other, on=["file", "label"], validate="one_to_one", suffixes=("_first", "_second"))
    right = [(both[f"predicted_{name}"] == both["label"]).to_numpy(dtype=np.bool_) for name in ("first", "second")]
    return Pairs(*right)


def mcnemar(pairs: Pairs, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of McNemar's exact test: the probability of such a difference between two equally good sets.

    Of the b + c images that only one set gets right, b are the first's. Where neither is better, b is
    binomial with b + c trials of 1/2: "greater" is P(B ≥ b), "two-sided" P(|B - (b + c)/2| ≥ |b - (b + c)/2|);
    1 if b + c = 0. McNemar 1947, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12, has the test; Dietterich 1998, "Approximate statistical tests for comparing
    supervised classification learning algorithms", Neural Computation 10, recommends it for models that were
    trained once.
    """
    from scipy.stats import binomtest

    differing = pairs.only_first + pairs.only_second
    return float(binomtest(pairs.only_first, differing, alternative=alternative).pvalue) if differing else 1.0


def min_discordant_pairs(significance: float, alternative: Alternative = "two-sided") -> int:
    """Return the smallest number m of discordant pairs, all in favour of the first, that `mcnemar` finds significant.

    That is the smallest m with s / 2^m ≤ significance, where s is 2 for "two-sided", else 1. With n images, no
    difference below m / n can be significant.
    """
    sides = 2 if alternative == "two-sided" else 1
    return max(1, math.ceil(math.log2(sides / significance)))
