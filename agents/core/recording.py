"""Noting the operations that PyTorch runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch.utils._python_dispatch import TorchDispatchMode


class Noted(NamedTuple):
    """An operation that was run."""

    func: Any
    args: Sequence[Any]
    named: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """Its name without that of its overload; ending in "_" where it changes its first argument."""
        return str(self.func._schema.name).removeprefix("aten::")

    @property
    def is_view(self) -> bool:
        """Whether it only names memory anew: what it returns is an alias that it does not write to."""
        if self.name in ("squeeze_", "t_", "transpose_", "unsqueeze_"):  # which change the name alone
            return True
        made = self.func._schema.returns
        return all(each.alias_info is not None and not each.alias_info.is_write for each in made)


class Recorder(TorchDispatchMode):
    """Notes the operations that are run while it is active.

    Args:
        kept: what is noted of a tree of arguments or results; by default the same tensors.
    """

    def __init__(self, kept: Callable[[Any], Any] = lambda tree: tree) -> None:
        super().__init__()
        self.noted: list[Noted] = []
        self._kept = kept

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch would import its compiler, which takes 2 s

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.noted.append(Noted(func, *self._kept((args, kwargs or {}, result))))
        return result
