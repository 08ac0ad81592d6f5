"""A whole rollout on the device of its environments, as one function that never waits for the host.

On a GPU it is captured as one CUDA graph: a rollout is then a single launch, whatever its length.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from agents.core.compile import Compiler
from agents.core.tree import to_tensor
from agents.core.types import Episode, OnPolicyAgent
from agents.data.rollout import Rollout
from agents.loops.position import Position
from envs.native import NativeVecEnv


class Horizon:
    """Collects rollouts of `n_steps` ticks, each from where `position` stands, and moves it on.

    Args:
        env: environments on the device of the agent.
        compiler: captures the rollout where it captures loops.
    """

    def __init__(
        self, env: NativeVecEnv, agent: OnPolicyAgent, position: Position, n_steps: int, compiler: Compiler
    ) -> None:
        self._env, self._agent, self._position, self._n_steps = env, agent, position, n_steps
        self._obs = to_tensor(position.obs, agent.device).clone()
        self._returns = torch.as_tensor(position.tracker.returns, device=self._obs.device)
        self._lengths = torch.as_tensor(position.tracker.lengths, device=self._obs.device)
        self._run = compiler.loop(self._ticks, lambda: [env.state, env.steps, self._obs, self._returns, self._lengths])

    def collect(self) -> tuple[Rollout, list[Episode], dict[str, float]]:
        """Return a rollout, the episodes that ended in it, and the seconds it took."""
        env, agent, position = self._env, self._agent, self._position
        began = perf_counter()
        noise = torch.stack(list(agent.noise(self._n_steps, env.num_envs)))
        rows: dict[str, Tensor] = self._run(noise, env.draw(self._n_steps))
        stepped = perf_counter()
        shape = rows["reward"].shape
        flat = {key: rows[key].flatten(0, 1) for key in ("obs", "action", "next_obs")}
        log_prob, value = agent.evaluate(flat["obs"], flat["action"])
        rollout = Rollout(
            obs=rows["obs"],
            action=rows["action"],
            log_prob=log_prob.view(shape),
            value=value.view(shape),
            reward=rows["reward"],
            terminated=rows["terminated"],
            truncated=rows["truncated"],
            next_value=agent.value(flat["next_obs"]).view(shape),
            valid=None,
        )
        episodes = _ended(rows)
        position.step += rows["reward"].numel()
        position.obs = self._obs
        position.tracker.returns, position.tracker.lengths = self._returns.cpu().numpy(), self._lengths.cpu().numpy()
        copied = perf_counter()
        return rollout, episodes, {"act": 0.0, "env": stepped - began, "copy": copied - stepped}

    def _ticks(self, noise_TNk: Tensor, uniform_TuN: Tensor) -> dict[str, Tensor]:
        """Act and step; everything that happened, each `[T, N, ...]`, with the returns and lengths so far."""
        rows: dict[str, list[Any]] = {key: [] for key in _ROWS}
        obs, returns, lengths = self._obs, self._returns, self._lengths
        for noise, uniform in zip(noise_TNk.unbind(), uniform_TuN.unbind(), strict=True):
            acted = self._agent.act(obs, noise)
            step = self._env.step_drawn(acted.env_action, uniform)
            returns, lengths = returns + step.reward, lengths + 1
            tick = (obs, acted.action, step.reward, step.terminated, step.truncated, step.next_obs, returns, lengths)
            for key, column in zip(_ROWS, tick, strict=True):
                rows[key].append(column)
            going = ~(step.terminated | step.truncated)
            obs, returns, lengths = step.obs, returns * going, lengths * going
        stacked = {key: torch.stack(columns) for key, columns in rows.items()}
        self._obs.copy_(obs)
        self._returns.copy_(returns)
        self._lengths.copy_(lengths)
        return stacked


_ROWS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "returns", "lengths")


def _ended(rows: dict[str, Tensor]) -> list[Episode]:
    done = rows["terminated"] | rows["truncated"]
    pairs = zip(rows["returns"][done].tolist(), rows["lengths"][done].tolist(), strict=True)
    return [Episode(return_, length) for return_, length in pairs]
