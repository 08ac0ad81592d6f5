"""An environment played as it comes, with everything noted that an environment can do wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import gymnasium
import numpy as np

from envs.adapters.checks import flags_of, reset_result, step_result
from envs.adapters.masks import Source, allowed_sample, flat_mask, given_mask
from envs.errors import EnvError, words_of
from envs.spaces import BadData

MOST_SECONDS = 15.0  # that one stretch of play may take


@dataclass
class PlayedEpisode:
    """What became of one episode; `ended` is "terminated", "truncated", "both", or "" where it was cut."""

    rewards: list[float] = field(default_factory=list)
    ended: str = ""
    time_limit_told: bool = False  # info["TimeLimit.truncated"], as old environments have it

    @property
    def length(self) -> int:
        return len(self.rewards)

    @property
    def total(self) -> float:
        return float(np.sum(self.rewards))


@dataclass
class Played:
    """Episodes, and what was seen of single values on the way.

    Attributes:
        outside: why an observation is not in its space, the first one -> how far beyond its range, infinity for
            another shape or kind.
        not_finite: where NaN or infinity was seen first, or "".
        reused: the step at which an observation given out before was changed, or None.
        action_changed: the step in which the environment changed the action that it was given, or None.
        low, high: the extremes of each number of an observation, by its leaf.
        seconds: "reset" and "step" -> what each of them took.
    """

    episodes: list[PlayedEpisode] = field(default_factory=list)
    outside: tuple[str, float] | None = None
    not_finite: str = ""
    reused: int | None = None
    action_changed: int | None = None
    low: dict[str, np.ndarray] = field(default_factory=dict)
    high: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"reset": [], "step": []})
    steps: int = 0

    @property
    def whole(self) -> list[PlayedEpisode]:
        """The episodes that came to their end."""
        return [episode for episode in self.episodes if episode.ended]


Choose = Callable[[Any, Any], Any]  # observation, info -> action


def legal(env: gymnasium.Env, source: Source | None) -> Choose:
    """Return what draws actions at random, legal ones where the environment says which are.

    Args:
        source: of its masks, as `mask_source` found it.
    """

    def choose(obs: Any, info: Any) -> Any:
        mask = given_mask(env, source, obs, info)
        if mask is None:
            return env.action_space.sample()
        return allowed_sample(env.action_space, flat_mask(mask, env.action_space) != 0)

    return choose


def in_turn(actions: Iterable[Any]) -> Choose:
    """Return what takes these actions, one after the other, whatever is seen."""
    given = map(copied, actions)
    return lambda obs, info: next(given)


def copied(action: Any) -> Any:
    """Return an action that an environment may change without harm to the next one."""
    return action.copy() if isinstance(action, np.ndarray) else action


def play(env: gymnasium.Env, choose: Choose, seed: int, steps: int, episodes: int | None = None) -> Played:
    """Play so many steps, or so many episodes where that is less.

    Raises:
        EnvError: the environment raised, or returned something of another form; the message says where.
    """
    found, began = Played(), perf_counter()
    while found.steps < steps and (episodes is None or len(found.whole) < episodes):
        _episode(env, choose, seed + len(found.episodes), steps, found)
        if perf_counter() - began > MOST_SECONDS:
            break
    return found


def _episode(env: gymnasium.Env, choose: Choose, seed: int, steps: int, found: Played) -> None:
    began, episode = perf_counter(), PlayedEpisode()
    found.episodes.append(episode)
    obs, info = _asked(lambda: reset_result(env.reset(seed=seed)), f"in reset(seed={seed})")
    found.seconds["reset"].append(perf_counter() - began)
    _look(env, obs, "in reset", found)
    given, kept = obs, fingerprint(obs)
    while found.steps < steps and perf_counter() - began < MOST_SECONDS:
        action = _asked(partial(choose, obs, info), f"before step {found.steps + 1}")
        before, since = fingerprint(action), perf_counter()
        result = _asked(partial(_stepped, env, action), f"in step {found.steps + 1}")
        found.seconds["step"].append(perf_counter() - since)
        found.steps += 1
        obs, reward, terminated, truncated, info = result
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            _asked(partial(flags_of, [flag], name), f"in step {found.steps}")
        if found.reused is None and fingerprint(given) != kept:
            found.reused = found.steps
        if found.action_changed is None and fingerprint(action) != before:
            found.action_changed = found.steps
        _look(env, obs, f"in step {found.steps}", found)
        given, kept = obs, fingerprint(obs)
        number = _number(reward, found.steps)
        if not np.isfinite(number) and not found.not_finite:
            found.not_finite = f"the reward is {number} in step {found.steps}"
        episode.rewards.append(number)
        if terminated or truncated:
            episode.ended = "both" if terminated and truncated else "terminated" if terminated else "truncated"
            told = isinstance(info, dict) and info.get("TimeLimit.truncated")
            episode.time_limit_told = bool(told) and not truncated
            return


def _stepped(env: gymnasium.Env, action: Any) -> Any:
    return step_result(env.step(action))


def _asked(ask: Callable[[], Any], where: str) -> Any:
    try:
        return ask()
    except BadData as error:
        raise EnvError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:
        raise EnvError(f"{type(error).__name__} {where}: {words_of(error)}") from error


def _number(reward: Any, step: int) -> float:
    try:
        return float(reward)
    except (TypeError, ValueError) as error:
        raise EnvError(f"the reward in step {step} is {reward!r:.60}, which is no number") from error


def _look(env: gymnasium.Env, obs: Any, where: str, found: Played) -> None:
    """Note what is wrong with an observation, and its extremes."""
    for (name, leaf), space in zip(leaves(obs), _spaces(env.observation_space, obs), strict=False):
        array = np.asarray(leaf)
        if array.dtype.kind not in "buif":
            continue
        if array.dtype.kind == "f" and not np.isfinite(array).all() and not found.not_finite:
            found.not_finite = f"{name} holds {'NaN' if np.isnan(array).any() else 'infinity'} {where}"
        if name not in found.low or found.low[name].shape != array.shape:
            found.low[name], found.high[name] = array.astype(np.float64), array.astype(np.float64)
        np.minimum(found.low[name], array, out=found.low[name])
        np.maximum(found.high[name], array, out=found.high[name])
        if found.outside is None and (why := _misfit(name, array, space)) is not None:
            found.outside = f"{why[0]} {where}", why[1]
    if found.outside is None and not env.observation_space.contains(obs):
        found.outside = f"{_kind(obs)} is not in {env.observation_space!s:.120} {where}", np.inf


def _kind(obs: Any) -> str:
    return (
        f"{type(obs).__name__} {sorted(map(str, obs))}"
        if isinstance(obs, dict)
        else f"{type(obs).__name__} {obs!r:.60}"
    )


def _misfit(name: str, array: np.ndarray, space: Any) -> tuple[str, float] | None:
    """Return why a leaf is not in its Box, and how many of its ranges it is beyond; None where it is."""
    if not isinstance(space, gymnasium.spaces.Box):
        return None
    if array.shape != space.shape:
        return f"{name} has shape {array.shape}, and its space {space.shape}", np.inf
    if array.dtype != space.dtype and not np.can_cast(array.dtype, space.dtype):
        return f"{name} is {array.dtype}, and its space {space.dtype}", 0.0
    below, above = space.low.astype(np.float64) - array, array - space.high.astype(np.float64)
    beyond = np.maximum(below, above)
    if not beyond.size or not (worst := float(np.nanmax(beyond))) > 1e-6:
        return None
    place = np.unravel_index(int(np.nanargmax(beyond)), beyond.shape)
    low, high = float(space.low[place]), float(space.high[place])
    index = list(map(int, place)) if place else ""
    width = high - low if np.isfinite(high - low) else max(abs(low) if np.isfinite(low) else abs(high), 1.0)
    width = width or 1.0  # a number with one value alone
    return f"{name}{index} is {float(array[place]):g}, and its space goes from {low:g} to {high:g}", worst / width


def leaves(value: Any, name: str = "observation") -> Iterator[tuple[str, Any]]:
    """Yield what is no dict and no tuple in a nested value, with a name that says where it lies."""
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from leaves(value[key], f"{name}[{key!r}]")
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{name}[{i}]")
    else:
        yield name, value


def _spaces(space: Any, value: Any) -> Iterator[Any]:
    """Yield the spaces of `leaves(value)`, in their order; None where the two do not fit."""
    if isinstance(value, dict):
        inner = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}
        for key in sorted(value, key=str):
            yield from _spaces(inner.get(key), value[key])
    elif isinstance(value, tuple):
        parts = space.spaces if isinstance(space, gymnasium.spaces.Tuple) else ()
        for i, one in enumerate(value):
            yield from _spaces(parts[i] if i < len(parts) else None, one)
    else:
        yield space


def fingerprint(value: Any) -> bytes:
    """Return bytes that are alike only for values that are."""
    parts = []
    for name, leaf in leaves(value):
        array = np.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic | int | float | bool) else None
        parts.append(f"{name}{array.dtype}".encode() + array.tobytes() if array is not None else repr(leaf).encode())
    return b"|".join(parts)


def constant(space: gymnasium.Space) -> dict[str, Any]:
    """Return a few actions that are the same at every step, by what to call them."""
    if isinstance(space, gymnasium.spaces.Discrete):
        chosen = np.unique(np.linspace(space.start, space.start + space.n - 1, min(int(space.n), 6)).astype(int))
        return {f"always {action}": space.dtype.type(action) for action in chosen}
    if isinstance(space, gymnasium.spaces.Box) and space.is_bounded():
        middle = ((space.low.astype(np.float64) + space.high) / 2).astype(space.dtype)
        return {"always the lowest": space.low, "always the middle": middle, "always the highest": space.high}
    return {}
