"""Collecting trajectories tick by tick, from any environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
import torch

from agents.acting.policies import ModelPolicy
from agents.acting.state import ActorState
from agents.core.tree import restarted, to_numpy, to_tensor, tree_map, tree_to_tensor
from agents.core.types import Episodes
from agents.data.storage import Rows
from agents.data.trajectory import Final, Trajectory
from envs.api import Step, VecEnv

Keep = Literal["truncated", "ended"]  # whose final observations a trajectory keeps


@dataclass(slots=True)
class Collected:
    """A trajectory, the episodes that ended in it, the seconds of each phase, and the steps of its last tick."""

    trajectory: Trajectory
    episodes: list[Episodes]
    seconds: dict[str, float] = field(default_factory=dict)
    last_steps: int = 0


class Collector(Protocol):
    """Acts and steps from where `state` stands, and moves it on."""

    state: ActorState

    def collect(self, ticks: int, meanwhile: Callable[[], None] | None = None) -> Collected:
        """Make so many ticks.

        Args:
            ticks: how many, up to the number the collector was made for.
            meanwhile: called once, while environments in other processes make the first of them.
        """
        ...


class TickCollector:
    """Collects tick by tick. Observations cross to the policy's device once, and are acted on and stored there.

    Args:
        env: of any kind that speaks NumPy.
        policy: acts.
        state: where acting stands.
        ticks: how many ticks are collected at the most.
        total_timesteps: environment steps of the whole training, which exploration is scheduled by.
        keep: whose final observations are kept: of truncated transitions, or of all that ended their episode.
    """

    def __init__(
        self,
        env: VecEnv,
        policy: ModelPolicy,
        state: ActorState,
        *,
        ticks: int,
        total_timesteps: int,
        keep: Keep = "truncated",
    ) -> None:
        self.state = state
        self._env, self._policy, self._keep, self._total = env, policy, keep, total_timesteps
        self._device = policy.device
        self._on_host = self._device.type == "cpu"
        self._rows = Rows(ticks, self._device)
        self._host_rows = self._rows if self._on_host else Rows(ticks, torch.device("cpu"))

    def collect(self, ticks: int, meanwhile: Callable[[], None] | None = None) -> Collected:
        """See `Collector`.

        Raises:
            EnvError: an environment broke its contract.
        """
        env, state, policy = self._env, self.state, self._policy
        began = perf_counter()
        act = policy.actor()
        progress = [(state.step + tick * env.num_envs) / self._total for tick in range(ticks)]
        noise = policy.draw_noise((ticks, env.num_envs), progress, state.generator)
        noise = tree_map(to_numpy, noise) if self._on_host else noise
        carry, episodes, finals, valids = tree_map(torch.clone, state.carry), [], [], {}
        start = to_numpy(state.start)
        stepping = aside = 0.0
        for t in range(ticks):
            obs = state.obs if self._on_host else tree_to_tensor(state.obs, self._device)
            acted = act(obs, state.carry, tree_map(lambda leaf, t=t: leaf[t], noise))
            env_action = to_numpy(acted.env_action)
            sending = perf_counter()
            env.send(env_action)
            if meanwhile is not None and t == 0:
                since = perf_counter()
                meanwhile()
                aside = perf_counter() - since
            step = env.receive()
            stepping += perf_counter() - sending
            self._rows.write(t, {"obs": obs, "action": acted.action})
            self._write_flags(t, step, start)
            done = step.terminated | step.truncated
            start = done if step.valid is None else done | ~step.valid
            if (final := self._final(t, step, done, acted.carry)) is not None:
                finals.append(final)
            if step.valid is not None:
                valids[t] = step.valid
            if (ended := self._advance(step, done, start, acted.carry)) is not None:
                episodes.append(ended)
        trajectory = self._trajectory(ticks, carry, finals, valids)
        spent = perf_counter() - began - stepping
        last = env.num_envs if step.valid is None else int(np.count_nonzero(step.valid))
        return Collected(trajectory, episodes, {"act": spent, "env": stepping - aside}, last)

    def _write_flags(self, t: int, step: Step, start: np.ndarray) -> None:
        """Store what is on the host in any case; it crosses to the device once for all ticks."""
        flags = {"reward": step.reward, "terminated": step.terminated, "truncated": step.truncated}
        self._host_rows.write(t, flags | {"start": start})

    def _final(self, t: int, step: Step, done: np.ndarray, carry: Any) -> Final | None:
        kept = step.truncated if self._keep == "truncated" else done
        if not np.count_nonzero(kept):
            return None
        (rows,) = kept.nonzero()
        n = to_tensor(rows, self._device)
        obs = tree_to_tensor(tree_map(lambda leaf: leaf[rows], step.next_obs), self._device)
        return Final(torch.full_like(n, t), n, obs, tree_map(lambda leaf: leaf[n], carry))

    def _advance(self, step: Step, done: np.ndarray, start: np.ndarray, carry: Any) -> Episodes | None:
        """Go on by one tick."""
        state = self.state
        state.step += len(step.reward) if step.valid is None else int(step.valid.sum())
        state.obs, state.start = step.obs, torch.from_numpy(start)
        if self._policy.recurrent:
            state.carry = restarted(carry, to_tensor(start, self._device))
        return state.tracker.update(step, done)

    def _trajectory(self, ticks: int, carry: Any, finals: list[Final], valids: dict[int, np.ndarray]) -> Trajectory:
        rows = self._rows.read(ticks)
        if not self._on_host:
            rows |= tree_to_tensor(self._host_rows.read(ticks), self._device)
        final = None
        if finals:
            final = tree_map(lambda *parts: torch.cat(parts), *finals)
        valid = None
        if valids:
            valid = torch.ones_like(rows["terminated"])
            for t, flags in valids.items():
                valid[t] = to_tensor(flags, self._device)
        state = self.state
        last_obs = tree_to_tensor(state.obs, self._device)
        state.start = to_tensor(state.start, self._device)
        if not self._on_host:
            state.obs = last_obs  # has crossed: the next trajectory begins with it
        return Trajectory(**rows, carry=carry, last_obs=last_obs, last_carry=state.carry, final=final, valid=valid)
