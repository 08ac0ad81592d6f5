"""Collect, learn, and again: generators over environments, which can be saved wherever they yield."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from agents.acting.collector import Collected, Collector
from agents.acting.playback import Playback
from agents.acting.state import ActorState
from agents.core.config import AlgoConfig, OffPolicyConfig, RolloutConfig
from agents.core.device import Laps
from agents.core.schedules import crossings
from agents.core.tree import tree_to_tensor
from agents.core.types import Iteration
from agents.data.replay import ReplayBuffer
from agents.data.samplers import Sampler
from agents.data.trajectory import Trajectory
from agents.learning.learner import Learner
from agents.learning.results import UpdateResult
from envs.api import VecEnv

YIELD_TICKS = 64  # the longest stretch without an Iteration while there is nothing to learn from yet
DRAWN = 8  # minibatches drawn from memory at once
OVERLAP = 8  # rounds of updates between two yields where environments step meanwhile
TRANSITION = ("obs", "action", "reward", "terminated", "truncated")


def on_policy(collector: Collector, learner: Learner, config: RolloutConfig) -> Iterator[Iteration]:
    """Collect a rollout, learn from it, forget it; yield after every update.

    Raises:
        UserError: the training diverged, or an environment broke its contract.
    """
    state, total = collector.state, config.total_timesteps
    while state.step < total:
        progress = min(state.step / config.schedule_steps, 1.0)
        laps = Laps(learner.device)
        collected = collector.collect(config.n_steps)
        laps.end()
        result = learner.update(_learnt_from(collected, config), progress)
        laps.end()
        learner.refuse_divergence(result, state.step)  # waits for the device
        collecting, learning = laps.seconds()
        seconds = {**collected.seconds, "learn": learning}
        seconds["env"] = seconds.get("env", 0.0) + collecting - sum(collected.seconds.values())
        latest = learner.latest(progress)
        yield Iteration(state.step, result.metrics, latest, collected.episodes, seconds, collected.trajectory)


def recorded(
    collector: Playback, learner: Learner, config: RolloutConfig, held_out: Callable[[], dict[str, float]]
) -> Iterator[Iteration]:
    """Learn from recorded episodes, until the budget is spent or those held out are foretold no better any more.

    Args:
        held_out: measures the policy, `heldout/loss` among others; {} where no episode is held out.

    Raises:
        UserError: the training diverged.
    """
    algorithm: Any = learner.algorithm
    before = collector.state.step
    for iteration in () if algorithm.done and not collector.asking else on_policy(collector, learner, config):
        iteration.data, over = None, False  # no rollout of this policy's, which a doctor could examine
        if crossings(before, iteration.step, len(collector.data)) and (scalars := held_out()):
            iteration.metrics = {**iteration.metrics, **scalars}
            over = algorithm.judged(scalars["heldout/loss"]) and not collector.asking
        before = iteration.step
        yield iteration
        if over:
            return


def off_policy(
    env: VecEnv,
    collector: Collector,
    replay: ReplayBuffer,
    sampler: Sampler,
    learner: Learner,
    config: OffPolicyConfig,
) -> Iterator[Iteration]:
    """Act, remember, learn from memory; yield after every round of updates.

    Intervals count environment steps: with more environments than `train_freq`, a tick is followed by several
    rounds. Where environments step in other processes or threads, the updates that fell due are made while the next
    tick is under way, without its transitions; some rounds then share one `Iteration`.

    Raises:
        UserError: the training diverged, or an environment broke its contract.
    """
    state, total = collector.state, config.total_timesteps
    rounds = Rounds(sampler, learner, config)
    while state.step < total:
        iteration = Iteration(state.step, seconds={"act": 0.0, "env": 0.0, "copy": 0.0, "learn": 0.0})
        for _ in range(OVERLAP if env.overlaps else 1):
            ticks, before = ticks_until_due(state.step, env.num_envs, config), state.step
            collected = collector.collect(ticks, rounds.learn)
            _remember(replay, collected, iteration, config)
            rounds.due(before, state.step - collected.last_steps, state.step)
            if not env.overlaps:
                rounds.learn()
            if state.step >= total or state.step < config.replay.learning_starts:
                break
        rounds.learn()
        iteration.step = state.step
        iteration.latest = learner.latest(min((state.step - collected.last_steps) / config.schedule_steps, 1.0))
        if (result := rounds.result()) is not None:
            began = perf_counter()
            learner.refuse_divergence(result, state.step)  # waits for the device
            iteration.seconds["learn"] += perf_counter() - began
            iteration.metrics = result.metrics
        iteration.seconds["learn"] += rounds.seconds()
        yield iteration


def at_once(config: OffPolicyConfig) -> OffPolicyConfig:
    """Return the settings with updates from the first step on, where recorded transitions are there to learn from."""
    return config.model_copy(update={"replay": config.replay.model_copy(update={"learning_starts": 0})})


def offline(
    state: ActorState, until: int, sampler: Sampler, learner: Learner, config: OffPolicyConfig
) -> Iterator[Iteration]:
    """Learn from what is replayed alone, as `off_policy` would by a step count that goes on without any step.

    Args:
        until: the step at which this ends.

    Raises:
        UserError: the training diverged.
    """
    rounds = Rounds(sampler, learner, at_once(config))
    while state.step < until:
        for _ in range(OVERLAP):
            before, state.step = state.step, min(state.step + config.replay.train_freq, until)
            rounds.due(before, before, state.step)
            rounds.learn()
        latest = learner.latest(min(before / config.schedule_steps, 1.0))
        iteration = Iteration(state.step, latest=latest, seconds={"learn": rounds.seconds()})
        if (result := rounds.result()) is not None:
            learner.refuse_divergence(result, state.step)
            iteration.metrics = result.metrics
        yield iteration


def _learnt_from(collected: Collected, config: AlgoConfig) -> Trajectory:
    """Return a trajectory with the rewards that are learnt from (Mnih et al. 2015: clipped to their sign)."""
    trajectory = collected.trajectory
    return replace(trajectory, reward=trajectory.reward.sign()) if config.clip_reward else trajectory


def _remember(replay: ReplayBuffer, collected: Collected, iteration: Iteration, config: AlgoConfig) -> None:
    """Store a trajectory's transitions, and note its episodes and times."""
    began = perf_counter()
    trajectory = _learnt_from(collected, config)
    rows: dict[str, Any] = {name: getattr(trajectory, name) for name in TRANSITION}
    if trajectory.carries is not None:
        rows["carry"] = trajectory.carries
    replay.extend({**rows, "next_obs": trajectory.next_obs}, trajectory.valid)
    iteration.episodes += collected.episodes
    for phase, spent in {**collected.seconds, "copy": perf_counter() - began}.items():
        iteration.seconds[phase] += spent


def ticks_until_due(step: int, num_envs: int, config: OffPolicyConfig) -> int:
    """Return how many ticks it takes to the next updates, or to the next yield if there is nothing to learn yet."""
    replay = config.replay
    due = replay.train_freq - step % replay.train_freq
    left = -(-(config.total_timesteps - step) // num_envs)
    if step + due < replay.learning_starts:
        return min(-(-(replay.learning_starts - step) // num_envs), YIELD_TICKS, left)
    return min(-(-due // num_envs), YIELD_TICKS, left)


class Rounds:
    """Makes the updates that fall due, when it is told to."""

    def __init__(self, sampler: Sampler, learner: Learner, config: OffPolicyConfig) -> None:
        self._sampler, self._learner, self._config = sampler, learner, config
        replay = config.replay
        self.per_round = replay.train_freq if replay.gradient_steps == -1 else replay.gradient_steps
        self._elsewhere = sampler.generator.device.type != learner.device.type  # than where updates are made
        self._due: tuple[int, int, int] | None = None
        self._result: UpdateResult | None = None
        self._healths: list[Tensor] = []
        self._seconds = 0.0

    def due(self, before: int, last: int, after: int) -> None:
        """Note what falls due: updates between the step counts `last` and `after`, all else since `before`."""
        if after >= self._config.replay.learning_starts:
            self._due = before, last, after

    def learn(self) -> None:
        """Make what is due."""
        if self._due is None:
            return
        began, config, size = perf_counter(), self._config, self._config.sample_size
        (before, last, after), self._due = self._due, None
        updates = crossings(last, after, config.replay.train_freq) * self.per_round
        progress = min(last / config.schedule_steps, 1.0)
        for start in range(0, updates, DRAWN):
            batch = self._sampler.sample(min(updates - start, DRAWN) * size, progress)
            if self._elsewhere:
                batch = tree_to_tensor(batch, self._learner.device)
            for minibatch in batch.split(size):
                self._result = self._learner.update(minibatch, progress)
                self._healths.append(self._result.health)
                if self._result.priorities is not None:
                    self._sampler.update_priorities(minibatch.indices, self._result.priorities)
        self._learner.algorithm.after_round(before, after)
        self._seconds += perf_counter() - began

    def result(self) -> UpdateResult | None:
        """Return that of the last update since the last call, if there was one; its health is that of all of them."""
        result, self._result = self._result, None
        healths, self._healths = self._healths, []
        return result if len(healths) < 2 or result is None else result._replace(health=torch.stack(healths).sum())

    def seconds(self) -> float:
        """Return the seconds of updating since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
