"""Watch: what makes a module another one, and what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from agents.core.watch import Watch


class Scaled(nn.Module):
    """Has a plain attribute of each kind, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.factor: Any = 2.0
        self.on, self.kind, self.calls = True, "sum", 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.dropout(x) * self.factor


def set_attribute(name: str, value: Any) -> Any:
    return lambda module: setattr(module, name, value)


CHANGES: dict[str, Any] = {
    "a float": set_attribute("factor", 3.0),
    "a flag": set_attribute("on", False),
    "a text": set_attribute("kind", "mean"),
    "an inner module's": lambda module: setattr(module.dropout, "p", 0.1),
    "a new one": set_attribute("bound", 1.0),
    "one that has gone": lambda module: delattr(module, "factor"),
    "an array for a float": set_attribute("factor", np.ones(2)),
    "a tensor for a float": set_attribute("factor", torch.ones(2)),
    "mode": lambda module: module.eval(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_attribute_is_noticed_once(change: Any) -> None:
    module = Scaled()
    watch = Watch(module)
    before = watch.version()
    assert watch.version() == before
    change(module)
    assert watch.version() != before
    assert watch.version() == watch.version()


def test_what_a_module_counts_and_computes_is_no_change() -> None:
    module = Scaled()
    module.factor = float("nan")
    watch = Watch(module)
    before = watch.version()
    for _ in range(3):
        module(torch.ones(2))
    assert module.calls == 3
    module.factor = module.factor
    assert watch.version() == before
