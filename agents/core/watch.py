"""Noticing that a module is not what it was: replaced layers, hooks, modes, frozen or moved parameters."""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import Any

import torch
from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")  # of a module
EVERYWHERE: list[dict[int, Any]] = [getattr(torch.nn.modules.module, f"_global{name}") for name in HOOKS]


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the flags, floats and texts among one module's own attributes, such as a Dropout's `p`; not its mode."""
    found = {name: value for name, value in vars(module).items() if isinstance(value, bool | float | str)}
    found.pop("training", None)
    return found


def repeats_itself(module: nn.Module) -> bool:
    """Whether all that `module` runs is PyTorch's code or this suite's, which does the same in each call.

    Hooks, replaced methods and modules of others may do more than compute: what has noted one call's operations would
    leave it out.
    """
    return all(
        type(part).__module__.startswith(("torch.nn.", "agents."))
        and not any(callable(value) and hasattr(type(part), name) for name, value in vars(part).items())
        and not any(getattr(part, name) for name in HOOKS)
        for part in module.modules()
    ) and not (any(EVERYWHERE) or any(parameter._backward_hooks for parameter in module.parameters()))


def suits_numpy(module: nn.Module) -> bool:
    """Whether NumPy may repeat what `module` runs, and may gain by it: it repeats itself, without convolutions."""
    return repeats_itself(module) and not any(isinstance(part, nn.Conv2d) for part in module.modules())


class Watch:
    """Tells versions of a module apart by the structure and state that compiled programs and views rely on.

    Plain attributes are part of it as far as `plain_attributes` goes. Whole numbers are not, as modules count their
    own calls in them and would be other ones after each; nor is what lists, tuples and other objects hold.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._version = 0
        self._take()

    def _take(self) -> None:
        modules = list(self._module.modules())
        self.modules = [module.__dict__ for module in modules]
        self._read = [itemgetter("training", *plain_attributes(module)) for module in modules]
        self._parameters = list(self._module.parameters())
        self._hooks = [fields[name] for fields in self.modules for name in HOOKS]
        kinds = ("_modules", "_parameters", "_buffers")
        self._inside = [fields[kind] for fields in self.modules for kind in kinds]
        # what is told apart by its place in memory is kept, so that nothing new lies there
        forwards = [fields.get("forward") for fields in self.modules]
        self._held = modules, forwards, [one for inside in self._inside for one in inside.values()]
        self._seen = self._now()

    def _now(self) -> list[Any]:
        found: list[Any] = [
            (
                read(fields),
                len(fields),  # methods given to this module alone, and new attributes
                id(fields.get("forward")),
            )
            for fields, read in zip(self.modules, self._read, strict=True)
        ]
        found += [(one.data_ptr(), one.requires_grad, *(one._backward_hooks or ())) for one in self._parameters]
        found += chain.from_iterable(self._hooks)  # their numbers, which are given once
        found += chain.from_iterable(EVERYWHERE)
        found += map(len, self._inside)
        found += map(id, chain.from_iterable(map(dict.values, self._inside)))
        return found

    def version(self) -> int:
        """Return a number that is another one whenever the module has changed since the last call."""
        try:
            changed = self._now() != self._seen
        except (KeyError, RuntimeError, ValueError):  # an attribute has gone, or an array or tensor taken its place
            changed = True
        if changed:
            self._take()
            self._version += 1
        return self._version

    def train(self, mode: bool) -> None:
        """Do what `nn.Module.train` does, at a fraction of its time."""
        for fields in self.modules:
            fields["training"] = mode
