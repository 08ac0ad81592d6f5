"""Collect a rollout, learn from it, forget it: the loop of PPO."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch

from agents.core.runtime import Compiler
from agents.core.tree import place, to_tensor, tree_map, tree_to_tensor
from agents.core.types import Episode, OnPolicyAgent, Progress
from agents.data.rollout import Rollout, RolloutBuffer, following
from agents.loops.horizon import Horizon
from agents.loops.position import Position, env_action
from envs.api import VecEnv
from envs.native.vec_env import NativeVecEnv


def on_policy(
    env: VecEnv,
    agent: OnPolicyAgent,
    position: Position,
    *,
    total_timesteps: int,
    n_steps: int,
    compiler: Compiler | None = None,
) -> Iterator[Progress]:
    """Train until `total_timesteps`, yielding after every update; `position` is always where the yield left it."""
    device = agent.device
    collector: AtOnce | Ticks
    if isinstance(env, NativeVecEnv) and env.capturable:
        collector = AtOnce(env, agent, position, n_steps, compiler or Compiler())
    else:
        collector = Ticks(env, agent, position, n_steps)
    while position.step < total_timesteps:
        rollout, episodes, seconds = collector.collect()
        began = perf_counter()
        metrics = agent.update(rollout, min(position.step / total_timesteps, 1.0))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield Progress(position.step, metrics, episodes, {**seconds, "learn": perf_counter() - began})


class Ticks:
    """Collects rollouts of `n_steps` ticks, one by one, from where `position` stands, and moves it on."""

    def __init__(self, env: VecEnv, agent: OnPolicyAgent, position: Position, n_steps: int) -> None:
        self._env, self._agent, self._position = env, agent, position
        self._buffer = RolloutBuffer(n_steps, agent.device)

    def collect(self) -> tuple[Rollout, list[Episode], dict[str, float]]:
        """Return a rollout, the episodes that ended in it, and the seconds of each phase."""
        env, agent, position, buffer = self._env, self._agent, self._position, self._buffer
        device = agent.device
        episodes = []
        acting = stepping = 0.0
        began = perf_counter()
        for noise in agent.noise(buffer.n_steps, env.num_envs):
            start = perf_counter()
            acted = agent.act(position.obs, noise)
            action = env_action(env, acted.env_action)
            middle = perf_counter()
            step = env.step(action)
            end = perf_counter()
            acting, stepping = acting + middle - start, stepping + end - middle

            buffer.add(
                {
                    "obs": place(position.obs, device),
                    "action": place(acted.action, device),
                    "reward": place(step.reward, device),
                    "terminated": place(step.terminated, device),
                    "truncated": place(step.truncated, device),
                }
            )
            if step.truncated.any():
                rows = to_tensor(step.truncated, device).nonzero().squeeze(1)
                final = tree_to_tensor(step.next_obs, device)
                buffer.add_final(rows, tree_map(lambda leaf, rows=rows: leaf[rows], final))
            if step.valid is not None:
                buffer.mark_valid(to_tensor(step.valid, device))
            episodes += position.advance(step)
        rollout = buffer.finish(agent.evaluate, agent.value, tree_to_tensor(position.obs, device))
        copying = perf_counter() - began - acting - stepping
        return rollout, episodes, {"act": acting, "env": stepping, "copy": copying}


class AtOnce:
    """Collects rollouts as `Ticks` does, but native environments' ticks in one go."""

    def __init__(
        self, env: NativeVecEnv, agent: OnPolicyAgent, position: Position, n_steps: int, compiler: Compiler
    ) -> None:
        self._env, self._agent, self._n_steps = env, agent, n_steps
        self._position = position
        self._horizon = Horizon(env, agent.sample, position, n_steps, compiler)

    def collect(self) -> tuple[Rollout, list[Episode], dict[str, float]]:
        """Return a rollout, the episodes that ended in it, and the seconds it took."""
        agent = self._agent
        began = perf_counter()
        rows, episodes = self._horizon.advance(torch.stack(list(agent.noise(self._n_steps, self._env.num_envs))))
        stepped = perf_counter()
        shape = rows["reward"].shape
        judged = agent.evaluate(rows["obs"].flatten(0, 1), rows["action"].flatten(0, 1))
        log_prob, value = (column.view(shape) for column in judged)
        next_value, cut = following(value, agent.value(self._position.obs)), rows["truncated"]
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
        return rollout, episodes, {"act": 0.0, "env": stepped - began, "copy": perf_counter() - stepped}
