"""How much each feature counts: what its gradient says, and what happens where it is replaced by other states'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from agents.core.tree import tree_map
from agents.view.explanation.attribution import Leaves, Question, gradients, integrated
from agents.view.explanation.decisions import difference
from agents.view.explanation.features import Feature
from agents.view.explanation.states import States, greedy

SHUFFLES = 3  # with which other state each one swaps a feature
EXPLAINED, EXPLAINED_PICTURES = 256, 32  # states whose gradients are taken: integrals take `STEPS` passes each
LARGE = 2_000  # numbers of an observation from which on it counts as a picture there


@dataclass(frozen=True)
class Subject:
    """A policy with its canonical spaces and states that it came to.

    Attributes:
        actions: the most likely ones in these states.
    """

    policy: Any
    obs_space: Space
    action_space: Space
    states: States
    actions: NDArray[Any]

    @property
    def spread(self) -> NDArray[np.float64]:
        """The deviation of each number of the actions."""
        return np.asarray(self.actions.std(axis=0, dtype=np.float64))

    def ask(self, states: States, actions: NDArray[Any]) -> Question:
        """Ask why these actions were chosen in these states."""
        return Question(self.policy, self.obs_space, self.action_space, states.obs, states.carry, actions)

    def changed(self, before: NDArray[Any], states: States) -> float:
        """Return how far the actions in states differ from `before` (see `decisions.difference`), the mean."""
        after = greedy(self.policy, states)
        return float(difference(self.action_space, before, after, self.spread).mean())


@dataclass(frozen=True)
class Importance:
    """How much a feature counts for the decisions in all states together.

    Attributes:
        changed: how far actions change where it is that of another state: their share, or the distance of numbers in
            units of their deviation.
        gradient: mean size of the gradient of the score times the deviation of each number, summed over the numbers;
            None where there is no gradient.
        integrated: mean size of what it adds to the score over that of the mean observation, likewise.

    Both are in units of the score's own deviation.
    """

    feature: Feature
    changed: float
    gradient: float | None = None
    integrated: float | None = None


def importances(subject: Subject, features: Sequence[Feature], seed: int) -> list[Importance]:
    """Return how much each feature counts, the one first whose replacement changes most."""
    rng = np.random.default_rng(seed)
    count = len(subject.states)
    orders = [np.roll(np.arange(count), int(rng.integers(1, max(count, 2)))) for _ in range(SHUFFLES)]
    slopes, parts = _by_gradient(subject, features)
    found = []
    for index, feature in enumerate(features):
        changed = []
        for order in orders:
            obs = feature.replaced(subject.states.obs, subject.states.rows(order).obs)
            changed.append(subject.changed(subject.actions, States(obs, subject.states.carry)))
        found.append(Importance(feature, float(np.mean(changed)), slopes[index], parts[index]))
    return sorted(found, key=lambda one: (-one.changed, -(one.integrated or 0.0)))


def _by_gradient(
    subject: Subject, features: Sequence[Feature]
) -> tuple[Sequence[float | None], Sequence[float | None]]:
    """Return `Importance.gradient` and `Importance.integrated` of each feature."""
    numbers: list[int] = []
    tree_map(lambda leaf: numbers.append(leaf[0].size), subject.states.obs)
    rows = slice(EXPLAINED_PICTURES if sum(numbers) >= LARGE else EXPLAINED)
    question = subject.ask(subject.states.rows(rows), subject.actions[rows])
    if not question.continuous:
        return [None] * len(features), [None] * len(features)
    spread = question.spread()
    deviations = tree_map(lambda leaf: leaf.std(axis=0, dtype=np.float64), subject.states.obs)
    of_leaf = deviations if isinstance(deviations, dict) else {"": deviations}
    slopes = {path: np.abs(leaf) * of_leaf[path] for path, leaf in gradients(question).items()}
    parts = integrated(question, subject.states.mean())
    return [_size(one, slopes, spread) for one in features], [_size(one, parts, spread) for one in features]


def _size(feature: Feature, leaves: Leaves, spread: NDArray[np.float64]) -> float | None:
    summed = feature.summed(leaves)  # [K, B]
    return None if summed is None else float((np.abs(summed) / spread[:, None]).mean())


@dataclass(frozen=True)
class Effect:
    """What a policy earns that sees other states' values of a feature.

    Attributes:
        returns: undiscounted raw return of each episode.
    """

    importance: Importance
    returns: NDArray[np.float64]

    @property
    def name(self) -> str:
        return self.importance.feature.name
