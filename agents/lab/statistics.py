"""What a sample of episodes says about a policy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def interquartile_mean(values: ArrayLike) -> float:
    """Return the mean of the middle half (Agarwal et al. 2021, arXiv:2108.13264): robust, and steadier than the median.

    A quarter of the values, rounded down, is left out at each end.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(values, np.float64), 0.25))


def bootstrap_interval(values: ArrayLike, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean (Efron 1979); the same for the same seed.

    A sample that does not vary, one value alone among them, gives an interval of no width.
    """
    from scipy.stats import bootstrap

    sample = np.asarray(values, np.float64)
    if np.ptp(sample) == 0:  # SciPy wants two values at least
        return float(sample[0]), float(sample[0])
    interval = bootstrap(
        (sample,),
        np.mean,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
        batch=1_000,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def summarise(returns: ArrayLike, lengths: ArrayLike, confidence: float = 0.95, seed: int = 0) -> dict[str, float]:
    """Describe the returns and lengths of at least one episode.

    Returns:
        `mean`, `std` (of the population, ddof=0, as SB3's evaluate_policy), `median`, `iqm`, `ci_low` and `ci_high`
        (bootstrap interval of the mean) and `length_mean`.

    Raises:
        ValueError: no episodes, or not as many lengths as returns.
    """
    sample, steps = np.asarray(returns, np.float64), np.asarray(lengths, np.float64)
    if sample.ndim != 1 or not sample.size or sample.shape != steps.shape:
        raise ValueError(f"need one length for each of at least one return, got shapes {sample.shape}, {steps.shape}")
    ci_low, ci_high = bootstrap_interval(sample, confidence, seed)
    return {
        "mean": float(sample.mean()),
        "std": float(sample.std()),
        "median": float(np.median(sample)),
        "iqm": interquartile_mean(sample),
        "ci_low": ci_low,
        "ci_high": ci_high,
        "length_mean": float(steps.mean()),
    }
