"""Act, remember, learn from memory: the loop of DQN."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch
from torch import Tensor

from agents.core.config import OffPolicyConfig
from agents.core.schedules import crossings
from agents.core.tree import place, to_tensor
from agents.core.types import OffPolicyAgent, Progress
from agents.data.replay import ReplayBuffer
from agents.loops.position import Position, env_action
from envs.api import VecEnv

YIELD_TICKS = 64  # the longest stretch without a Progress while there is nothing to learn from yet
OVERLAP = 8  # rounds of updates between two Progress where environments step meanwhile


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
    rounds. Where environments step in other processes or threads, the updates that fell due are made while the next
    tick is under way, without its transitions; some rounds then share one Progress.
    """
    device, total = agent.device, config.total_timesteps
    on_host = device.type == "cpu" and not env.capturable  # all arrays are NumPy's already
    learner = _Learner(agent, replay, sampling, config)
    while position.step < total:
        progress = Progress(position.step, seconds={"act": 0.0, "env": 0.0, "copy": 0.0, "learn": 0.0})
        seconds = progress.seconds
        start = perf_counter()
        ticks = _ticks(position.step, env, config)
        steps = range(position.step, position.step + ticks * env.num_envs, env.num_envs)
        coins = agent.exploration([step / total for step in steps], env.num_envs)
        share = coins.explores.float().mean(dim=1).tolist()
        for explores, choice, explored in zip(*coins, share, strict=True):
            # where every environment explores, the network is not asked
            action = choice if explored == 1.0 else agent.act(position.obs)
            if 0.0 < explored < 1.0:
                action = torch.where(explores, choice, to_tensor(action, device))
            handed = env_action(env, action)
            acted = perf_counter()
            env.send(handed)
            sent = perf_counter()
            learner.learn()  # what the tick before left to do
            learnt = perf_counter()
            step = env.receive()
            stepped = perf_counter()
            tick = {
                "obs": position.obs,
                "action": handed,
                "reward": step.reward,
                "terminated": step.terminated,
                "truncated": step.truncated,
                "next_obs": step.next_obs,
            }
            if on_host:
                replay.add(tick, step.valid)
            else:
                replay.add(place(tick, device), None if step.valid is None else place(step.valid, device))
            before = position.step
            progress.episodes += position.advance(step)
            learner.owe(before, position.step)
            stored = perf_counter()
            if not env.overlaps:
                learner.learn()
            seconds["act"] += acted - start
            seconds["env"] += sent - acted + stepped - learnt
            seconds["copy"] += stored - stepped
            start = perf_counter()
            seconds["learn"] += learnt - sent + start - stored
            if position.step >= total:
                break
        start = perf_counter()
        learner.learn()
        seconds["learn"] += perf_counter() - start
        progress.step, progress.metrics = position.step, learner.metrics()
        yield progress


def _ticks(step: int, env: VecEnv, config: OffPolicyConfig) -> int:
    """Return how many ticks it takes to the next updates, or to the next yield if there is nothing to learn yet."""
    due = config.train_freq - step % config.train_freq
    if step + due < config.learning_starts:
        return min(-(-(config.learning_starts - step) // env.num_envs), YIELD_TICKS)
    rounds = -(-due // env.num_envs)
    if env.overlaps:
        rounds += (OVERLAP - 1) * -(-config.train_freq // env.num_envs)
    return min(rounds, YIELD_TICKS, -(-(config.total_timesteps - step) // env.num_envs))


class _Learner:
    """Makes the updates that fall due, when it is told to."""

    def __init__(
        self, agent: OffPolicyAgent, replay: ReplayBuffer, sampling: torch.Generator, config: OffPolicyConfig
    ) -> None:
        self._agent, self._replay, self._sampling, self._config = agent, replay, sampling, config
        self._owed: tuple[int, int] | None = None
        self._metrics: dict[str, Tensor] = {}

    def owe(self, before: int, after: int) -> None:
        """Note what falls due between two step counts."""
        if after >= self._config.learning_starts:
            self._owed = before, after

    def learn(self) -> None:
        """Do it."""
        if self._owed is None:
            return
        (before, after), config = self._owed, self._config
        self._owed = None
        rounds = crossings(before, after, config.train_freq)
        per_round = config.train_freq if config.gradient_steps == -1 else config.gradient_steps
        for _ in range(rounds * per_round):
            batch = self._replay.sample(config.batch_size, config.gamma, config.n_step_returns, self._sampling)
            self._metrics = self._agent.update(batch, min(after / config.total_timesteps, 1.0))
        if crossings(before, after, config.target_update_interval):
            self._agent.update_target()

    def metrics(self) -> dict[str, Tensor]:
        """Return those of the last update since the last call, if there was one."""
        metrics, self._metrics = self._metrics, {}
        return metrics
