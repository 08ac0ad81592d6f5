"""Act, remember, learn from memory: the loop of DQN."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch
from torch import Tensor

from agents.core.config import OffPolicyConfig
from agents.core.schedules import crossings
from agents.core.tree import place
from agents.core.types import OffPolicyAgent, Progress
from agents.data.replay import ReplayBuffer
from agents.loops.position import Position, env_action
from envs.api import VecEnv

YIELD_TICKS = 64  # the longest stretch without a Progress while there is nothing to learn from yet


def off_policy(
    env: VecEnv,
    agent: OffPolicyAgent,
    position: Position,
    replay: ReplayBuffer,
    sampling: torch.Generator,
    config: OffPolicyConfig,
) -> Iterator[Progress]:
    """Train until `config.total_timesteps`, yielding after every round of updates.

    Intervals count environment steps: with more environments than `train_freq`, a tick is followed by several
    rounds.
    """
    device, total = agent.device, config.total_timesteps
    while position.step < total:
        progress = Progress(position.step, seconds={"act": 0.0, "env": 0.0, "copy": 0.0, "learn": 0.0})
        seconds, metrics = progress.seconds, {}
        start = perf_counter()
        ticks = _ticks(position.step, env.num_envs, config)
        steps = range(position.step, position.step + ticks * env.num_envs, env.num_envs)
        coins = agent.exploration([step / total for step in steps], env.num_envs)
        # where every environment explores, the network is not asked
        blind = coins.explores.all(dim=1).tolist()
        for explores, choice, all_explore in zip(*coins, blind, strict=True):
            before = position.step
            action = choice if all_explore else agent.act(position.obs, explores, choice)
            handed = env_action(env, action)
            acted = perf_counter()
            step = env.step(handed)
            stepped = perf_counter()
            replay.add(
                {
                    "obs": place(position.obs, device),
                    "action": place(action, device),
                    "reward": place(step.reward, device),
                    "terminated": place(step.terminated, device),
                    "truncated": place(step.truncated, device),
                    "next_obs": place(step.next_obs, device),
                },
                None if step.valid is None else place(step.valid, device),
            )
            progress.episodes += position.advance(step)
            stored = perf_counter()
            if position.step >= config.learning_starts:
                metrics = _learn(agent, replay, sampling, config, before, position.step)
            learnt = perf_counter()
            seconds["act"] += acted - start
            seconds["env"] += stepped - acted
            seconds["copy"] += stored - stepped
            seconds["learn"] += learnt - stored
            start = learnt
            if metrics or position.step >= total:
                break
        progress.step, progress.metrics = position.step, metrics
        yield progress


def _ticks(step: int, num_envs: int, config: OffPolicyConfig) -> int:
    """Return how many ticks it takes to the next updates, or to the next yield if there is nothing to learn yet."""
    due = config.train_freq - step % config.train_freq
    if step + due < config.learning_starts:
        due = config.learning_starts - step
    return min(-(-due // num_envs), YIELD_TICKS)


def _learn(
    agent: OffPolicyAgent,
    replay: ReplayBuffer,
    sampling: torch.Generator,
    config: OffPolicyConfig,
    before: int,
    after: int,
) -> dict[str, Tensor]:
    """Make the updates that fell due between two step counts; return the last one's metrics, if there was one."""
    metrics: dict[str, Tensor] = {}
    rounds = crossings(before, after, config.train_freq)
    per_round = config.train_freq if config.gradient_steps == -1 else config.gradient_steps
    for _ in range(rounds * per_round):
        batch = replay.sample(config.batch_size, config.gamma, config.n_step_returns, sampling)
        metrics = agent.update(batch, min(after / config.total_timesteps, 1.0))
    if crossings(before, after, config.target_update_interval):
        agent.update_target()
    return metrics
