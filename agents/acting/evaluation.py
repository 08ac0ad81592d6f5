"""How well a policy does: whole episodes in environments of its own, raw rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.acting.masks import refuse_no_action
from agents.acting.state import EpisodeTracker
from agents.core.tree import restarted, to_numpy, to_tensor
from agents.core.types import Act, Acted, Obs, Policy
from envs.api import VecEnv
from envs.errors import UserError
from envs.seeding import derive_seed

MOST_STEPS = 200_000  # of an evaluated episode where nobody set a limit


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The episodes of one evaluation, in the order in which they ended.

    Attributes:
        returns: undiscounted raw return of each episode, float64 `[episodes]`.
        lengths: steps of each episode, int64 `[episodes]`.
        infos: what `info` held at the end of each (`envs.api.Step.infos`), {} where that was nothing.
        cut: how many the step limit cut short, which count with their return so far; None where none was set.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    infos: Sequence[dict[str, Any]] = ()
    cut: int | None = None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.returns.std())

    def __repr__(self) -> str:
        return f"Evaluation(mean={self.mean:.2f}, std={self.std:.2f}, episodes={len(self.returns)})"


def policy_generator(policy: Policy, seed: int) -> torch.Generator:
    """Return the random stream that stochastic actions are drawn from outside training."""
    return torch.Generator(policy.device).manual_seed(derive_seed(seed, "evaluation", "policy"))


def evaluate(
    env: VecEnv,
    policy: Policy,
    episodes: int,
    seed: int,
    deterministic: bool = True,
    step_limit: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Play `episodes` episodes from `env.reset(seed)` on and return how each went.

    Every environment has a quota and its first episodes count, however long they take. Taking those that
    finish first instead would favour short episodes: bad ones where living pays, good ones where it costs.

    An episode that reaches the step limit counts with its return so far. As no environment begins another episode
    before its own has ended, the others are waited for, and what is left to play begins with a new reset.

    Args:
        env: reset here; it goes on stepping environments whose quota is full until the last one's is.
        policy: acts; its training streams are not touched.
        episodes: how many, at least 1; the quotas differ by at most one.
        seed: of the environments and, where `deterministic` is False, of the actions' own stream.
        deterministic: take the most likely action instead of sampling.
        step_limit: steps after which an episode is cut; None for `MOST_STEPS`, which no usual episode has.
        report: called after every tick with the episodes done and `episodes`.

    Raises:
        UserError: fewer than one episode.
        EnvError: an environment broke its contract.
    """
    if episodes < 1:
        raise UserError(f"an evaluation needs at least 1 episode; {episodes} were asked for")
    quota = episodes // env.num_envs + (np.arange(env.num_envs) < episodes % env.num_envs)
    player = PolicyPlayer(policy, env.num_envs, None if deterministic else policy_generator(policy, seed))
    limit, cuts, resets = step_limit or MOST_STEPS, 0, 0
    tracker, was_cut = EpisodeTracker(env.num_envs), np.zeros(env.num_envs, bool)
    played: list[tuple[float, int, dict[str, Any]]] = []

    obs = env.reset(seed)
    while quota.any():
        if env.capturable:
            refuse_no_action(obs, env.action_space)
        step = env.step(env_action(env, player.act(obs)))
        obs = step.obs
        done = to_numpy(step.terminated) | to_numpy(step.truncated)
        valid = None if step.valid is None else to_numpy(step.valid)
        player.start(done if valid is None else done | ~valid)
        if (ended := tracker.update(to_numpy(step.reward), done, valid)) is not None:
            for index, return_, length in zip(done.nonzero()[0], *ended.read(), strict=True):
                if quota[index] and not was_cut[index]:
                    quota[index] -= 1
                    played.append((return_, length, step.infos.get(index, {})))
            was_cut &= ~done
        if tracker.lengths.max() >= limit:
            for index in ((tracker.lengths >= limit) & (quota > 0) & ~was_cut).nonzero()[0]:
                quota[index] -= 1
                cuts += 1
                was_cut[index] = True
                played.append((tracker.returns[index], tracker.lengths[index], {}))
            if quota.any() and not quota[~was_cut].any():
                resets += 1
                obs = env.reset(derive_seed(seed, "after a cut", resets))
                tracker, was_cut = EpisodeTracker(env.num_envs), np.zeros(env.num_envs, bool)
                player.start(~was_cut)
        if report is not None:
            report(len(played), episodes)
    returns, lengths, infos = zip(*played, strict=True)
    cut = None if step_limit is None and not cuts else cuts
    return Evaluation(np.array(returns, np.float64), np.array(lengths, np.int64), infos, cut)


class StatelessPolicy:
    """What is needed of a policy that is none of ours and has no memory; see `agents.core.types.Policy`.

    Subclasses choose the environment's actions for observations `[N, ...]`, greedily where the generator is None.
    """

    device = torch.device("cpu")

    def choose(self, obs: Obs, generator: torch.Generator | None) -> Any:
        raise NotImplementedError

    def initial_carry(self, num_envs: int) -> tuple[()]:
        return ()

    def draw_noise(self, shape: tuple[int, ...], progress: float, generator: torch.Generator) -> Any:
        return generator

    def actor(self) -> Act:
        def act(obs: Obs, carry: Any, noise: Any) -> Acted:
            action = self.choose(obs, noise)
            return Acted(action, action, carry)

        return act

    def schedules(self, progress: float) -> dict[str, float]:
        return {}

    def inspect(self, obs: Obs, carry: Any) -> dict[str, torch.Tensor]:
        return {}


class PolicyPlayer:
    """A policy acting in N environments outside training, with what it remembers of their episodes.

    Args:
        generator: draws the randomness of stochastic actions; None acts greedily.
    """

    def __init__(self, policy: Policy, num_envs: int, generator: torch.Generator | None) -> None:
        self._policy, self._generator = policy, generator
        self._shape = (num_envs,)
        self._act = policy.actor()
        self.carry = policy.initial_carry(num_envs)

    @property
    def remembers(self) -> bool:
        """Whether the policy has a memory."""
        return not isinstance(self.carry, tuple) or len(self.carry) > 0

    def act(self, obs: Obs) -> Any:
        """Return the environment's actions for observations `[N, ...]`."""
        noise = None if self._generator is None else self._policy.draw_noise(self._shape, 1.0, self._generator)
        acted = self._act(obs, self.carry, noise)
        self.carry = acted.carry
        return acted.env_action

    def inspect(self, obs: Obs) -> dict[str, torch.Tensor]:
        """Return what the policy computes for observations that are to be acted on next."""
        return self._policy.inspect(obs, self.carry)

    def start(self, start: NDArray[np.bool_]) -> None:
        """Forget the episodes of environments where a new one starts, `[N]`."""
        if self.remembers:
            self.carry = restarted(self.carry, to_tensor(start, self._policy.device))


def env_action(env: VecEnv, action: Any) -> Any:
    """Hand actions over as `VecEnv.step` takes them: a tensor on its device if it is capturable, NumPy otherwise."""
    return to_tensor(action, torch.device(env.device)) if env.capturable else to_numpy(action)
