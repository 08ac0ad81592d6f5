"""A whole rollout on the device of its environments, as one function that never looks at a value.

On a GPU it is captured as one CUDA graph: a rollout is then a single launch, whatever its length. Compiled, some ticks
at a time become one kernel call, on a CPU too.
"""

from __future__ import annotations

from time import perf_counter

import torch
from torch import Tensor

from agents.core.compile import Compiler
from agents.core.tree import to_tensor
from agents.core.types import Episode, OnPolicyAgent
from agents.data.rollout import Rollout, following
from agents.loops.position import Position
from envs.native import NativeVecEnv, tick


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
        self._size = CHUNK if self._obs.dim() == 2 else 1  # convolutions take the compiler long enough
        self._chunk = compiler.step(self._few_ticks)
        self._run = compiler.loop(self._ticks, lambda: [*self._place(), self._returns, self._lengths])

    def _place(self) -> list[Tensor]:
        return [self._env.state, self._env.steps, self._obs]

    def collect(self) -> tuple[Rollout, list[Episode], dict[str, float]]:
        """Return a rollout, the episodes that ended in it, and the seconds it took."""
        env, agent, position = self._env, self._agent, self._position
        began = perf_counter()
        noise = torch.stack(list(agent.noise(self._n_steps, env.num_envs)))
        rows: dict[str, Tensor] = self._run(noise, env.draw(self._n_steps))
        stepped = perf_counter()
        shape = rows["reward"].shape
        judged = agent.evaluate(rows["obs"].flatten(0, 1), rows["action"].flatten(0, 1))
        log_prob, value = (column.view(shape) for column in judged)
        next_value, cut = following(value, agent.value(self._obs)), rows["truncated"]
        if cut.any():
            next_value[cut] = agent.value(rows["next_obs"][cut])
        rollout = Rollout(
            obs=rows["obs"],
            action=rows["action"],
            log_prob=log_prob,
            value=value,
            reward=rows["reward"],
            terminated=rows["terminated"],
            truncated=rows["truncated"],
            next_value=next_value,
            valid=None,
        )
        episodes = _ended(rows)
        position.step += rows["reward"].numel()
        position.obs = self._obs
        position.tracker.returns, position.tracker.lengths = self._returns.cpu().numpy(), self._lengths.cpu().numpy()
        copied = perf_counter()
        return rollout, episodes, {"act": 0.0, "env": stepped - began, "copy": copied - stepped}

    @torch.no_grad()
    def _ticks(self, noise_TNk: Tensor, uniform_TuN: Tensor) -> dict[str, Tensor]:
        """Act and step; return everything that happened, each `[T, N, ...]`, with the returns and lengths so far."""
        stands = [*self._place(), self._returns, self._lengths]
        now, rows = stands, []
        for noise, uniform in zip(noise_TNk.split(self._size), uniform_TuN.split(self._size), strict=True):
            now, columns = self._chunk(*now, noise, uniform)
            rows.append(columns)
        for tensor, moved in zip(stands, now, strict=True):
            tensor.copy_(moved)
        return {key: torch.cat(columns) for key, columns in zip(_ROWS, zip(*rows, strict=True), strict=True)}

    def _few_ticks(self, *stands_and_noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """A pure function of where the environments stand and of the noise of some ticks, `[K, ...]`."""
        state, steps, obs, returns, lengths, noise, uniform = stands_and_noise
        env, rows = self._env, []
        for t in range(len(noise)):
            action, env_action = self._agent.sample(obs, noise[t])
            state, steps, following, reward, terminated, truncated, next_obs = tick(
                torch, env.dynamics, state, steps, env.decode(env_action), uniform[t]
            )
            returns, lengths = returns + reward, lengths + 1
            rows.append((obs, action, reward, terminated, truncated, next_obs, returns, lengths))
            going = ~(terminated | truncated)
            obs, returns, lengths = following, returns * going, lengths * going
        return [state, steps, obs, returns, lengths], [torch.stack(column) for column in zip(*rows, strict=True)]


CHUNK = 8  # ticks compiled as one: more take the compiler longer and gain little
_ROWS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "returns", "lengths")


def _ended(rows: dict[str, Tensor]) -> list[Episode]:
    done = rows["terminated"] | rows["truncated"]
    pairs = zip(rows["returns"][done].tolist(), rows["lengths"][done].tolist(), strict=True)
    return [Episode(return_, length) for return_, length in pairs]
