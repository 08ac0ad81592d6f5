"""What most likely keeps a run from learning, though nothing is wrong: told in a sentence each, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from agents.core.config import AlgoConfig, OffPolicyConfig, RolloutConfig
from agents.core.tree import to_numpy
from agents.learning.results import HUGE
from envs.spaces import leaf_spaces

FAR, NEAR = 10.0, 0.1  # bounds beyond or within these are far from the deviation of 1 with which policies begin
ROWS = 64  # observations that are looked at together
MANY_UPDATES = 100  # for each step
FEW = 20  # episodes, before anything is said of their returns


def of_settings(params: AlgoConfig) -> Iterator[str]:
    """Yield what settings leave out that the budget is too small for."""
    total = params.total_timesteps
    if params.eval_freq != "auto" and params.eval_freq > total:
        yield f"no evaluation before the end: eval_freq {params.eval_freq:,} is more than the run's {total:,} steps"
    if isinstance(params, RolloutConfig) and params.n_steps * params.n_envs > total > 1:
        yield (
            f"one rollout (n_steps {params.n_steps:,} x n_envs {params.n_envs:,}) is more than the {total:,} steps of "
            "the run, which takes it all and makes one update"
        )
    if not isinstance(params, OffPolicyConfig):
        return
    updates, steps = params.replay.gradient_steps, params.replay.train_freq
    if updates > (most := MANY_UPDATES * steps):
        yield (
            f"gradient_steps {updates:,} after every train_freq {steps:,} steps: more than {most:,} take long, and the "
            "run can only be stopped and saved after all of them"
        )
    for name, value in (("learning_starts", params.replay.learning_starts), ("train_freq", params.replay.train_freq)):
        if value > total:
            yield f"nothing will be learnt: {name} {value:,} is more than the {total:,} steps of the run"
            return
    if (interval := getattr(params, "target_update_interval", 0)) > total:
        yield (
            f"the target network stays as it begins: target_update_interval {interval:,} is more "
            f"than the {total:,} steps of the run"
        )


def of_actions(space: Space, rescaled: bool) -> Iterator[str]:
    """Yield what is to be said of an environment's own action space, if its bounds are far from -1 to 1."""
    if rescaled or not isinstance(space, spaces.Box):
        return
    low, high = space.low.min(), space.high.max()
    one_sided = bool(((space.low > 0) | (space.high < 0)).any())
    widest = max(abs(low), abs(high))
    if one_sided or (np.isfinite(widest) and not NEAR <= widest <= FAR):
        yield (
            f"actions from {low:g} to {high:g}: a policy begins around 0 with a deviation of 1, and is clipped to the "
            "bounds; --rescale-action maps -1 to 1 onto them"
        )


class Remarks:
    """Looks at a training now and then; each thing is said once.

    Args:
        observation_space: canonical.
    """

    def __init__(self, observation_space: Space) -> None:
        leaves = leaf_spaces(observation_space).items()
        self._bounds = {name: (leaf.low, leaf.high) for name, leaf in leaves if isinstance(leaf, spaces.Box)}
        self._outside = self._large = False

    def of_observations(self, obs: Any) -> Iterator[str]:
        """Yield what is outside its declared bounds of observations `[N, ...]`, canonical."""
        for name, (low, high) in {} if self._outside else self._bounds.items():
            seen = to_numpy((obs[name] if name else obs)[:ROWS])
            outside = (seen < low) | (seen > high)
            if not outside.any():
                continue
            self._outside = True
            _, *place = (int(index[0]) for index in outside.nonzero())
            where = f"{name or 'observation'}{place if place else ''}"
            at = tuple(place)
            yield (
                f"{where} is {seen[outside][0]:g}, outside its bounds {low[at]:g} to {high[at]:g}, which the "
                "observation space declares: correct them there, as networks may scale by them"
            )
            return

    def of_returns(self, returns: Any, lengths: Any) -> Iterator[str]:
        """Yield that rewards are too large to be learnt from, by the newest episodes."""
        per_step = np.abs(np.array(returns, np.float64)) / np.maximum(np.array(lengths), 1)
        if not self._large and per_step.size and (largest := per_step.max()) >= HUGE:
            self._large = True
            yield f"rewards reach {largest:.2g} a step: scale them in the environment, to about 1"

    def at_the_end(self, returns: Any, lengths: Any) -> Iterator[str]:
        """Yield what is wrong with the newest episodes' rewards: too large, or none told better actions from worse."""
        yield from self.of_returns(returns, lengths)
        if len(returns) >= FEW and not np.any(returns):
            yield f"each of the last {len(returns):,} episodes returned 0: no reward told which actions are better"
