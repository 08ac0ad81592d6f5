"""Collect a rollout, learn from it, forget it: the loop of PPO."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch

from agents.core.tree import place, to_tensor, tree_map, tree_to_tensor
from agents.core.types import OnPolicyAgent, Progress
from agents.data.rollout import RolloutBuffer
from agents.loops.position import Position, env_action
from envs.api import VecEnv


def on_policy(
    env: VecEnv, agent: OnPolicyAgent, position: Position, *, total_timesteps: int, n_steps: int
) -> Iterator[Progress]:
    """Train until `total_timesteps`, yielding after every update; `position` is always where the yield left it."""
    device = agent.device
    buffer = RolloutBuffer(n_steps, device)
    while position.step < total_timesteps:
        episodes = []
        acting = stepping = 0.0
        began = perf_counter()
        for noise in agent.noise(n_steps, env.num_envs):
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
        collected = perf_counter()
        rollout = buffer.finish(agent.evaluate, agent.value, tree_to_tensor(position.obs, device))
        metrics = agent.update(rollout, min(position.step / total_timesteps, 1.0))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        end = perf_counter()
        copying = collected - began - acting - stepping
        seconds = {"act": acting, "env": stepping, "copy": copying, "learn": end - collected}
        yield Progress(position.step, metrics, episodes, seconds)
