"""A model of stable-baselines3 (SB3) as a `Policy`, so that the same code evaluates and shows ours and SB3's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from agents.core.tree import to_numpy


class SB3Policy:
    """SB3's PPO or DQN. See `agents.core.types.Policy`.

    Observations are normalised by VecNormalize's statistics where the model was trained with it, and actions are
    clipped to the bounds, as SB3 does both.
    """

    def __init__(self, model: Any, normalizer: Any = None) -> None:
        """`model` is SB3's algorithm, trained or training; `normalizer` its VecNormalize, if it has none of its own."""
        from stable_baselines3 import DQN

        self.device = model.device
        self._model, self._normalizer = model, normalizer or model.get_vec_normalize_env()
        self._q_learning = isinstance(model, DQN)

    def predict(self, obs: Any, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Return actions for a batch of observations `[N, ...]`, drawn from `generator` if not deterministic."""
        with _drawing_from(generator):
            actions, _ = self._model.policy.predict(self._normalised(obs), deterministic=deterministic)
        greedy = torch.as_tensor(actions)
        if deterministic or not self._q_learning:
            return greedy
        coin, choice = torch.rand((2, len(greedy)), generator=generator)
        random = (choice * int(self._model.action_space.n)).long()
        return torch.where(coin < self._model.exploration_rate, random, greedy)

    @torch.inference_mode()
    def inspect(self, obs: Any) -> dict[str, Tensor]:
        """Return `q_values` and their maximum for DQN; `value` and the distribution's parameters for PPO."""
        policy = self._model.policy
        tensors, _ = policy.obs_to_tensor(self._normalised(obs))
        if self._q_learning:
            q_values = policy.q_net(tensors)
            return {"value": q_values.amax(dim=1), "q_values": q_values}
        found = {"value": policy.predict_values(tensors).squeeze(1)}
        distribution = policy.get_distribution(tensors).distribution
        if isinstance(distribution, torch.distributions.Categorical):
            return found | {"probabilities": distribution.probs}
        if isinstance(distribution, torch.distributions.Normal):
            return found | {"mean": distribution.mean, "std": distribution.stddev}
        return found

    def _normalised(self, obs: Any) -> Any:
        arrays = {key: to_numpy(value) for key, value in obs.items()} if isinstance(obs, dict) else to_numpy(obs)
        return arrays if self._normalizer is None else self._normalizer.normalize_obs(arrays)


@contextmanager
def _drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let SB3, which draws from PyTorch's global stream, draw from `generator`; the global stream stays as it was."""
    with torch.random.fork_rng(devices=[], enabled=generator is not None):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        yield
