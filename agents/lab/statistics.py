"""What samples say: of episodes, of runs with several seeds, of several tasks.

A task is an environment with an algorithm. Its scores are an array of shape [..., runs], one score for each run (a
seed); leading axes are bootstrap resamples. Tasks may differ in their number of runs. SciPy is imported where used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = Sequence[NDArray[np.float64]]
NAN = float("nan")
POWER = 0.8  # of a detectable difference
MOST_RESAMPLES, MOST_VALUES = 1_000, 2_000_000  # that are worked out at once: resamples, and values in them


class Estimate(NamedTuple):
    """A value with its 95% interval, whose bounds are nan where there are too few runs for one."""

    value: float
    low: float
    high: float


def mean(*tasks: NDArray[np.float64]) -> Any:
    """Return the mean over tasks of the mean over runs."""
    return np.mean([task.mean(axis=-1) for task in tasks], axis=0)


def median(*tasks: NDArray[np.float64]) -> Any:
    """Return the median over tasks of the mean over runs."""
    return np.median([task.mean(axis=-1) for task in tasks], axis=0)


def iqm(*tasks: NDArray[np.float64]) -> Any:
    """Return the interquartile mean: that of the middle half of all runs of all tasks (Agarwal et al. 2021,
    arXiv:2108.13264). A quarter of the values, rounded down, is left out at each end.
    """
    from scipy.stats import trim_mean

    return trim_mean(np.concatenate(tasks, axis=-1), 0.25, axis=-1)


def optimality_gap(*tasks: NDArray[np.float64]) -> Any:
    """Return by how much runs miss a score of 1 on average; what lies above 1 does not count (Agarwal et al. 2021)."""
    return 1 - mean(*(np.minimum(task, 1) for task in tasks))


METRICS: dict[str, Callable[..., Any]] = {
    "mean": mean,
    "median": median,
    "IQM": iqm,
    "optimality gap": optimality_gap,
}


def bootstrap_interval(
    statistic: Callable[..., Any], samples: Scores, confidence: float = 0.95, resamples: int = 5_000, seed: int = 0
) -> tuple[Any, Any]:
    """Return the percentile bootstrap interval of `statistic(*samples)` (Efron 1979), each sample resampled by itself.

    With runs resampled within their task this is the stratified bootstrap of Agarwal et al. 2021.

    Args:
        statistic: reduces the last axis of its arguments; it may return several numbers on a leading axis.
        samples: arrays of one axis.

    Returns:
        Bounds of the statistic's own shape; nan where a sample has a single value, which has no spread to resample.
    """
    from scipy.stats import bootstrap

    if min(sample.size for sample in samples) < 2:
        missing = np.full(np.shape(statistic(*samples)), NAN)
        return missing, missing
    found = bootstrap(
        samples,
        lambda *data, axis: statistic(*data),
        vectorized=True,
        axis=-1,
        n_resamples=resamples,
        batch=max(min(MOST_RESAMPLES, MOST_VALUES // sum(sample.size for sample in samples)), 1),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def summarise(returns: ArrayLike, lengths: ArrayLike) -> dict[str, float]:
    """Describe the returns and lengths of at least one episode.

    Returns:
        `mean`, `std` (of the population, ddof=0, as SB3's evaluate_policy), `median`, `iqm`, `ci_low` and `ci_high`
        (95% bootstrap interval of the mean; of one episode, its return) and `length_mean`.

    Raises:
        ValueError: no episodes, or not as many lengths as returns.
    """
    sample, steps = np.asarray(returns, np.float64), np.asarray(lengths, np.float64)
    if sample.ndim != 1 or not sample.size or sample.shape != steps.shape:
        raise ValueError(f"need one length for each of at least one return, got shapes {sample.shape}, {steps.shape}")
    low, high = bootstrap_interval(mean, [sample], resamples=9_999) if sample.size > 1 else (sample[0], sample[0])
    return {
        "mean": float(sample.mean()),
        "std": float(sample.std()),
        "median": float(np.median(sample)),
        "iqm": float(iqm(sample)),
        "ci_low": float(low),
        "ci_high": float(high),
        "length_mean": float(steps.mean()),
    }


def estimate(metric: Callable[..., Any], tasks: Scores, resamples: int = 5_000, seed: int = 0) -> Estimate:
    """Return one of `METRICS` over `tasks`, with its stratified bootstrap interval."""
    low, high = bootstrap_interval(metric, tasks, resamples=resamples, seed=seed)
    return Estimate(float(metric(*tasks)), float(low), float(high))


def probability_of_improvement(ours: Scores, theirs: Scores) -> Estimate:
    """Return how probable it is that a run of ours beats one of theirs, ties counting half, averaged over tasks.

    For each task it is Mann and Whitney's U over the number of pairs of runs (Agarwal et al. 2021, section 4.3).

    Args:
        ours, theirs: one array for each task, of the same tasks in the same order.
    """
    from scipy.stats import mannwhitneyu

    def averaged(*samples: NDArray[np.float64]) -> Any:
        wins = [
            mannwhitneyu(x, y, axis=-1, method="asymptotic").statistic / (x.shape[-1] * y.shape[-1])
            for x, y in zip(samples[: len(ours)], samples[len(ours) :], strict=True)
        ]
        return np.mean(wins, axis=0)

    return estimate(averaged, [*ours, *theirs])


def performance_profile(
    tasks: Scores, thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return which part of the runs scores above each threshold, and the bounds of its pointwise 95% interval.

    These are the run-score distributions of Agarwal et al. 2021, section 4.2; each array has the thresholds' shape.
    """

    def above(*samples: NDArray[np.float64]) -> Any:
        return np.stack([mean(*((sample > threshold) * 1.0 for sample in samples)) for threshold in thresholds])

    return above(*tasks), *bootstrap_interval(above, tasks)


class Difference(NamedTuple):
    """The difference of two means, ours less theirs; what too few seeds cannot say is nan.

    Attributes:
        value: the difference.
        low, high: its 95% interval.
        p: how probable a difference at least as large would be if there were none, two-sided.
        detectable: the smallest true difference that so many seeds with these spreads would show in four of five
            experiments, at a two-sided 5% for this difference alone.
    """

    value: float
    low: float = NAN
    high: float = NAN
    p: float = NAN
    detectable: float = NAN


def difference(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """Compare the means of two samples of runs by Welch's t (Welch 1947), which does not assume the same spread.

    With few seeds a percentile bootstrap is too narrow, so t it is. Where neither sample varies, t has no measure: the
    interval has no width then, and p is that of the exact permutation test.
    """
    from scipy.stats import permutation_test, ttest_ind

    x, y = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    value = float(x.mean() - y.mean())
    if min(x.size, y.size) < 2:
        return Difference(value)
    if not _varies(x) and not _varies(y):
        p = 1.0
        if _varies(np.array([x[0], y[0]])):
            draw = {"vectorized": True, "rng": np.random.default_rng(0)}
            p = float(permutation_test((x, y), lambda a, b, axis: a.mean(axis) - b.mean(axis), **draw).pvalue)
        return Difference(value, value, value, p)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # where one of the two does not vary
        welch = ttest_ind(x, y, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    error = float(np.sqrt(x.var(ddof=1) / x.size + y.var(ddof=1) / y.size))
    return Difference(value, float(low), float(high), float(welch.pvalue), detectable(error, float(welch.df)))


def rank_difference(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """Compare two samples of runs by their mean ranks, lowest first, where some numbers are inf, as times of what never
    came to its end are.

    The value is that of ranks among both, ours less theirs, and p that of the permutation test, which is exact for
    samples of 7 or less; nan where one has fewer than two, or holds nan.
    """
    from scipy.stats import permutation_test, rankdata

    x, y = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if min(x.size, y.size) < 2 or np.isnan(x).any() or np.isnan(y).any():
        return Difference(NAN)
    x, y = np.split(rankdata(np.concatenate([x, y])), [x.size])
    draw: dict[str, Any] = {"vectorized": True, "rng": np.random.default_rng(0)}
    found = permutation_test((x, y), lambda a, b, axis: a.mean(axis) - b.mean(axis), **draw)
    return Difference(float(x.mean() - y.mean()), p=float(found.pvalue))


def _varies(sample: NDArray[np.float64]) -> bool:
    """Whether values differ by more than rounding."""
    return bool(np.ptp(sample) > 1e-9 * max(1.0, float(np.abs(sample).max())))


def detectable(error: float, freedom: float) -> float:
    """Return the smallest true difference of means that a two-sided t test at 5% would show in four of five cases.

    It is where the noncentral t distribution puts so much beyond the upper critical value (Cohen 1988, chapter 2);
    what lies beyond the other one, a claim in the wrong direction, does not count.

    Args:
        error: standard error of the difference.
        freedom: degrees of freedom of the test.
    """
    from scipy.special import nctdtrinc
    from scipy.stats import t

    return float(error * nctdtrinc(freedom, 1 - POWER, t.ppf(0.975, freedom)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for how many there are, so that all claims hold together (Holm 1979); nan is not counted."""
    adjusted, known = list(p_values), [index for index, p in enumerate(p_values) if not np.isnan(p)]
    largest = 0.0
    for place, index in enumerate(sorted(known, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(known) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def first_reaching(at: ArrayLike, returns: ArrayLike, threshold: float) -> float:
    """Return the step (or second) `at` which a curve is first at or above `threshold`; inf where it never is.

    Args:
        at: steps or seconds of each evaluation, in order, of shape [evaluations].
        returns: mean return of each.
    """
    reached = np.flatnonzero(np.asarray(returns, np.float64) >= threshold)
    return float(np.asarray(at, np.float64)[reached[0]]) if reached.size else float("inf")


def mean_between(at: ArrayLike, returns: ArrayLike, first: float, last: float) -> float:
    """Return the mean height of a curve from `first` to `last`: the area under its straight lines over their length.

    Args:
        at: steps of each evaluation, in order, of shape [evaluations]; `first` and `last` lie within.
        returns: mean return of each.
    """
    x, y = np.asarray(at, np.float64), np.asarray(returns, np.float64)
    places = np.concatenate([[first], x[(x > first) & (x < last)], [last]])
    heights = np.interp(places, x, y)
    return float(np.trapezoid(heights, places) / (last - first)) if last > first else float(heights[0])
