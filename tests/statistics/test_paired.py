"""The test agrees with published examples and with all signs tried, the limits with published ones and simulations."""

from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from stages.statistics.paired import (
    Alternative,
    detectable_difference,
    min_discordant_pairs,
    min_images,
    sign_flip,
    upper_limit,
)


def mcnemar(only_first: int, only_second: int, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of images that are groups of their own, with this many discordant ones and 50 others."""
    return sign_flip(np.repeat([1, -1, 0], [only_first, only_second, 50]), alternative)


# The test -----------------------------------------------------------------------------------------------


def test_two_sided_agrees_with_fay_2010() -> None:
    """Fay 2010, "Exact McNemar's test and matching confidence intervals", vignette of R's package exact2x2."""
    assert mcnemar(2, 9) == pytest.approx(0.06543, abs=5e-6)


def test_two_sided_agrees_with_fagerland_lydersen_and_laake_2013() -> None:
    """Response before and after a therapy (Cavo et al. 2012): 6 and 16 of 161 differ. BMC Med. Res. Methodol. 13:91."""
    assert mcnemar(6, 16) == pytest.approx(0.052479, abs=5e-7)


@pytest.mark.parametrize(("only_first", "only_second", "expected"), [(9, 2, 67 / 2048), (2, 9, 2036 / 2048)])
def test_one_sided_agrees_with_an_example_worked_by_hand(only_first: int, only_second: int, expected: float) -> None:
    # Of 2^11 = 2048 outcomes 1 + 11 + 55 = 67 have 9 heads or more, and all but 1 + 11 = 12 have 2 or more.
    assert mcnemar(only_first, only_second, "greater") == pytest.approx(expected)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("each", [0, 4])
def test_as_many_for_either_side_is_no_evidence(each: int, alternative: Alternative) -> None:
    assert mcnemar(each, each, alternative) >= 0.5
    assert mcnemar(each, each) == 1


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize("differences", [[3, -1, 2, 5, -2, 1, 0], [4, 4, -4], [1, 1, 1, 1, 1, 1], [-2, -7], [0, 0], []])
def test_the_test_of_groups_agrees_with_trying_all_signs(differences: list[int], alternative: Alternative) -> None:
    sums = [np.dot(signs, np.abs(differences)) for signs in product((1, -1), repeat=len(differences))]
    reached = (
        np.abs(sums) >= abs(sum(differences)) if alternative == "two-sided" else np.array(sums) >= sum(differences)
    )
    assert sign_flip(np.array(differences, dtype=np.int64), alternative) == pytest.approx(reached.mean())


def test_many_groups_are_tested_as_the_normal_approximation_says() -> None:
    differences = np.random.default_rng(0).integers(-20, 22, 3000)
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert sign_flip(differences) == pytest.approx(2 * NormalDist().cdf(-abs(z)), rel=0.01)


@pytest.mark.parametrize(
    ("significance", "alternative", "expected"),
    [
        (0.05, "greater", 5),
        (0.05, "two-sided", 6),
        (0.03125, "greater", 5),
        (0.01, "two-sided", 8),
        (0.9, "greater", 1),
    ],
)
def test_fewer_images_than_the_fewest_are_never_significant(
    significance: float, alternative: Alternative, expected: int
) -> None:
    assert min_discordant_pairs(significance, alternative) == expected
    assert mcnemar(expected, 0, alternative) <= significance
    assert mcnemar(expected - 1, 0, alternative) > significance


# The upper limit ----------------------------------------------------------------------------------------

STUDIES = 20_000


def draw(images: int, discordant: float, difference: float) -> np.ndarray:
    """Return how many images only the first and only the second is right on, in studies with such shares."""
    shares = ((discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant)
    return np.random.default_rng(0).multinomial(images, shares, STUDIES).T[:2]


def test_the_limits_agree_with_those_of_r() -> None:
    """`scoreci.mp` of R's package PropCIs: 48 and 41 of 549 differ, 90 % interval -1.57 to 4.14 points."""
    assert upper_limit(549, 48, 41, 0.95) == pytest.approx(0.0414, abs=5e-5)
    assert -upper_limit(549, 41, 48, 0.95) == pytest.approx(-0.0157, abs=5e-5)


@pytest.mark.parametrize("images", [1, 20, 100, 4000])
@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.999])
def test_without_discordant_pairs_the_limit_has_a_closed_form(images: int, confidence: float) -> None:
    z = NormalDist().inv_cdf(confidence)
    assert upper_limit(images, 0, 0, confidence) == pytest.approx(z**2 / (images + z**2), abs=1e-9)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (3, 0), (7, 7), (12, 30), (0, 99), (50, 50)])
def test_at_the_limit_the_score_is_the_quantile(first: int, second: int) -> None:
    images, limit = 100, float(upper_limit(100, first, second, 0.95))
    # The likelihood of the share q that only the second gets right is at its maximum, found by trying all.
    q = np.linspace(max(0, -limit), (1 - limit) / 2, 1_000_001)[1:-1]
    rest = images - first - second
    likelihood = first * np.log(q + limit) + second * np.log(q) + rest * np.log(1 - 2 * q - limit)
    best = q[likelihood.argmax()]
    deviation = np.sqrt(images * (2 * best + limit * (1 - limit)))
    assert (first - second - images * limit) / deviation == pytest.approx(-1.645, abs=2e-3)


def test_limits_stay_possible_and_have_the_shape_of_the_counts() -> None:
    found = upper_limit(10, [[10, 0], [0, 5]], [[0, 10], [0, 5]], 0.95)
    assert found.shape == (2, 2)
    assert found[0, 0] == pytest.approx(1)
    assert -1 < found[0, 1] < -0.5


def test_a_limit_without_confidence_is_the_difference_itself() -> None:
    assert upper_limit(100, 5, 3, 0.5) == upper_limit(100, 5, 3, 0.01) == pytest.approx(0.02)


@pytest.mark.parametrize("confidence", [0.95, 1 - 0.05 / 8])
@pytest.mark.parametrize("images", [60, 100, 400])
@pytest.mark.parametrize("discordant", [0.05, 0.2])
@pytest.mark.parametrize("difference", [0.0, 0.02, 0.05])
def test_the_true_difference_is_above_the_limit_as_rarely_as_the_confidence_says(
    confidence: float, images: int, discordant: float, difference: float
) -> None:
    above = (upper_limit(images, *draw(images, discordant, difference), confidence) < difference).mean()
    assert above <= 1.3 * (1 - confidence)


# What a test set detects --------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [60, 100, 400, 1000])
@pytest.mark.parametrize("discordant", [0.05, 0.17, 0.3])
def test_the_detectable_difference_is_significant_in_about_four_of_five_studies(images: int, discordant: float) -> None:
    from scipy.stats import binom

    difference = detectable_difference(images, discordant, 0.05, images)
    first, second = draw(images, max(discordant, difference), difference)
    p = np.minimum(1, 2 * binom.cdf(np.minimum(first, second), first + second, 0.5))
    assert (p <= 0.05).mean() == pytest.approx(0.78, abs=0.04)


@pytest.mark.parametrize("images", [1, 2, 3, 5, 6, 20, 100])
@pytest.mark.parametrize("discordant", [0.0, 0.1, 1.0])
def test_no_less_is_detectable_than_the_exact_test_can_show(images: int, discordant: float) -> None:
    assert detectable_difference(images, discordant, 0.05, images) >= min_discordant_pairs(0.05) / images


@pytest.mark.parametrize("discordant", [0.0, 0.1, 0.5, 1.0])
def test_the_fewest_images_are_those_that_just_detect_the_difference(discordant: float) -> None:
    fewest = min_images(0.2, discordant, 0.05)
    assert detectable_difference(fewest, discordant, 0.05, fewest) <= 0.2
