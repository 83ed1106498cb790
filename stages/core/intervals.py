"""Confidence intervals: how far a number measured on a finite test set can be trusted."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """The two ends of an interval, the lower first."""

    low: float
    high: float


def wilson(share: float, trials: float, confidence: float) -> Interval:
    """Return Wilson's interval of a `share` p that is known as if from n `trials`, which need not be a whole number.

    With z the normal quantile of (1 + confidence) / 2: (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n). Unlike
    p ± z √(p(1 - p)/n) it stays within 0 and 1 and keeps a width when every image, or none, is right. Wilson 1927;
    Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion", recommend it.
    """
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    # Exact where rounding would not be.
    return Interval(max(0.0, centre - half) if share > 0 else 0.0, min(1.0, centre + half) if share < 1 else 1.0)


def mean_over_folds(shares: Sequence[float], test_to_training: float, confidence: float) -> Interval:
    """Return the interval of the mean of one fraction per fold, such as its accuracy, by the corrected resampled t.

    With mean m and sample variance s² over K folds, n₂ images tested and n₁ trained on in each, and t the
    quantile of (1 + confidence) / 2 of Student's distribution with K - 1 degrees of freedom:
    m ± t √((1/K + n₂/n₁) s²); `test_to_training` is n₂/n₁. The usual m ± t √(s²/K) treats the folds as
    independent and is too narrow, since they share most of what they train on. Nadeau and Bengio 2003,
    "Inference for the generalization error", Machine Learning 52, section 3. The ends are clipped to 0 and 1.
    """
    low, high = difference_over_folds(shares, test_to_training, confidence)
    return Interval(max(0.0, low), min(1.0, high))


def difference_over_folds(differences: Sequence[float], test_to_training: float, confidence: float) -> Interval:
    """Return the interval of the mean of one difference per fold, such as of two accuracies; see `mean_over_folds`.

    Both were tested on the same folds: what makes one fold harder than another cancels out.
    """
    from scipy.stats import t

    mean, count = statistics.fmean(differences), len(differences)
    deviation = math.sqrt((1 / count + test_to_training) * statistics.variance(differences))
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * deviation
    return Interval(mean - half, mean + half)
