"""Statistics against closed forms, coverage, and where samples degenerate."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from agents.lab.statistics import bootstrap_interval, interquartile_mean, summarise


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 100, 101])
def test_interquartile_mean_against_sorting_by_hand(size):
    sample = np.random.default_rng(size).exponential(size=size)
    middle = np.sort(sample)[size // 4 : size - size // 4]
    assert interquartile_mean(sample) == pytest.approx(middle.mean(), rel=1e-12)


def test_interquartile_mean_ignores_the_outer_quarters():
    assert interquartile_mean([-1e9, 1, 2, 3, 4, 5, 6, 1e9]) == 3.5


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_agrees_with_resampling_by_hand(confidence):
    rng = np.random.default_rng(0)
    sample = rng.gamma(2.0, 50.0, size=60)
    means = sample[rng.integers(60, size=(50_000, 60))].mean(axis=1)
    ours = bootstrap_interval(sample, confidence)
    assert ours == pytest.approx(np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]), rel=0.01)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(3.0, 1.0, size=50), 0.9, seed=trial)
        hits += low <= 3.0 <= high
    assert 0.82 <= hits / 200 <= 0.96


def test_interval_follows_the_seed():
    sample = np.arange(30.0)
    assert bootstrap_interval(sample, seed=3) == bootstrap_interval(sample, seed=3)
    assert bootstrap_interval(sample, seed=3) != bootstrap_interval(sample, seed=4)


def test_large_samples_are_resampled_in_parts():
    sample = np.random.default_rng(2).normal(size=3_000)
    low, high = bootstrap_interval(sample)
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


@pytest.mark.parametrize(("returns", "lengths"), [([], []), ([1.0], []), ([[1.0]], [[1]])])
def test_no_sample_is_refused(returns, lengths):
    with pytest.raises(ValueError, match="at least one return"):
        summarise(returns, lengths)
