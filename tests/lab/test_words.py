"""Numbers and names as people read them."""

from __future__ import annotations

import math

import pytest

from agents.lab.words import duration, number, thousands


@pytest.mark.parametrize(
    ("value", "written", "short"),
    [
        (1_234_567, "1,234,567", "1.23M"),
        (12_345.6, "12,346", "12,346"),
        (123.44, "123.4", "123"),
        (99.44, "99.4", "99.4"),
        (9.999, "10.0", "10.0"),
        (-1.234, "-1.23", "-1.23"),
        (0.5, "0.500", "0.500"),
        (0.05, "0.05", "0.05"),
        (0.000512, "0.000512", "0.000512"),
        (-0.0002, "-0.0002", "-0.0002"),
        (0, "0.00", "0.00"),
        (-0.0, "0.00", "0.00"),
        (math.nan, "", ""),
        (math.inf, "never", "never"),
    ],
)
def test_numbers(value, written, short):
    assert (number(value), number(value, short=True)) == (written, short)


def test_steps_and_times():
    assert [thousands(value) for value in (0.5, 20_000, 1_500_000)] == ["0.5", "20k", "1.5M"]
    assert [duration(value) for value in (0, 0.4, 9.99, 99, 600, 7_200)] == [
        "0 s",
        "0.4 s",
        "10 s",
        "99 s",
        "10 min",
        "2.0 h",
    ]
