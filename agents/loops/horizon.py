"""Many ticks on the device of their environments, as one function that never looks at a value.

On a GPU it is captured as one CUDA graph: a rollout is then a single launch, whatever its length. Compiled, some ticks
at a time become one kernel call, on a CPU too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.core.runtime import Compiler
from agents.core.tree import to_tensor
from agents.core.types import Episode
from agents.loops.position import Position
from envs.native.vec_env import NativeVecEnv, tick


class Horizon:
    """Acts and steps from where `position` stands, and moves it on.

    Args:
        env: native environments on tensors.
        sample: acts on observations `[N, ...]` with one tick's noise; a pure function of tensors on the device of
            `env` that returns the action to store and the environment's.
        ticks: how many there usually are at a time. So many are captured as one where the compiler captures loops;
            another number runs as it is.
    """

    def __init__(
        self,
        env: NativeVecEnv,
        sample: Callable[[Any, Tensor], tuple[Tensor, Tensor]],
        position: Position,
        ticks: int,
        compiler: Compiler,
    ) -> None:
        self._env, self._sample, self._position, self._usual = env, sample, position, ticks
        self._obs = to_tensor(position.obs, torch.device(env.device)).clone()
        self._returns = torch.as_tensor(position.tracker.returns, device=self._obs.device)
        self._lengths = torch.as_tensor(position.tracker.lengths, device=self._obs.device)
        convolutional = self._obs.dim() > 2  # which takes the compiler long enough
        self._size = 1 if convolutional else ticks if ticks <= MOST else CHUNK
        self._chunk = compiler.step(self._few_ticks)
        self._captured = compiler.loop(self._ticks, lambda: [*self._place(), self._returns, self._lengths])

    def _place(self) -> list[Tensor]:
        return [self._env.state, self._env.steps, self._obs]

    def advance(self, noise: Tensor) -> tuple[dict[str, Tensor], list[Episode]]:
        """Make a tick for each row of `noise` `[T, N, ...]`.

        Returns:
            What happened, each `[T, N, ...]`: `obs`, `action`, `reward`, `terminated`, `truncated`, `next_obs`, and
            `returns` and `lengths` of the episodes so far; the next call may overwrite it. And the episodes that ended.
        """
        position = self._position
        run = self._captured if len(noise) == self._usual else self._ticks
        rows: dict[str, Tensor] = run(noise, self._env.draw(len(noise)))
        position.step += rows["reward"].numel()
        position.obs = self._obs
        position.tracker.returns, position.tracker.lengths = self._returns.cpu().numpy(), self._lengths.cpu().numpy()
        return rows, _ended(rows)

    @torch.no_grad()
    def _ticks(self, noise_TNk: Tensor, uniform_TuN: Tensor) -> dict[str, Tensor]:
        """Act and step; return everything that happened, each `[T, N, ...]`, with the returns and lengths so far."""
        stands = [*self._place(), self._returns, self._lengths]
        now, rows = stands, []
        for noise, uniform in zip(noise_TNk.split(self._size), uniform_TuN.split(self._size), strict=True):
            run = self._chunk if len(noise) == self._size else self._few_ticks  # one length is compiled, no more
            now, columns = run(*now, noise, uniform)
            rows.append(columns)
        for tensor, moved in zip(stands, now, strict=True):
            tensor.copy_(moved)
        columns = rows[0] if len(rows) == 1 else [torch.cat(parts) for parts in zip(*rows, strict=True)]
        return dict(zip(_ROWS, columns, strict=True))

    def _few_ticks(self, *stands_and_noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """A pure function of where the environments stand and of the noise of some ticks, `[K, ...]`."""
        state, steps, obs, returns, lengths, noise, uniform = stands_and_noise
        env, rows = self._env, []
        for t in range(len(noise)):
            action, env_action = self._sample(obs, noise[t])
            state, steps, following, reward, terminated, truncated, next_obs = tick(
                torch, env.dynamics, state, steps, env.decode(env_action), uniform[t]
            )
            returns, lengths = returns + reward, lengths + 1
            rows.append((obs, action, reward, terminated, truncated, next_obs, returns, lengths))
            going = ~(terminated | truncated)
            obs, returns, lengths = following, returns * going, lengths * going
        return [state, steps, obs, returns, lengths], [torch.stack(column) for column in zip(*rows, strict=True)]


CHUNK = 8  # ticks compiled as one: more take the compiler longer and gain little ...
MOST = 16  # ... but up to so many, if that is all there are
_ROWS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "returns", "lengths")


def _ended(rows: dict[str, Tensor]) -> list[Episode]:
    done = rows["terminated"] | rows["truncated"]
    if not done.any():
        return []
    pairs = zip(rows["returns"][done].tolist(), rows["lengths"][done].tolist(), strict=True)
    return [Episode(return_, length) for return_, length in pairs]
