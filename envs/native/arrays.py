"""The array modules that native environments compute with: NumPy and torch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from envs.api import Array


class Arrays(Protocol):
    """An array module with its random generator and the few operations in which the modules differ."""

    xp: Any
    device: str

    def seed(self, seed: int) -> None: ...

    def uniform(self, *shape: int) -> Array:
        """Draw float64 in [0, 1)."""
        ...

    def zeros(self, count: int) -> Array:
        """Return int64 zeros `[count]`."""
        ...

    def assign(self, old: Array | None, new: Array) -> Array:
        """Return `new`, in the memory of `old` where a captured graph needs it to stay."""
        ...

    def to_numpy(self, values: Array) -> np.ndarray: ...

    def from_numpy(self, values: np.ndarray) -> Array: ...

    def generator_state(self) -> dict[str, Any]: ...

    def set_generator_state(self, state: dict[str, Any]) -> None: ...


class NumpyArrays:
    """NumPy, on the CPU."""

    xp: Any = np
    device = "cpu"

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)

    def seed(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def uniform(self, *shape: int) -> np.ndarray:
        return self._generator.random(shape)

    def zeros(self, count: int) -> np.ndarray:
        return np.zeros(count, np.int64)

    def assign(self, old: np.ndarray | None, new: np.ndarray) -> np.ndarray:
        return new

    def to_numpy(self, values: np.ndarray) -> np.ndarray:
        return values.copy()

    def from_numpy(self, values: np.ndarray) -> np.ndarray:
        return values

    def generator_state(self) -> dict[str, Any]:
        return dict(self._generator.bit_generator.state)

    def set_generator_state(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state


class TorchArrays:
    """torch, on any of its devices; nothing is copied to the host between two steps."""

    def __init__(self, device: str) -> None:
        import torch

        self.xp: Any = torch
        self.device = device
        self.generator = torch.Generator(device)

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def uniform(self, *shape: int) -> Array:
        return self.xp.rand(shape, dtype=self.xp.float64, device=self.device, generator=self.generator)

    def zeros(self, count: int) -> Array:
        return self.xp.zeros(count, dtype=self.xp.int64, device=self.device)

    def assign(self, old: Array | None, new: Array) -> Array:
        return new if old is None else old.copy_(new)

    def to_numpy(self, values: Array) -> np.ndarray:
        return values.cpu().numpy().copy()

    def from_numpy(self, values: np.ndarray) -> Array:
        return self.xp.from_numpy(values).to(self.device)

    def generator_state(self) -> dict[str, Any]:
        return {"torch": self.generator.get_state().numpy()}

    def set_generator_state(self, state: dict[str, Any]) -> None:
        self.generator.set_state(self.xp.from_numpy(np.array(state["torch"])))
