"""Collecting trajectories tick by tick, from any environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from agents.acting.policies import ModelPolicy
from agents.acting.state import ActorState
from agents.core.tree import restarted, to_numpy, to_tensor, tree_map, tree_to_tensor, unstacked
from agents.core.types import Episodes
from agents.data.storage import Rows
from agents.data.trajectory import Final, Trajectory
from envs.api import Step, VecEnv


@dataclass(slots=True)
class Collected:
    """A trajectory, the episodes that ended in it, the seconds of each phase, and the steps of its last tick."""

    trajectory: Trajectory
    episodes: list[Episodes]
    seconds: dict[str, float] = field(default_factory=dict)
    last_steps: int = 0


class Collector(Protocol):
    """Acts and steps from `state` on, and moves it on; exploration is scheduled over `schedule_steps`."""

    state: ActorState
    schedule_steps: int

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
        state: what is kept between two ticks; it changes once a trajectory is whole.
        ticks: how many ticks are collected at the most.
        schedule_steps: environment steps over which exploration is scheduled.
        successors: whether trajectories hold every successor, or only those that truncated episodes ended with.
        carries: whether they hold every carry, where there is a memory, rather than those of truncated episodes' ends.
    """

    def __init__(
        self,
        env: VecEnv,
        policy: ModelPolicy,
        state: ActorState,
        *,
        ticks: int,
        schedule_steps: int,
        successors: bool = False,
        carries: bool = False,
    ) -> None:
        self.state = state
        self._carries = carries and policy.recurrent
        self._finals = not successors or (policy.recurrent and not carries)
        self._env, self._policy, self._successors, self.schedule_steps = env, policy, successors, schedule_steps
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
        act, recurrent = policy.actor(), policy.recurrent
        progress = state.progress(ticks, env.num_envs, self.schedule_steps)
        noise = policy.draw_noise((ticks, env.num_envs), progress, state.generator)
        noises = unstacked(tree_map(to_numpy, noise) if self._on_host else noise, ticks)
        obs, carry, finals, valids = self._placed(state.obs), state.carry, [], {}
        infos: dict[int, dict[int, dict[str, Any]]] = {}
        stepping = elsewhere = 0.0
        for t in range(ticks):
            acted = act(obs, carry, noises[t])
            env_action = to_numpy(acted.env_action)
            sending = perf_counter()
            env.send(env_action)
            if meanwhile is not None and t == 0:
                since = perf_counter()
                meanwhile()
                elsewhere = perf_counter() - since
            step = env.receive()
            stepping += perf_counter() - sending
            self._write(t, obs, carry, acted.action, step)
            if step.valid is not None:
                valids[t] = step.valid
            if step.infos:
                infos[t] = step.infos
            if recurrent:
                carry = acted.carry
            if self._finals and np.count_nonzero(step.truncated):
                finals.append(self._final(t, step, carry))
            if recurrent:
                carry = restarted(carry, to_tensor(step.starts, self._device))
            obs = self._placed(step.obs)
        trajectory, episodes, last = self._finish(ticks, obs, carry, finals, valids, infos)
        spent = perf_counter() - began - stepping
        return Collected(trajectory, episodes, {"act": spent, "env": stepping - elsewhere}, last)

    def _placed(self, obs: Any) -> Any:
        return obs if self._on_host else tree_to_tensor(obs, self._device)

    def _write(self, t: int, obs: Any, carry: Any, action: Any, step: Step) -> None:
        """Store a tick; what is on the host in any case crosses to the device once for all ticks."""
        row = {"reward": step.reward, "terminated": step.terminated, "truncated": step.truncated}
        acting = {"obs": obs, "action": action}
        if self._successors:
            row["next_obs"] = step.next_obs
        if self._carries:
            acting["carries"] = carry
        if self._on_host:
            row |= acting
        else:
            self._rows.write(t, acting)
        self._host_rows.write(t, row)

    def _final(self, t: int, step: Step, carry: Any) -> Final:
        (rows,) = step.truncated.nonzero()
        n = to_tensor(rows, self._device)
        obs = tree_to_tensor(tree_map(lambda leaf: leaf[rows], step.next_obs), self._device)
        return Final(torch.full_like(n, t), n, obs, tree_map(lambda leaf: leaf[n], carry))

    def _finish(
        self,
        ticks: int,
        obs: Any,
        carry: Any,
        finals: list[Final],
        valids: dict[int, np.ndarray],
        infos: dict[int, dict[int, dict[str, Any]]],
    ) -> tuple[Trajectory, list[Episodes], int]:
        """Move the state on; return the trajectory, the episodes that ended, and the steps of the last tick."""
        state, host = self.state, self._host_rows
        found = host.arrays(ticks)
        start = np.empty((ticks + 1, self._env.num_envs), bool)
        start[0] = state.start
        done = np.logical_or(found["terminated"], found["truncated"], out=start[1:])
        valid = None
        if valids:
            valid = np.ones_like(done)
            for t, flags in valids.items():
                valid[t] = flags
        episodes = state.tracker.extend(found["reward"], done, valid)
        if infos:
            for t, ended in zip(done.any(axis=1).nonzero()[0].tolist(), episodes, strict=True):
                ended.infos = [infos.get(t, {}).get(row, {}) for row in done[t].nonzero()[0].tolist()]
        if valid is not None:
            start[1:] |= ~valid
        steps = [self._env.num_envs] * ticks if valid is None else valid.sum(axis=1).tolist()
        rows = self._rows.read(ticks)
        if not self._on_host:
            rows |= tree_to_tensor(host.read(ticks), self._device)
        trajectory = Trajectory(
            **rows,
            start=to_tensor(start[:-1], self._device),
            carry=tree_map(torch.clone, state.carry) if self._policy.recurrent else (),
            last_obs=tree_to_tensor(obs, self._device) if self._on_host else obs,
            last_carry=carry,
            final=tree_map(lambda *parts: torch.cat(parts), *finals) if finals else None,
            valid=None if valid is None else to_tensor(valid, self._device),
        )
        state.step += sum(steps)
        state.obs, state.start, state.carry = obs, start[-1], carry
        return trajectory, episodes, steps[-1]
