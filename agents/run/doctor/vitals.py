"""Numbers of a training that its own losses do not have: what reaches the network, what its units do, what was done.

They are read from what was just learnt from; nothing random is drawn and nothing of the training changes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import Space, spaces
from torch import Tensor
from torch.overrides import TorchFunctionMode

from agents.acting.policies import ModelPolicy
from agents.core.tree import rows_of, tree_map
from agents.data.batch import gather
from agents.data.replay import ReplayBuffer
from agents.data.trajectory import Trajectory
from agents.run.doctor.history import DEVIATION
from envs.spaces import leaf_spaces

ROWS = 1024  # transitions that are looked at
SEEN = 128  # of them, observations that the network is asked about ...
PICTURES = 16  # ... or so many where they are pictures
FEW_UNITS = 8  # a smaller layer says little
RECTIFIED = (torch.relu, torch.relu_, F.relu)
SQUASHED = (torch.tanh, F.tanh)
FIRST = (F.linear, F.conv2d)


class Units(TorchFunctionMode):
    """Notes what a network computes while it is active: the share of units that say nothing, in its worst layer.

    Any network's, as calls of PyTorch's functions are noted; modules are left as they are.

    Attributes:
        dead: of the units of each layer of rectified ones the share that is 0 in all rows.
        saturated: of the numbers of each layer of tanh the share beyond 0.99 in size.
        inputs: what the first layer of all is given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dead: list[Tensor] = []
        self.saturated: list[Tensor] = []
        self.inputs: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in FIRST and self.inputs is None:
            self.inputs = args[0]
        elif func in RECTIFIED and result.dim() > 1:
            rows = (0, 2, 3) if result.dim() == 4 else (-2,)
            silent = result.amax(rows) <= 0
            self.dead += [silent.float().mean()] if silent.numel() >= FEW_UNITS else []
        elif func in SQUASHED and result.dim() > 1 and result.shape[-1] >= FEW_UNITS:
            self.saturated.append((result.abs() > 0.99).float().mean())
        return result


class Vitals:
    """Takes a training's numbers now and then.

    Args:
        policy: whose networks are looked at.
        observation_space, action_space: canonical (envs.spaces).

    Attributes:
        words: what the numbers are of, by tag, where that has a name.
    """

    def __init__(self, policy: ModelPolicy, observation_space: Space, action_space: Space) -> None:
        self.words: dict[str, str] = {}
        self._policy, self._action_space = policy, action_space
        leaves = leaf_spaces(observation_space).items()
        boxes = {name: leaf for name, leaf in leaves if isinstance(leaf, spaces.Box)}
        self._vectors = [name for name, leaf in boxes.items() if len(leaf.shape) == 1 and leaf.dtype.kind == "f"]
        self._rows = PICTURES if any(len(leaf.shape) > 1 for leaf in boxes.values()) else SEEN
        self._ranges: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def take(self, data: Trajectory | ReplayBuffer | None) -> dict[str, float]:
        """Return tag -> number of what was learnt from last; nothing where there is nothing yet.

        Args:
            data: the rollout, or what is replayed.
        """
        found = columns(data)
        if found is None:
            return {}
        obs, action, reward = found
        numbers = self._of_observations(obs) | self._of_actions(action) | self._of_rewards(reward)
        numbers |= self._of_network(tree_map(lambda leaf: _spread(leaf, self._rows), obs))
        values = torch.stack([value.detach().float() for value in numbers.values()]).tolist()  # one wait for the device
        taken = dict(zip(numbers, values, strict=True))
        return taken | {"doctor/looked_at": float(len(reward))}

    def _of_observations(self, obs: Any) -> dict[str, Tensor]:
        """Count the numbers of vectors that have been the same in all rows so far."""
        still = []
        for name in self._vectors:
            low, high = (obs[name] if name else obs).aminmax(dim=0)
            if name in self._ranges:
                low, high = torch.minimum(low, self._ranges[name][0]), torch.maximum(high, self._ranges[name][1])
            self._ranges[name] = low, high
            places = (low == high).nonzero().flatten().tolist()
            still += [f"{name or 'observation'}[{i}] = {float(low[i]):g}" for i in places]
        self.words["doctor/constant_features"] = ", ".join(still[:5]) + (", ..." if len(still) > 5 else "")
        return {"doctor/constant_features": torch.tensor(float(len(still)), device=self._policy.device)}

    def _of_actions(self, action: Tensor) -> dict[str, Tensor]:
        """Say how far actions go, where they are a Box: 1 is a bound."""
        space = self._action_space
        if not isinstance(space, spaces.Box) or not space.is_bounded():
            return {}
        low, high = (torch.as_tensor(bound, device=action.device) for bound in (space.low, space.high))
        reach = ((action - (low + high) / 2) / ((high - low) / 2).clamp(min=1e-9)).abs()
        return {"doctor/action_reach": reach.max(), "doctor/actions_at_bounds": (reach > 0.999).float().mean()}

    def _of_rewards(self, reward: Tensor) -> dict[str, Tensor]:
        size = reward.abs()
        return {
            "doctor/reward_size": size.sum() / (size > 0).sum().clamp(min=1),
            "doctor/reward_most": size.max(),
        }

    def _of_network(self, obs: Any) -> dict[str, Tensor]:
        with Units() as units:
            self._policy.inspect(obs, self._policy.initial_carry(rows_of(obs)))
        found = {}
        for tag, shares in (("dead_units", units.dead), ("saturated_units", units.saturated)):
            if shares:
                found[f"doctor/{tag}"] = torch.stack(shares).max()
        if units.inputs is not None:
            sizes = units.inputs.float().square().flatten(1).mean(0).sqrt()
            found["doctor/input_size"] = sizes.max()
            self.words["doctor/input_size"] = f"number {int(sizes.argmax())} of the network's input"
        return found


def returns_of(returns: Collection[float]) -> dict[str, float]:
    """Return tag -> how far the returns of the latest episodes lie apart; nothing of fewer than two."""
    return {DEVIATION: float(np.std(list(returns), ddof=1))} if len(returns) > 1 else {}


def columns(data: Trajectory | ReplayBuffer | None) -> tuple[Any, Tensor, Tensor] | None:
    """Return observations, actions and rewards, `[B, ...]` each, of real transitions, or None without any."""
    if isinstance(data, ReplayBuffer):
        rows = min(int(data.size.min()), -(-ROWS // data.num_envs))
        if not rows:
            return None
        columns = torch.arange(data.num_envs, device=data.device)
        back = torch.arange(1, rows + 1, device=data.device)[:, None]
        where = ((data.head - back) % data.rows * data.num_envs + columns).flatten()
        obs, action, reward = (gather(data.flat, name, where) for name in ("obs", "action", "reward"))
        return obs, action, reward
    if data is None:
        return None
    taken = (data.obs, data.action, data.reward)
    obs, action, reward = tree_map(lambda leaf: leaf.flatten(0, 1), taken)
    if data.valid is not None:
        kept = data.valid.flatten()
        obs, action, reward = tree_map(lambda leaf: leaf[kept], (obs, action, reward))
    if not len(reward):
        return None
    obs, action, reward = tree_map(lambda leaf: _spread(leaf, ROWS), (obs, action, reward))
    return obs, action, reward


def _spread(leaf: Tensor, most: int) -> Tensor:
    """Return at most so many rows, evenly spread."""
    return leaf[:: -(-len(leaf) // most)] if len(leaf) > most else leaf
