"""How well a policy does: whole episodes in environments of its own, raw rewards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from agents.core.tree import to_numpy
from agents.core.types import Episode, Policy
from agents.loops.position import EpisodeTracker, env_action
from envs.api import VecEnv
from envs.errors import UserError
from envs.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The episodes of one evaluation, in the order in which they ended.

    Attributes:
        returns: undiscounted raw return of each episode, float64 `[episodes]`.
        lengths: steps of each episode, int64 `[episodes]`.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


def policy_generator(policy: Policy, seed: int) -> torch.Generator:
    """Return the random stream that stochastic actions are drawn from outside training."""
    return torch.Generator(policy.device).manual_seed(derive_seed(seed, "evaluation", "policy"))


def evaluate(
    env: VecEnv,
    policy: Policy,
    episodes: int,
    seed: int,
    deterministic: bool = True,
    step_limit: int = 200_000,
) -> Evaluation:
    """Play `episodes` episodes from `env.reset(seed)` on and return how each went.

    Every environment has a quota and its first episodes count, however long they take. Taking those that
    finish first instead would favour short episodes: bad ones where living pays, good ones where it costs.

    Args:
        env: reset here; it goes on stepping environments whose quota is full until the last one's is.
        policy: acts; its training streams are not touched.
        episodes: how many, at least 1; the quotas differ by at most one.
        seed: of the environments and, where `deterministic` is False, of the actions' own stream.
        deterministic: take the most likely action instead of sampling.
        step_limit: steps that one episode may last.

    Raises:
        UserError: fewer than one episode, or one longer than `step_limit`.
        EnvError: an environment broke its contract.
    """
    if episodes < 1:
        raise UserError(f"an evaluation needs at least 1 episode; {episodes} were asked for")
    quota = episodes // env.num_envs + (np.arange(env.num_envs) < episodes % env.num_envs)
    generator = None if deterministic else policy_generator(policy, seed)
    tracker = EpisodeTracker(env.num_envs)
    counted: list[Episode] = []

    obs = env.reset(seed)
    while quota.any():
        step = env.step(env_action(env, policy.predict(obs, deterministic, generator)))
        obs = step.obs
        ended = (to_numpy(step.terminated) | to_numpy(step.truncated)).nonzero()[0]
        for index, episode in zip(ended, tracker.update(step), strict=True):
            if quota[index]:
                quota[index] -= 1
                counted.append(episode)
        if (endless := (tracker.lengths >= step_limit) & (quota > 0)).any():
            raise UserError(
                f"the evaluation gave up: environment {endless.argmax()} took {step_limit:,} steps without ending its "
                "episode; give it a time limit: --env-kwargs max_episode_steps=1000"
            )
    returns = np.array([episode.ret for episode in counted], np.float64)
    return Evaluation(returns, np.array([episode.length for episode in counted], np.int64))
