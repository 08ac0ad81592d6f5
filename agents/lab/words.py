"""Numbers and names as people read them."""

from __future__ import annotations

import math
from datetime import timedelta

from agents.run.registry import title_of

LABELS = {"ours": "ours", "sb3": "SB3"}


def shown(label: str) -> str:
    """Return a side's label as people say it."""
    return LABELS.get(label, label)


def task_name(env: str, algo: str) -> str:
    """Return such as "CartPole-v1, PPO"."""
    return f"{env}, {title_of(algo)}"


def number(value: float, short: bool = False) -> str:
    """Write a number with about three digits, however small; "" for nan, "never" for inf.

    From 1,000 on there are no decimals; with `short` from 100 on, and millions are written as such.
    """
    if not math.isfinite(value):
        return "" if math.isnan(value) else "never"
    size = abs(float(f"{value:.3g}"))  # 9.999 is 10.0
    if short and size >= 1e6:
        return f"{value / 1e6:.2f}M"
    if 0 < size < 0.1:
        return f"{value:.3g}"
    decimals = 0 if size >= (100 if short else 1_000) else 1 if size >= 10 else 2 if size >= 1 or size == 0 else 3
    return f"{value or 0.0:,.{decimals}f}"  # never -0.00


def thousands(value: float) -> str:
    """Write 1500000 as 1.5M and 20000 as 20k, exactly."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:g}"


def interval(low: float, high: float) -> str:
    """Write an interval; "" where there is none."""
    return "" if math.isnan(low) else f"{number(low)} to {number(high)}"


def probability(p: float) -> str:
    """Write a p-value; "" for nan."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Write a time in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"


def age(time: timedelta) -> str:
    """Write how long ago something was, in its largest unit."""
    seconds = max(time.total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Write a number of bytes in kB, MB or GB of powers of ten."""
    for unit, length in (("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def printable(text: str) -> str:
    """Put a space where a character could not be printed."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def plural(count: int, noun: str) -> str:
    """Return such as "1 seed" or "5 seeds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    """Begin with a capital letter, unless that would change a name such as lr-1e-4, and end with a full stop."""
    first = text.partition(" ")[0]
    return f"{text[:1].upper() if first.isalpha() else text[:1]}{text[1:]}."
