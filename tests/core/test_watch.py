"""Watch: what makes a module another one, and what does not."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from agents.core.watch import Watch, repeats_itself


class Scaled(nn.Module):
    """Has a plain attribute of each kind, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.linear = nn.Dropout(0.5), nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))
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
    "a hook": lambda module: module.linear.register_forward_hook(print),
    "a hook backwards": lambda module: module.linear.register_full_backward_hook(print),
    "a parameter's hook": lambda module: module.linear.weight.register_hook(print),
    "a hook of all modules": lambda module: nn.modules.module.register_module_forward_hook(print),
    "a hook of all modules backwards": lambda module: nn.modules.module.register_module_full_backward_hook(print),
    "another buffer": set_attribute("mean", torch.ones(2)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed_once(change: Any) -> None:
    module = Scaled()
    watch = Watch(module)
    before = watch.version()
    assert watch.version() == before
    hook = change(module)
    try:
        assert watch.version() != before
        assert watch.version() == watch.version()
        assert not (isinstance(hook, RemovableHandle) and repeats_itself(module.linear)), "hooks may do anything"
    finally:
        if isinstance(hook, RemovableHandle):
            hook.remove()


def test_what_is_put_in_the_place_of_what_was_deleted_is_noticed() -> None:
    """Though it may lie where that lay."""
    module = nn.Sequential(nn.Tanh())
    module.register_buffer("mean", torch.zeros(2))
    watch = Watch(module)
    for _ in range(20):
        before = watch.version()
        kind = type(module[0])
        del module[0]
        module.append(nn.ReLU() if kind is nn.Tanh else nn.Tanh())
        assert watch.version() != before
        before = watch.version()
        del module.mean
        module.register_buffer("mean", torch.ones(2))
        assert watch.version() != before


def test_a_copy_watches_its_own_module() -> None:
    holder: dict[str, Any] = {"module": Scaled()}
    holder["watch"] = Watch(holder["module"])
    copied = copy.deepcopy(holder)
    before, here = copied["watch"].version(), holder["watch"].version()
    copied["module"].mean = torch.ones(2)
    assert copied["watch"].version() != before
    assert holder["watch"].version() == here


def test_what_is_changed_in_place_is_no_change() -> None:
    module = Scaled()
    watch = Watch(module)
    before = watch.version()
    module.mean += 1
    module.linear.weight.data.mul_(2)
    assert watch.version() == before


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
