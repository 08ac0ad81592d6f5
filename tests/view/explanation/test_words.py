"""What an explanation says in sentences."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from agents.view.explanation.page import sentences


@pytest.mark.parametrize(
    ("low", "high", "end"),
    [
        (math.nan, math.nan, "is 3.00 instead of 5.00."),
        (0.0, 4.0, "is 3.00 instead of 5.00 (difference 2.00, 95% interval 0.00 to 4.00)."),
    ],
)
def test_an_interval_is_said_where_there_is_one(low: float, high: float, end: str) -> None:
    effect = SimpleNamespace(name="speed", importance=SimpleNamespace(changed=0.25), returns=np.array([3.0]))
    found: Any = SimpleNamespace(
        effects=[effect],
        returns=np.array([5.0]),
        loaded=SimpleNamespace(action_space=spaces.Discrete(2)),
        loss=lambda _: SimpleNamespace(value=2.0, low=low, high=high),
    )
    (line,) = sentences(found)
    assert line.startswith("What counts most is speed: with other states' values in its place 25% of the actions")
    assert line.endswith(end)


def test_where_no_feature_counts_none_counts_most() -> None:
    effects = [SimpleNamespace(name=name, importance=SimpleNamespace(changed=0.0)) for name in ("angle", "speed")]
    found: Any = SimpleNamespace(effects=effects)
    (line,) = sentences(found)
    assert line.startswith("Nothing counts: ")
