"""Resamples are drawn from all images alike; their spread agrees with a published example and known distributions."""

import numpy as np
import pytest
from scipy import stats

from stages.statistics import bootstrap
from stages.statistics.bootstrap import percentile, resamples, unbiased

# Efron and Tibshirani 1993, "An introduction to the bootstrap", table 3.1: LSAT and GPA of 15 law schools.
LAW = np.array(
    [(576, 3.39), (635, 3.30), (558, 2.81), (578, 3.03), (666, 3.44), (580, 3.07), (555, 3.00), (661, 3.43),
     (651, 3.36), (605, 3.13), (653, 3.12), (575, 2.74), (545, 2.76), (572, 2.88), (594, 2.96)]
)  # fmt: skip


def all_resamples(groups: int, count: int, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(resamples(groups, count, seed)))


def test_the_spread_agrees_with_efron_and_tibshirani_1993() -> None:
    """Table 6.1: the standard error of the correlation of LSAT and GPA is 0.132 by 3,200 resamples."""
    drawn = all_resamples(15, 3200).astype(int)
    correlations = [np.corrcoef(np.repeat(LAW, times, axis=0).T)[0, 1] for times in drawn]
    assert np.std(correlations, ddof=1) == pytest.approx(0.132, abs=0.005)


def test_percentiles_agree_with_the_t_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(0, 1, 12)
    found = percentile(all_resamples(12, 50_000) @ values / 12, 12, 0.95)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    # Resamples of so few are skewed as these few are.
    assert found == pytest.approx(expected, abs=0.1)


def test_the_ends_of_a_proportion_are_those_of_the_binomial_distribution() -> None:
    right = np.repeat([1.0, 0.0], [70, 30])
    found = percentile(all_resamples(100, 20_000) @ right, 100, 0.95)
    assert found == pytest.approx(tuple(stats.binom.ppf([0.025, 0.975], 100, 0.7)), abs=1)


def test_every_image_is_drawn_as_often_as_any_other() -> None:
    counts = all_resamples(5, 10_000).sum(axis=0)
    # Four standard deviations of a binomial count.
    assert np.abs(counts - 10_000).max() < 4 * np.sqrt(50_000 * 0.2 * 0.8)


def test_one_image_is_drawn_again_and_again() -> None:
    assert all_resamples(1, 5).tolist() == [[1]] * 5


def test_many_images_are_drawn_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWN", 25)
    parts = list(resamples(10, 7, 0))
    assert [part.shape for part in parts] == [(2, 10), (2, 10), (2, 10), (1, 10)]


def test_the_seed_decides() -> None:
    one, same, other = (all_resamples(20, 5, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_percentiles_leave_out_the_same_share_at_either_end() -> None:
    assert percentile(np.arange(101.0), 1_000_000, 0.9) == pytest.approx((5, 95), abs=1e-3)


def test_a_bias_that_resamples_show_is_subtracted() -> None:
    values = np.random.default_rng(0).normal(0.55, 0.05, 100_000)
    # Resamples lie 0.05 below the estimate: so the estimate lies 0.05 below the truth.
    assert unbiased(values, 1_000_000, 0.6, 0.95) == pytest.approx((0.65 - 1.96 * 0.05, 0.65 + 1.96 * 0.05), abs=1e-3)


def test_the_estimate_is_inside_and_the_ends_are_shares() -> None:
    assert unbiased(np.array([0.5, 0.51]), 100, 0.6, 0.95).low == 0.6
    assert unbiased(np.array([0.7, 0.99]), 100, 0.99, 0.95).high == 1.0
