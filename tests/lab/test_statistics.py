"""Statistics over seeds against rliable's figures, brute force, closed forms and simulation."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest

from agents.lab import statistics
from agents.lab.statistics import (
    METRICS,
    bootstrap_interval,
    detectable,
    difference,
    estimate,
    first_reaching,
    holm,
    iqm,
    mean,
    mean_between,
    performance_profile,
    probability_of_improvement,
    rank_difference,
    summarise,
)

# Five runs of two algorithms on four tasks (rounded normal variates), and what rliable 1.2.0 makes of them:
# get_interval_estimates with 50,000 resamples (5,000 for the probability of improvement), create_performance_profile
# with 20,000. The intervals are quantiles of random resamples, so they agree to about 0.01.
OURS = [
    [0.2, 0.18, 0.18, 0.21, 0.13],
    [0.66, 0.4, 0.48, 0.41, 0.51],
    [0.82, 0.92, 1.05, 0.89, 0.33],
    [1.01, 1.23, 1.14, 1.17, 0.97],
]
THEIRS = [
    [0.01, 0.11, 0.1, 0.05, 0.1],
    [0.6, 0.61, 0.67, 0.49, 0.83],
    [0.32, -0.06, 0.24, 1.02, 0.52],
    [1.03, 0.95, 0.95, 0.92, 0.99],
]
RLIABLE = {
    "mean": (0.6445, 0.5775, 0.7005),
    "median": (0.647, 0.518, 0.747),
    "IQM": (0.639, 0.518, 0.739),
    "optimality gap": (0.3855, 0.337, 0.448),
}
RLIABLE_IMPROVEMENT = (0.71, 0.58, 0.82)
RLIABLE_PROFILE = {0.1: (1, 1, 1), 0.5: (0.55, 0.4, 0.7), 0.8: (0.45, 0.35, 0.5), 1.0: (0.25, 0.15, 0.35)}


def tasks(scores):
    return [np.array(task) for task in scores]


@pytest.mark.parametrize("metric", METRICS)
def test_aggregates_agree_with_rliable(metric):
    value, low, high = estimate(METRICS[metric], tasks(OURS))
    expected, *bounds = RLIABLE[metric]
    assert value == pytest.approx(expected, abs=1e-9)
    assert (low, high) == pytest.approx(bounds, abs=0.012)


def test_probability_of_improvement_agrees_with_rliable():
    value, low, high = probability_of_improvement(tasks(OURS), tasks(THEIRS))
    assert value == pytest.approx(RLIABLE_IMPROVEMENT[0], abs=1e-9)
    assert (low, high) == pytest.approx(RLIABLE_IMPROVEMENT[1:], abs=0.015)


def test_performance_profile_agrees_with_rliable():
    found = performance_profile(tasks(OURS), np.array(list(RLIABLE_PROFILE)))
    assert np.transpose(found) == pytest.approx(np.array(list(RLIABLE_PROFILE.values())), abs=1e-9)


def test_probability_of_improvement_by_counting_pairs_of_unequal_samples():
    ours, theirs = [[1, 2, 2], [5, 0]], [[2, 0], [5, 5, 7]]
    shares = []
    for x, y in zip(ours, theirs, strict=True):
        pairs = list(itertools.product(x, y))
        shares.append(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    assert probability_of_improvement(tasks(ours), tasks(theirs)).value == pytest.approx(np.mean(shares))


def test_each_task_is_resampled_by_itself():
    low, high = bootstrap_interval(mean, [np.full(5, 1.0), np.full(5, 3.0)])
    assert (low, high) == (2, 2)  # resampling over both would vary


def test_the_bootstrap_agrees_with_resampling_by_hand():
    scores, rng = tasks(OURS), np.random.default_rng(1)
    drawn = [iqm(*(task[rng.integers(5, size=5)] for task in scores)) for _ in range(4_000)]
    assert bootstrap_interval(iqm, scores) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)


def test_one_run_has_no_interval():
    found = estimate(iqm, [np.array([0.5]), np.array([0.4, 0.6])])
    assert found.value == pytest.approx(0.5)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert np.isnan(performance_profile([np.array([0.5])], np.array([0.0, 1.0]))[1]).all()


def test_welch_against_its_formulas():
    x, y = np.array([500.0, 480, 490, 470, 495]), np.array([430.0, 300, 410])
    a, b = x.var(ddof=1) / 5, y.var(ddof=1) / 3
    freedom = (a + b) ** 2 / (a**2 / 4 + b**2 / 2)
    found = difference(x, y)
    assert found.value == pytest.approx(x.mean() - y.mean())
    assert found.low + found.high == pytest.approx(2 * found.value)
    assert found.detectable == pytest.approx(detectable(math.sqrt(a + b), freedom))
    from scipy.stats import t

    assert found.high - found.value == pytest.approx(t.ppf(0.975, freedom) * math.sqrt(a + b))
    assert found.p == pytest.approx(2 * t.sf(found.value / math.sqrt(a + b), freedom))


def test_welch_holds_its_level_with_three_seeds_of_unequal_spread():
    rng = np.random.default_rng(0)
    claimed = [difference(rng.normal(0, 1, 3), rng.normal(0, 5, 3)).p < 0.05 for _ in range(1_000)]
    assert np.mean(claimed) < 0.07


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_detectable_is_detected_four_times_of_five(seeds):
    from scipy.stats import ttest_ind

    shift = detectable(math.sqrt(2 / seeds), 2 * seeds - 2)
    rng = np.random.default_rng(seeds)
    found = ttest_ind(rng.normal(shift, 1, (8_000, seeds)), rng.normal(0, 1, (8_000, seeds)), axis=1)
    assert np.mean((found.pvalue < 0.05) & (found.statistic > 0)) == pytest.approx(0.8, abs=0.02)


def test_a_detectable_as_tables_have_it():
    # 64 a side detect half a standard deviation (Cohen 1988, table 2.4.1)
    assert detectable(math.sqrt(2 / 64), 126) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [([500] * 5, [500] * 5, 1.0), ([500] * 5, [490] * 5, 2 / 252), ([500] * 3, [490] * 3, 2 / 20)],
)
def test_samples_that_do_not_vary(ours, theirs, p):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference(ours, theirs)
    assert (found.value, found.low, found.high) == (ours[0] - theirs[0],) * 3
    assert found.p == pytest.approx(p)
    assert math.isnan(found.detectable)


def test_one_sample_that_does_not_vary():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference([500] * 5, [490, 480, 470])
    assert found.low < 0 < found.value == 20 < found.high
    assert found.p == pytest.approx(0.0742, abs=1e-4)  # t = 2 sqrt(3) at 2 degrees of freedom


def test_one_run_says_nothing():
    found = difference([5.0], [1.0, 2.0])
    assert found.value == 3.5
    assert all(math.isnan(value) for value in (found.low, found.high, found.p, found.detectable))


def test_times_that_never_came_are_compared_by_their_ranks():
    found = rank_difference([1, 2, 3, 4, 5], [9, 8, 7, math.inf, math.inf])
    assert found[:1] + found[3:4] == pytest.approx((-5, 2 / math.comb(10, 5)))  # of all ways to deal, the two extremes
    assert rank_difference([math.inf] * 3, [math.inf] * 3).p == 1
    assert math.isnan(rank_difference([1, math.nan], [1, 2]).p)
    assert math.isnan(rank_difference([1], [1, 2]).p)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # Holm 1979's steps by hand
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    found = holm([math.nan, 0.02, math.nan, 0.03])
    assert [found[1], found[3]] == pytest.approx([0.04, 0.04])
    assert math.isnan(found[0])


def test_holm_rarely_claims_anything_where_nothing_is():
    rng = np.random.default_rng(2)
    wrong = [min(holm(rng.uniform(size=10).tolist())) < 0.05 for _ in range(2_000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.015)


def test_where_a_curve_first_reaches_a_threshold():
    steps, returns = [10, 20, 30, 40], [1.0, 5.0, 4.0, 6.0]
    assert first_reaching(steps, returns, 5) == 20
    assert first_reaching(steps, returns, 5.5) == 40
    assert first_reaching(steps, returns, 7) == math.inf
    assert first_reaching([], [], 0) == math.inf


def test_the_mean_height_of_a_curve():
    steps, returns = [10, 20, 40], [0.0, 6.0, 2.0]
    assert mean_between(steps, returns, 10, 40) == pytest.approx((10 * 3 + 20 * 4) / 30)
    assert mean_between(steps, returns, 15, 30) == pytest.approx((5 * 4.5 + 10 * 5) / 15)  # 3 to 6, then 6 to 4
    assert mean_between(steps, returns, 22, 24) == pytest.approx(5.4)  # between two evaluations
    assert mean_between(steps, returns, 20, 20) == 6.0
    assert mean_between([7], [3.0], 7, 7) == 3.0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 100, 101])
def test_interquartile_mean_against_sorting_by_hand(size):
    sample = np.random.default_rng(size).exponential(size=size)
    middle = np.sort(sample)[size // 4 : size - size // 4]
    assert iqm(sample) == pytest.approx(middle.mean(), rel=1e-12)


def test_interquartile_mean_ignores_the_outer_quarters():
    assert iqm(np.array([-1e9, 1, 2, 3, 4, 5, 6, 1e9])) == 3.5


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_agrees_with_resampling_by_hand(confidence):
    rng = np.random.default_rng(0)
    sample = rng.gamma(2.0, 50.0, size=60)
    means = sample[rng.integers(60, size=(50_000, 60))].mean(axis=1)
    ours = bootstrap_interval(mean, [sample], confidence)
    assert ours == pytest.approx(np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]), rel=0.01)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(mean, [rng.normal(3.0, 1.0, size=50)], 0.9, seed=trial)
        hits += low <= 3.0 <= high
    assert 0.82 <= hits / 200 <= 0.96


def test_interval_follows_the_seed():
    sample = np.arange(30.0)
    assert bootstrap_interval(mean, [sample], seed=3) == bootstrap_interval(mean, [sample], seed=3)
    assert bootstrap_interval(mean, [sample], seed=3) != bootstrap_interval(mean, [sample], seed=4)


def test_large_samples_are_resampled_in_parts():
    sample = np.random.default_rng(2).normal(size=3_000)
    low, high = bootstrap_interval(mean, [sample])
    half = 1.96 * sample.std() / np.sqrt(len(sample))
    assert (low, high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.1 * half)


@pytest.mark.parametrize("sample", [[5.0], [500.0] * 100, [-0.1] * 7])
def test_a_sample_that_does_not_vary_gives_an_interval_of_no_width(sample):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = summarise(sample, [10] * len(sample))
    assert found["ci_low"] == pytest.approx(sample[0])
    assert found["ci_high"] == pytest.approx(sample[0])
    assert found["std"] == pytest.approx(0, abs=1e-12)
    assert found["iqm"] == pytest.approx(sample[0])


def test_summary_against_closed_forms():
    returns, lengths = [1.0, 2.0, 3.0, 10.0], [4, 5, 6, 9]
    found = summarise(returns, lengths)
    assert list(found) == ["mean", "std", "median", "iqm", "ci_low", "ci_high", "length_mean"]
    assert found["mean"] == 4.0
    assert found["std"] == pytest.approx(np.sqrt((9 + 4 + 1 + 36) / 4))
    assert (found["median"], found["iqm"], found["length_mean"]) == (2.5, 2.5, 6.0)
    assert found["ci_low"] < 4.0 < found["ci_high"]
    assert all(type(value) is float for value in found.values())


def test_what_is_resampled_at_once_is_bounded_and_the_same_as_in_one(monkeypatch):
    returns, sizes = np.random.default_rng(0).normal(size=5_000), []

    def noted(*samples):
        sizes.append(samples[0].size)
        return mean(*samples)

    whole = bootstrap_interval(noted, [returns])
    assert max(sizes) <= 2_000_000
    monkeypatch.setattr(statistics, "MOST_VALUES", 5_000_000)
    sizes.clear()
    assert bootstrap_interval(noted, [returns]) == whole
    assert max(sizes) == 5_000_000, "a thousand resamples at once"
    sizes.clear()
    bootstrap_interval(noted, [returns[:1_000]])
    assert max(sizes) == 1_000_000


@pytest.mark.parametrize(("returns", "lengths"), [([], []), ([1.0], []), ([[1.0]], [[1]])])
def test_no_sample_is_refused(returns, lengths):
    with pytest.raises(ValueError, match="at least one return"):
        summarise(returns, lengths)
