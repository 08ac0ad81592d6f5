"""Numbers and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

NAMES = {"ours": "ours", "sb3": "SB3"}


def shown(label: str) -> str:
    """Return a label as people say it."""
    return NAMES.get(label, label)


def task_name(env: str, algo: str) -> str:
    """Return such as "CartPole-v1, PPO"."""
    return f"{env}, {algo.upper()}"


def points(value: float) -> str:
    """Write a return, or a figure, with about three digits; "" for nan."""
    if not math.isfinite(value):
        return "" if math.isnan(value) else "never"
    size = abs(float(f"{value:.3g}"))  # 9.999 is 10.0
    decimals = 0 if size >= 1_000 else 1 if size >= 10 else 2 if size >= 1 or size == 0 else 3
    return f"{value:,.{decimals}f}"


def thousands(value: float) -> str:
    """Write 1500000 as 1.5M and 20000 as 20k."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:g}"


def interval(low: float, high: float) -> str:
    """Write an interval; "" where there is none."""
    return "" if math.isnan(low) else f"{points(low)} to {points(high)}"


def probability(p: float) -> str:
    """Write a p-value; "" for nan."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def plural(count: int, noun: str) -> str:
    """Return such as "1 seed" or "5 seeds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(parts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def sentence(text: str) -> str:
    """Begin with a capital letter and end with a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
