"""One episode, decision by decision: what was expected of each and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.core.tree import to_numpy, tree_map
from agents.core.types import Policy
from agents.run.play import Moment, play
from agents.view.explanation.decisions import indecision
from agents.view.explanation.states import Shown, States
from agents.view.panel import Panel
from agents.view.reel import Reel, Tape
from envs.api import VecEnv

STEPS = 2_000  # of an episode: its pictures are kept until it is known which of them are shown
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
        tape: the pictures of the last moments, as many as there was room for; None where nothing was drawn.
    """

    moments: Sequence[Moment]
    states: States
    value: NDArray[np.float64]
    to_come: NDArray[np.float64]
    surprise: NDArray[np.float64]
    regret: NDArray[np.float64]
    indecision: NDArray[np.float64]
    scale: float = 1.0
    tape: Tape | None = None

    def __len__(self) -> int:
        return len(self.moments)

    def frame(self, at: int) -> np.ndarray | None:
        """Return the picture, uint8 `[H, W, 3]`, that an action was chosen on; None where it was not kept."""
        if self.tape is None:
            return None
        place = at - (len(self) - len(self.tape.kept))
        return self.tape.moment(place).frame if place >= 0 else None

    def striking(self) -> dict[str, list[int]]:
        """Return kind -> the places of its most striking moments, the first one the most."""
        found = {}
        for kind in KINDS:
            weights = np.abs(self.surprise) if kind == "surprise" else getattr(self, kind)
            known = weights[~np.isnan(weights)]
            # indecision may be below 0, and where it is the same everywhere it says nothing
            least = known.min(initial=np.inf) + 1e-6 if kind == "indecision" else 0.0
            weights = np.where(weights > least, weights, -np.inf)
            found[kind] = list(_apart(weights, max(len(self) // 20, 3)))
        return found


def _apart(weights: NDArray[np.float64], gap: int) -> Iterator[int]:
    """Yield the places of the largest weights, at most `SHOWN`, each at least `gap` places from those before."""
    left = weights.copy()
    for _ in range(SHOWN):
        place = int(left.argmax())
        if left[place] == -np.inf:
            return
        yield place
        left[max(place - gap + 1, 0) : place + gap] = -np.inf


def record(
    env: VecEnv, policy: Policy, seed: int, rewards: Rewards, *, deterministic: bool = True, render: bool = True
) -> Timeline:
    """Play one episode, cut after `STEPS` steps, and return its decisions.

    Args:
        env: a 1-environment VecEnv.
        render: whether it is drawn.
    """
    kept: list[Any] = []

    def see(obs: Any, carry: Any) -> Any:
        kept.append(tree_map(lambda leaf: to_numpy(leaf)[0].copy(), (obs, carry)))
        return obs

    shown: Any = Shown(policy, see)
    reel = Reel(episodes=1)
    tape = reel.begin(0, Panel("", "", "", env.action_space))
    moments: list[Moment] = []
    for moment in islice(play(env, shown, seed, deterministic, render), STEPS):
        if render:
            reel.add(moment)
        moments.append(replace(moment, frame=None, obs=kept[len(moments)][0]))
    first, *rest = kept[: len(moments)]
    states = States(*tree_map(lambda *rows: np.stack(rows), first, *rest))
    found = judged(moments, states, rewards, greedy=deterministic)
    return replace(found, tape=tape) if render else found


def judged(moments: Sequence[Moment], states: States, rewards: Rewards, *, greedy: bool) -> Timeline:
    """Return the decisions of an episode that was played."""
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
        indecision=np.array([indecision(moment.outputs) for moment in moments]),
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
