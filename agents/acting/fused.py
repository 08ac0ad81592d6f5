"""Collecting from native environments on tensors: many ticks as one function that never looks at a value.

On a GPU it is captured as one CUDA graph: a rollout is then a single launch, whatever its length. Compiled, some ticks
at a time become one kernel call, on a CPU too.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.acting.collector import Collected
from agents.acting.emitting import ENVS
from agents.acting.masks import refuse_no_action
from agents.acting.policies import ModelPolicy
from agents.acting.rollout_kernel import Source, differences, fits, leaves, of_envs, rollout
from agents.acting.state import ActorState
from agents.core.checked import Disagreement, copy_into
from agents.core.runtime import Runtime
from agents.core.tree import restarted, tree_map, tree_to_tensor
from agents.core.types import Episodes
from agents.core.watch import Watch
from agents.data.trajectory import Final, Trajectory
from envs.native.vec_env import NativeVecEnv, tick

CHUNK = 8  # ticks compiled as one: more take the compiler longer and gain little ...
MOST = 16  # ... but up to so many, if that is all there are
REHEARSED = 4  # ticks in which a kernel is tried
NEWEST = 100  # of the episodes that ended in a trajectory so many are reported one by one


class FusedCollector:
    """Collects as `TickCollector` does. See `agents.acting.collector.Collector`.

    Args:
        env: native environments on tensors, on the policy's device.
        policy: acts.
        state: what is kept between two ticks.
        ticks: how many there usually are at a time. So many are captured as one where the runtime captures; another
            number runs as it is.
        schedule_steps: environment steps over which exploration is scheduled.
        runtime: how ticks are run.
        carries: whether trajectories hold every carry; successors they always hold.
    """

    def __init__(
        self,
        env: NativeVecEnv,
        policy: ModelPolicy,
        state: ActorState,
        *,
        ticks: int,
        schedule_steps: int,
        runtime: Runtime,
        carries: bool = False,
    ) -> None:
        self.state = state
        self._carries = carries and policy.recurrent
        self._env, self._policy, self._usual, self.schedule_steps = env, policy, ticks, schedule_steps
        self._watch = Watch(policy.model)
        self._version = self._watch.version()
        self._static: dict[str, Any] = {}
        pictures = len(env.observation_space.shape or ()) > 1  # convolutions take the compiler long enough
        self._size = 1 if pictures or policy.recurrent else ticks if ticks <= MOST else CHUNK

        def version() -> int:
            return self._version

        self._chunk = runtime.compiled(self._few_ticks, version)
        run = self._ticks
        if runtime.replaces and not fits(policy, env):
            run = runtime.replaced(
                self._plainly, self._kernel, self._tensors, differences, version, otherwise=self._ticks
            )
        self._fixed = runtime.record is not None
        self._captured = runtime.captured(run, self._tensors, version)

    def collect(self, ticks: int, meanwhile: Callable[[], None] | None = None) -> Collected:
        """See `Collector`. The next call may overwrite the trajectory.

        Raises:
            EnvError: an environment allows no action.
        """
        began = perf_counter()
        env, state = self._env, self.state
        if self._static.get("obs") is not state.obs:  # at first, and where a state was loaded
            self._make_static()
        if self._watch.version() != self._version:
            self._policy.model.eval()  # new layers are in training mode
            self._version = self._watch.version()
        progress = state.progress(ticks, env.num_envs, self.schedule_steps)
        noise = self._policy.draw_noise((ticks, env.num_envs), progress, state.generator)
        carry = tree_map(torch.clone, state.carry)
        run = self._captured if ticks == self._usual or not self._fixed else self._ticks
        rows: dict[str, Any] = run(noise, env.draw(ticks))
        refuse_no_action(rows["obs"], env.action_space)
        state.step += ticks * env.num_envs
        episodes = episodes_of(rows["terminated"] | rows["truncated"], rows["returns"], rows["lengths"])
        trajectory = self._trajectory(rows, carry)
        return Collected(trajectory, episodes, {"act": 0.0, "env": perf_counter() - began}, env.num_envs)

    def _make_static(self) -> None:
        """Give what changes from tick to tick a fixed place on the device; `state` refers to it from then on."""
        state, tracker, device = self.state, self.state.tracker, torch.device(self._env.device)
        now = {
            "state": self._env.state,
            "steps": self._env.steps,
            "obs": tree_map(torch.clone, tree_to_tensor(state.obs, device)),
            "carry": tree_map(torch.clone, state.carry),
            "start": torch.as_tensor(state.start, device=device).clone(),
            "returns": torch.as_tensor(tracker.returns, device=device).clone(),
            "lengths": torch.as_tensor(tracker.lengths, device=device).clone(),
        }
        if self._static:  # what has been captured knows these tensors
            tree_map(lambda tensor, new: tensor.copy_(new), self._static, now)
        static = self._static = self._static or now
        state.obs, state.carry, state.start = static["obs"], static["carry"], static["start"]
        tracker.returns, tracker.lengths = static["returns"], static["lengths"]

    def _tensors(self) -> list[Tensor]:
        return leaves(self._static)

    @torch.no_grad()
    def _ticks(self, noise_TN: Any, uniform_TuN: Tensor) -> dict[str, Any]:
        """Act and step; return what happened, each `[T, N, ...]`, with the episodes' returns and lengths so far."""
        now, parts, size = self._static, [], self._size
        for t in range(0, len(uniform_TuN), size):
            noise, uniform = noise_TN, uniform_TuN
            if size < len(uniform_TuN):
                noise, uniform = tree_map(lambda leaf, t=t: leaf[t : t + size], (noise_TN, uniform_TuN))
            run = self._chunk if len(uniform) == size else self._few_ticks  # one length is compiled, no more
            now, rows = run(now, noise, uniform)
            parts.append(rows)
        tree_map(lambda tensor, moved: tensor.copy_(moved), self._static, now)
        return parts[0] if len(parts) == 1 else tree_map(lambda *chunks: torch.cat(chunks), *parts)

    def _plainly(self, noise_TN: Any, uniform_TuN: Tensor) -> dict[str, Any]:
        """Do `_ticks` without anything that is compiled."""
        chunk, self._chunk = self._chunk, self._few_ticks
        try:
            return self._ticks(noise_TN, uniform_TuN)
        finally:
            self._chunk = chunk

    def _kernel(self) -> Callable[..., dict[str, Any]]:
        """Return what does `_ticks` in one kernel."""
        kernel = rollout(self._source(), self._static)
        self._rehearse(kernel)
        return kernel

    def _source(self) -> Source:
        """Return what a tick is as a kernel."""
        env, policy = self._env, self._policy
        now, noise = of_envs(self._static, ENVS), policy.draw_noise((1, ENVS), 0.0, torch.Generator(env.device))
        uniform = torch.zeros(1, env.uniforms, ENVS, dtype=torch.float64, device=env.device)
        learnt = [*policy.model.parameters(), *policy.model.buffers()]
        return Source(self._few_ticks, now, noise, uniform, learnt)

    def _rehearse(self, kernel: Callable[..., dict[str, Any]]) -> None:
        """Compare a kernel with `_ticks` where episodes reach their limit, as they may not in the first rollout.

        Raises:
            Disagreement: it does something else.
        """
        env, state, found = self._env, self._tensors(), []
        before, generator = [tensor.clone() for tensor in state], torch.Generator(env.device).manual_seed(0)
        shape, last = (REHEARSED, env.num_envs), env.dynamics.max_episode_steps - 1
        noise = self._policy.draw_noise(shape, 1.0, generator)
        uniform = torch.rand(
            REHEARSED, env.uniforms, env.num_envs, dtype=torch.float64, device=env.device, generator=generator
        )
        try:
            for run in (self._plainly, kernel):
                copy_into(state, before)
                self._static["steps"].copy_((last - torch.arange(env.num_envs) % REHEARSED).clamp(min=0))
                found.append((run(noise, uniform), [tensor.clone() for tensor in state]))
        finally:
            copy_into(state, before)
        if wrong := differences(*found):
            raise Disagreement(wrong)

    def _few_ticks(self, static: dict[str, Any], noise: Any, uniform: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """A pure function of the static tensors and of the noise of some ticks, `[K, ...]`."""
        env, policy, found = self._env, self._policy, []
        state, steps, obs, carry, start, returns, lengths = static.values()
        for t in range(len(uniform)):
            acted = policy.step(obs, carry, tree_map(lambda leaf, t=t: leaf[t], noise))
            state, steps, following, reward, terminated, truncated, next_obs = tick(
                torch, env.dynamics, state, steps, env.decode(acted.env_action), uniform[t]
            )
            returns, lengths = returns + reward, lengths + 1
            found.append(
                {
                    "obs": obs,
                    "action": acted.action,
                    "reward": reward,
                    "start": start,
                    "terminated": terminated,
                    "truncated": truncated,
                    "next_obs": next_obs,
                    "returns": returns,
                    "lengths": lengths,
                    "carry": acted.carry,
                }
            )
            start = terminated | truncated
            obs, returns, lengths = following, returns * ~start, lengths * ~start
            carry = restarted(acted.carry, start)
        now = {"state": state, "steps": steps, "obs": obs, "carry": carry, "start": start}
        now |= {"returns": returns, "lengths": lengths}
        return now, tree_map(lambda *leaves: torch.stack(leaves), *found)

    def _trajectory(self, rows: dict[str, Any], carry: Any) -> Trajectory:
        names = ("obs", "action", "reward", "start", "terminated", "truncated")
        final, next_obs, carries = None, rows["next_obs"], None
        if self._carries:  # that of a tick is what the one before has left
            later = tree_map(lambda leaf: leaf[:-1].flatten(0, 1), rows["carry"])
            later = restarted(later, rows["start"][1:].flatten())
            carries = tree_map(lambda leaf, rest: torch.cat([leaf, rest]).view(-1, *leaf.shape), carry, later)
        if self._policy.recurrent:  # a final observation is looked at with the carry of its tick
            t, n = rows["truncated"].nonzero(as_tuple=True)
            final = Final(t, n, *tree_map(lambda leaf: leaf[t, n], (next_obs, rows["carry"])))
        return Trajectory(
            **{name: rows[name] for name in names},
            carry=carry,
            last_obs=self.state.obs,
            last_carry=self.state.carry,
            final=final,
            next_obs=next_obs,
            carries=carries,
        )


def episodes_of(done: Tensor, returns: Tensor, lengths: Tensor) -> list[Episodes]:
    """Return the episodes that ended, where `done`, bool `[T, N]`; on a GPU the newest, which are not waited for."""
    if done.device.type != "cpu":
        return [newest_episodes(done, returns, lengths, NEWEST)]
    ended = done.numpy()
    count = int(np.count_nonzero(ended))
    return [Episodes(count, returns.numpy()[ended], lengths.numpy()[ended])] if count else []


def newest_episodes(done: Tensor, returns: Tensor, lengths: Tensor, count: int) -> Episodes:
    """Return the newest `count` of the episodes that ended, without waiting for the device.

    Args:
        done: where an episode ended, bool `[T, N]`.
        returns, lengths: of the episodes so far, `[T, N]`.
        count: how many entries the result has room for; the oldest that fit come first.
    """
    done = done.flatten()
    rank = done.cumsum(0)
    ended = rank[-1].clone()  # a view would hold on to all ranks until it is read
    place = rank - 1 - (ended - count).clamp(min=0)
    place = torch.where(done & (place >= 0), place, count)  # the last place takes all that is not kept

    def keep(values: Tensor) -> Tensor:
        return values.new_zeros(count + 1).scatter_(0, place, values.flatten())[:count]

    return Episodes(ended, keep(returns), keep(lengths))
