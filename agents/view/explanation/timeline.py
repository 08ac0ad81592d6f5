"""One episode, decision by decision: what was expected of each and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray

from agents.acting.evaluation import env_action
from agents.core.tree import to_numpy, tree_map
from agents.core.types import Policy
from agents.run.play import Moment, moments, play
from agents.view.explanation.decisions import indecision
from agents.view.explanation.states import Shown, States
from envs.api import VecEnv

STEPS = 2_000  # of an episode
KINDS = ("regret", "surprise", "indecision")
SHOWN = 3  # moments of each kind


@dataclass(frozen=True)
class Rewards:
    """What a policy's values count: rewards discounted, and perhaps clipped or scaled for learning.

    Attributes:
        gamma: discount factor.
        clips: whether only their signs count.
        scales: whether they were divided by a number that the model does not hold.
    """

    gamma: float
    clips: bool = False
    scales: bool = False


@dataclass(frozen=True)
class Timeline:
    """The decisions of an episode. Arrays have one entry for each, and NaN where a policy says no value.

    Attributes:
        moments: without their frames.
        states: what the policy saw and remembered.
        value: expected discounted return, in the units of rewards.
        to_come: discounted return that followed; from the last state on what was expected of it, where the episode
            was cut there.
        surprise: temporal difference error: reward and the next value less the value.
        regret: where actions were sampled and have values, the best one's less the taken one's; else the value less
            `to_come`.
        indecision: see `agents.view.explanation.decisions`.
        scale: what the rewards were divided by for learning, as estimated; 1 where they were not.
        seed: which the episode began with.
    """

    moments: Sequence[Moment]
    states: States
    value: NDArray[np.float64]
    to_come: NDArray[np.float64]
    surprise: NDArray[np.float64]
    regret: NDArray[np.float64]
    indecision: NDArray[np.float64]
    scale: float = 1.0
    seed: int = 0

    def __len__(self) -> int:
        return len(self.moments)

    def striking(self) -> dict[str, list[int]]:
        """Return kind -> the places of its most striking moments, the first one the most."""
        found = {}
        for kind in KINDS:
            weights = np.abs(self.surprise) if kind == "surprise" else getattr(self, kind)
            known = weights[~np.isnan(weights)]
            # indecision may be below 0, and where it is the same everywhere it says nothing
            least = known.min(initial=np.inf) + 1e-6 if kind == "indecision" else 0.0
            weights = np.where(weights > least, weights, -np.inf)
            found[kind] = list(_apart(weights, max(len(self) // 20, 3), self.states))
        return found

    def places(self) -> list[int]:
        """Return the places of all of these, each once, in order."""
        return sorted({at for kind in self.striking().values() for at in kind})


def _apart(weights: NDArray[np.float64], gap: int, states: States) -> Iterator[int]:
    """Yield the places of the largest weights, at most `SHOWN`, each at least `gap` places from those before.

    Where an episode goes round in circles, each state is shown once.
    """
    left = weights.copy()
    for _ in range(SHOWN):
        place = int(left.argmax())
        if left[place] == -np.inf:
            return
        yield place
        left[max(place - gap + 1, 0) : place + gap] = -np.inf
        left[states.like(place)] = -np.inf


def record(env: VecEnv, policy: Policy, seed: int, rewards: Rewards, *, deterministic: bool = True) -> Timeline:
    """Play one episode, cut after `STEPS` steps, and return its decisions.

    Args:
        env: a 1-environment VecEnv.
    """
    kept: list[Any] = []

    def see(obs: Any, carry: Any) -> Any:
        kept.append(tree_map(lambda leaf: to_numpy(leaf)[0].copy(), (obs, carry)))
        return obs

    shown: Any = Shown(policy, see)
    made: list[Moment] = []
    for moment in islice(play(env, shown, seed, deterministic, render=False), STEPS):
        made.append(replace(moment, obs=kept[len(made)][0]))
    first, *rest = kept[: len(made)]
    states = States(*tree_map(lambda *rows: np.stack(rows), first, *rest))
    return replace(judged(made, states, rewards, env.action_space, greedy=deterministic), seed=seed)


def render_frames(
    env: VecEnv, timeline: Timeline, places: Sequence[int], report: Callable[[int, int], None]
) -> dict[int, np.ndarray]:
    """Return the pictures, uint8 `[H, W, 3]`, that the actions at some places, in order, were chosen on.

    For them the episode is played once more with the same actions, as drawing may take longer than all else. Where it
    comes to something else than it did, the pictures end.

    Args:
        report: is told how many of how many are drawn.
    """
    played = timeline.moments[: places[-1] + 1] if places else ()
    actions = iter(played)
    again = moments(
        env, timeline.seed, lambda _: env_action(env, torch.from_numpy(next(actions).action[None])), render=places
    )
    frames = dict[int, np.ndarray]()
    for at, (then, now) in enumerate(zip(played, again, strict=False)):
        if now.frame is not None:
            frames[at] = now.frame
            report(len(frames), len(places))
        if (now.reward, now.ended) != (then.reward, then.ended):
            break
    return frames


def judged(
    moments: Sequence[Moment], states: States, rewards: Rewards, action_space: Space, *, greedy: bool
) -> Timeline:
    """Return the decisions of an episode that was played, in a canonical action space."""
    last = moments[-1]
    value = np.array([float(moment.outputs.get("value", np.nan)) for moment in moments])
    reward = np.array([moment.reward for moment in moments])
    if rewards.clips:
        reward = np.sign(reward)
    after = np.append(value[1:], 0.0 if last.terminated else np.nan)  # what comes after a cut is not known
    scale = _scale(reward, value, after, rewards.gamma) if rewards.scales else 1.0
    value, after = value * scale, after * scale
    to_come = np.empty(len(value))
    follows = reward[-1] if last.terminated else value[-1]
    for t in reversed(range(len(value))):
        to_come[t] = follows
        if t:
            follows = reward[t - 1] + rewards.gamma * follows
    return Timeline(
        moments=moments,
        states=states,
        value=value,
        to_come=to_come,
        surprise=reward + rewards.gamma * after - value,
        regret=value - to_come if greedy or "q_values" not in last.outputs else _missed(moments),
        indecision=np.array([indecision(moment.outputs, action_space) for moment in moments]),
        scale=scale,
    )


def _missed(moments: Sequence[Moment]) -> NDArray[np.float64]:
    """Return the best action's value less the taken one's."""
    values = [(moment.outputs["q_values"], int(moment.action)) for moment in moments]
    return np.array([float(np.nanmax(q) - q[taken]) for q, taken in values])


def _scale(reward: NDArray[np.float64], value: NDArray[np.float64], after: NDArray[np.float64], gamma: float) -> float:
    """Return what rewards were divided by, by least squares of the temporal difference errors; 1 where none fits."""
    known = ~np.isnan(after)
    r, drop = reward[known], (value - gamma * after)[known]
    squares = float((r * r).sum())
    factor = float((r * drop).sum()) / squares if squares else 0.0
    return 1 / factor if factor > 0 else 1.0
