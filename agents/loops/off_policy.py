"""Act, remember, learn from memory: the loop of DQN."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.core.config import OffPolicyConfig
from agents.core.runtime import Compiler
from agents.core.schedules import crossings
from agents.core.tree import place, to_numpy, to_tensor
from agents.core.types import OffPolicyAgent, Progress
from agents.data.replay import Batch, ReplayBuffer, assemble
from agents.loops.horizon import Horizon
from agents.loops.position import Position, env_action
from envs.api import Step, VecEnv
from envs.native.vec_env import NativeVecEnv

YIELD_TICKS = 64  # the longest stretch without a Progress while there is nothing to learn from yet
TRANSITION = ("obs", "action", "reward", "terminated", "truncated", "next_obs")
DRAWN = 8  # minibatches drawn from memory at once
OVERLAP = 8  # rounds of updates between two Progress where environments step meanwhile


def off_policy(
    env: VecEnv,
    agent: OffPolicyAgent,
    position: Position,
    replay: ReplayBuffer,
    sampling: torch.Generator,
    config: OffPolicyConfig,
    compiler: Compiler | None = None,
) -> Iterator[Progress]:
    """Train until `config.total_timesteps`, yielding after every round of updates.

    Intervals count environment steps: with more environments than `train_freq`, a tick is followed by several
    rounds. Where environments step in other processes or threads, the updates that fell due are made while the next
    tick is under way, without its transitions; some rounds then share one Progress.
    """
    total, compiler = config.total_timesteps, compiler or Compiler()
    learner = _Learner(agent, replay, sampling, config, compiler)
    collector: _AtOnce | _Ticks
    if isinstance(env, NativeVecEnv) and env.capturable:
        usual = max(config.train_freq // env.num_envs, 1)
        collector = _AtOnce(Horizon(env, agent.sample, position, usual, compiler), position, replay)
    else:
        collector = _Ticks(env, agent, position, replay)
    while position.step < total:
        progress = Progress(position.step, seconds={"act": 0.0, "env": 0.0, "copy": 0.0, "learn": 0.0})
        start = perf_counter()
        ticks = _ticks_until_due(position.step, env, config)
        steps = range(position.step, position.step + ticks * env.num_envs, env.num_envs)
        forced = agent.exploration([step / total for step in steps], env.num_envs)
        progress.seconds["act"] += perf_counter() - start
        collector.collect(forced, learner, progress)
        start = perf_counter()
        learner.learn()
        progress.seconds["learn"] += perf_counter() - start
        progress.step, progress.metrics = position.step, learner.metrics()
        yield progress


class _Ticks:
    """Acts, steps and remembers tick by tick, and has the learner do what falls due."""

    def __init__(self, env: VecEnv, agent: OffPolicyAgent, position: Position, replay: ReplayBuffer) -> None:
        self._env, self._agent, self._position, self._replay = env, agent, position, replay
        self._on_host = agent.device.type == "cpu" and not env.capturable  # all arrays are NumPy's already

    def collect(self, forced: Tensor, learner: _Learner, progress: Progress) -> None:
        """Make a tick for each row of `forced` `[K, N]`."""
        env, agent, position, seconds = self._env, self._agent, self._position, progress.seconds
        counts = (forced >= 0).sum(dim=1).tolist()
        rows: Any = forced.numpy() if self._on_host else forced
        start = perf_counter()
        for row, count in zip(rows, counts, strict=True):
            # where every environment explores, the network is not asked
            action = row if count == env.num_envs else self._merge(agent.act(position.obs), row, count)
            handed = env_action(env, action)
            acted = perf_counter()
            env.send(handed)
            sent = perf_counter()
            learner.learn()  # what the tick before left to do
            learnt = perf_counter()
            step = env.receive()
            stepped = perf_counter()
            self._remember(step, handed)
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

    def _merge(self, greedy: Any, forced: Any, count: int) -> Any:
        """Put the `count` actions that are forced in the place of greedy ones."""
        if self._on_host:
            return np.where(forced < 0, to_numpy(greedy), forced) if count else greedy
        greedy = to_tensor(greedy, self._agent.device)
        return torch.where(forced < 0, greedy, forced) if count else greedy

    def _remember(self, step: Step, action: Any) -> None:
        tick = {
            "obs": self._position.obs,
            "action": action,
            "reward": step.reward,
            "terminated": step.terminated,
            "truncated": step.truncated,
            "next_obs": step.next_obs,
        }
        if self._on_host:
            self._replay.add(tick, step.valid)
            return
        device = self._agent.device
        self._replay.add(place(tick, device), None if step.valid is None else place(step.valid, device))


class _AtOnce:
    """Does the same with native environments on tensors: all ticks first, then what fell due in them."""

    def __init__(self, horizon: Horizon, position: Position, replay: ReplayBuffer) -> None:
        self._horizon, self._position, self._replay = horizon, position, replay

    def collect(self, forced: Tensor, learner: _Learner, progress: Progress) -> None:
        """Make a tick for each row of `forced` `[K, N]`; the last at the latest is followed by updates."""
        start, before = perf_counter(), self._position.step
        rows, progress.episodes = self._horizon.advance(forced)
        stepped = perf_counter()
        self._replay.extend({key: rows[key] for key in TRANSITION})
        stored = perf_counter()
        for step in range(before, self._position.step, forced.shape[1]):
            learner.owe(step, step + forced.shape[1])
            learner.learn()
        seconds = {"env": stepped - start, "copy": stored - stepped, "learn": perf_counter() - stored}
        for phase, spent in seconds.items():
            progress.seconds[phase] += spent


def _ticks_until_due(step: int, env: VecEnv, config: OffPolicyConfig) -> int:
    """Return how many ticks it takes to the next updates, or to the next yield if there is nothing to learn yet."""
    due = config.train_freq - step % config.train_freq
    left = -(-(config.total_timesteps - step) // env.num_envs)
    if step + due < config.learning_starts:
        return min(-(-(config.learning_starts - step) // env.num_envs), YIELD_TICKS, left)
    rounds = -(-due // env.num_envs)
    if env.overlaps:
        rounds += (OVERLAP - 1) * -(-config.train_freq // env.num_envs)
    return min(rounds, YIELD_TICKS, left)


class _Learner:
    """Makes the updates that fall due, when it is told to."""

    def __init__(
        self,
        agent: OffPolicyAgent,
        replay: ReplayBuffer,
        sampling: torch.Generator,
        config: OffPolicyConfig,
        compiler: Compiler,
    ) -> None:
        self._agent, self._replay, self._sampling, self._config = agent, replay, sampling, config
        self._per_round = config.train_freq if config.gradient_steps == -1 else config.gradient_steps
        self._usual = min(self._per_round, DRAWN)
        self._compiled = compiler.step(self._assemble)
        self._owed: tuple[int, int] | None = None
        self._metrics: dict[str, Tensor] = {}

    def _assemble(self, store: dict[str, Any], index: Tensor, length: Tensor) -> Batch:
        return assemble(store, index, length, self._config.gamma, self._config.n_step_returns)

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
        updates = rounds * self._per_round
        for start in range(0, updates, DRAWN):
            count = min(updates - start, DRAWN)
            index, length = self._replay.draw(count * config.batch_size, self._sampling)
            run = self._compiled if count == self._usual else self._assemble  # one size is compiled, no more
            for batch in run(self._replay.store, index, length).split(config.batch_size):
                self._metrics = self._agent.update(batch, min(after / config.total_timesteps, 1.0))
        if crossings(before, after, config.target_update_interval):
            self._agent.update_target()

    def metrics(self) -> dict[str, Tensor]:
        """Return those of the last update since the last call, if there was one."""
        metrics, self._metrics = self._metrics, {}
        return metrics
