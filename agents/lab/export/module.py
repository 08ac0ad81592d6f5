"""A trained policy as one function of tensors, from the environment's own observations to its own actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.core.precision import set_precision
from agents.core.tree import restarted
from agents.run.models import LoadedPolicy
from envs.actions import ActionCodec, Hybrid
from envs.adapters.stacking import FrameStack
from envs.errors import UserError
from envs.spaces import ObservationCodec
from envs.words import understood

START, STATE, FRAMES = "episode_start", "state", "frames"
TORCH = {"float32": torch.float32, "float64": torch.float64, "uint8": torch.uint8, "int8": torch.int8}


class Exported(nn.Module):
    """All that lies between an observation and the action: dtypes, frame stack, normaliser, mask, memory, bounds.

    Inputs and outputs are tensors with a first axis of N, in the order of `inputs` and `outputs`. Each part of an
    observation or action is one, named by its path ("obs", "obs/camera", "action"). A policy that remembers takes what
    it gave the step before, zeros at first, and `episode_start`, bool `[N]`, which sets it to that of a new episode.

    Attributes:
        inputs: name -> shape of one environment's, and dtype.
        outputs: names.

    Raises:
        UserError: what the policy needs cannot be put into one function.
    """

    def __init__(self, loaded: LoadedPolicy) -> None:
        super().__init__()
        config = loaded.config.params.observations
        self._codec = ObservationCodec(loaded.own_spaces[0])
        self._rescale = loaded.rescale_action
        self._actions = ActionCodec(loaded.own_spaces[1], self._rescale)
        if used := [name for name, rule in config.model_dump().items() if rule in ("fill", "clip")]:
            raise UserError(f"a policy whose observations are cleaned ({', '.join(used)}) cannot be exported")
        for key, raw, _ in self._codec.leaves:
            if understood(raw) is not None:
                raise UserError(f"observation {key or 'obs'!r} is {raw}: texts and sequences cannot be exported")
        self.policy = loaded.policy
        self.model = loaded.policy.model.eval()
        set_precision(self.model, "float32")  # whatever it was trained in: files know no other numbers
        self._stack = None if config.frame_stack == 1 else FrameStack(self._codec.space, config.frame_stack)
        self.inputs: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        for key, raw, _ in self._codec.leaves:
            self.inputs[named("obs", key)] = (raw.shape or (), _dtype(raw))
        self._stacked = [] if self._stack is None else list(self._stack.leaves.items())
        for key, leaf in self._stacked:
            shape = (config.frame_stack, *(leaf.shape or ()))
            self.inputs[named(FRAMES, key)] = (shape, torch.from_numpy(np.empty(0, leaf.dtype)).dtype)
        if self.policy.recurrent:
            self.inputs[STATE] = (tuple(self.policy.initial_carry(1).shape[1:]), torch.float32)
        if self.policy.recurrent or self._stacked:
            self.inputs[START] = ((), torch.bool)
        self.outputs = [named("action", key) for key, _ in self._actions.leaves]
        self.outputs += [f"next_{name}" for name in self.inputs if name.partition("/")[0] in (FRAMES, STATE)]

    def example(self, rows: int) -> dict[str, Tensor]:
        """Return inputs of zeros, which every space's codec takes, `[rows, ...]`."""
        return {name: torch.zeros((rows, *shape), dtype=dtype) for name, (shape, dtype) in self.inputs.items()}

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for the inputs."""
        given = dict(zip(self.inputs, tensors, strict=True))
        start = given.get(START)
        leaves: dict[str, Any] = {}
        for key, raw, canonical in self._codec.leaves:
            leaves[key] = _canonical(given[named("obs", key)], raw, canonical)
        frames = {}
        for key, _ in self._stacked:
            assert start is not None
            new, old = leaves[key][:, None], given[named(FRAMES, key)]
            gone = start.view(-1, *[1] * (old.ndim - 1))
            frames[key] = torch.where(gone, new.expand_as(old), torch.cat([old[:, 1:], new], dim=1))
            leaves[key] = frames[key].flatten(1) if frames[key].ndim < 4 else frames[key]
        obs: Any = leaves if isinstance(self._codec.space, spaces.Dict) else leaves[""]
        carry: Any = restarted(given[STATE], start) if STATE in given else ()
        acted = self.policy.step(obs, carry, None)
        space, found = self._actions.space, acted.env_action
        columns = space.split(found) if isinstance(space, Hybrid) else [found]
        actions = [_own(part, raw, self._rescale) for part, (_, raw) in zip(columns, self._actions.leaves, strict=True)]
        states = [acted.carry] if STATE in given else []
        return (*actions, *frames.values(), *states)


def named(kind: str, key: str) -> str:
    return f"{kind}/{key}" if key else kind


def _dtype(raw: Space) -> torch.dtype:
    """Return what a part of an observation is taken as: floats as float32, whatever the environment has."""
    if isinstance(raw, spaces.Discrete | spaces.MultiDiscrete):
        return torch.int64
    return TORCH["uint8" if raw.dtype == np.uint8 else "int8" if isinstance(raw, spaces.MultiBinary) else "float32"]


def _canonical(tensor: Tensor, raw: Any, canonical: Any) -> Tensor:
    """Return what `ObservationCodec` makes of numbers that fit."""
    if isinstance(raw, spaces.Discrete):
        return tensor - int(raw.start)
    if isinstance(raw, spaces.MultiDiscrete):
        start = torch.as_tensor(np.asarray(raw.start, np.int64))
        return (tensor - start).reshape(-1, *canonical.shape)
    return tensor.to(TORCH[str(canonical.dtype)]).reshape(-1, *canonical.shape)


def _own(action: Tensor, raw: Any, rescale: bool) -> Tensor:
    """Return what `ActionCodec` makes of the canonical actions of one part, the same arithmetic in torch."""
    if not isinstance(raw, spaces.Box):
        start = torch.as_tensor(np.asarray(getattr(raw, "start", 0), np.int64))
        return action.to(torch.int64).reshape(-1, *raw.shape) + start
    shaped = action.reshape(-1, *raw.shape)
    low, high = (torch.as_tensor(bound.astype(np.float64)) for bound in (raw.low, raw.high))
    if rescale:
        shaped = shaped.clamp(-1.0, 1.0).to(torch.float64) * ((high - low) / 2) + (high + low) / 2
    if raw.dtype.kind in "iu":
        return shaped.round().clamp(low, high).to(torch.int64)
    dtype = torch.float64 if raw.dtype == np.float64 else torch.float32
    return torch.minimum(torch.maximum(shaped.to(dtype), low.to(dtype)), high.to(dtype))
