"""The check-up of recorded episodes before they are learnt from: a verdict for each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import filterfalse, islice
from typing import Any

import gymnasium
import numpy as np

from agents.data import inspection
from agents.data.dataset import Dataset
from agents.lab.checkup.environment import CheckResult
from agents.lab.words import plural
from envs.actions import ActionCodec
from envs.adapters.checks import closed, silenced
from envs.adapters.masks import ACTION_MASK, masked
from envs.errors import UserError, words_of
from envs.locate import Wrappers
from envs.single import make_single
from envs.spaces import BadData, ObservationCodec

PLAYED = 5  # episodes that are played again at the most
CLOSE = 1e-4  # of a reward or an observation, whose last bits may differ between machines
FIXES = {
    "nan": ("fault", "record it anew, or train with --data-nan drop"),
    "bounds": ("warning", "train with --data-bounds clip, or drop; choices that there are not must be dropped"),
    "broken": ("fault", "the rows are not in order, or episodes were joined: record it anew, or --data-broken drop"),
    "duplicates": ("warning", "training leaves them out (--data-duplicates drop), so that none is held out and learnt"),
    "unended": ("warning", "where they broke off nothing is known of what came after; --data-unended drop"),
}


def check_dataset(
    data: Dataset, env_id: str | None = None, env_kwargs: dict[str, Any] | None = None, wrappers: Wrappers = ()
) -> Iterator[CheckResult]:
    """Yield a verdict for each thing that can be looked at.

    Args:
        data: as it was read.
        env_id, env_kwargs, wrappers: the environment that it was recorded in, in which episodes with a seed are played
            again; None to do without.
    """
    for remark in data.remarks:
        yield CheckResult("reading", "warning", remark, "give timeouts and next_observations, if they are known")
    yield CheckResult("size", "ok", f"{plural(data.episodes, 'episode')}, {plural(len(data), 'transition')}")
    yield CheckResult("lengths", "ok", _spread(data.lengths))
    yield CheckResult("returns", "ok", _spread(data.returns))
    if (space := ActionCodec(data.own_spaces[1]).space) and isinstance(space, gymnasium.spaces.Discrete):
        taken, counts = (part.tolist() for part in np.unique(np.clip(data.action, 0, space.n - 1), return_counts=True))
        each = list(zip(taken, counts, strict=True))[:20]
        shares = ", ".join(f"{index}: {count / len(data):.1%}" for index, count in each)
        never = [str(index) for index in islice(filterfalse(set(taken).__contains__, range(space.n)), 10)]
        told = "a policy cannot learn from these data when to take them"
        yield CheckResult(
            "actions", "warning" if never else "ok", shares, f"never taken: {', '.join(never)}; {told}" if never else ""
        )
    for name, flags in inspection.faults_of(data).items():
        yield _of_fault(data, name, flags)
    still = {name: numbers for name, numbers in inspection.constants(data).items() if numbers}
    where = "; ".join(f"{name or 'observation'} {_some(numbers)}" for name, numbers in still.items())
    fix = "a number that never changes tells nothing; a network may go wrong where it does change"
    yield CheckResult(
        "constants",
        "warning" if still else "ok",
        f"never change: {where}" if still else "all numbers change",
        fix * bool(still),
    )
    for name, (mean, deviation) in data.statistics().items():
        if mean.ndim == 1 and mean.size <= 12:
            numbers = ", ".join(f"{m:.3g} +- {d:.3g}" for m, d in zip(mean, deviation, strict=True))
            yield CheckResult(f"statistics{f' of {name}' if name else ''}", "ok", numbers)
    yield _of_shift(inspection.reward_shift(data), inspection.reward_edges(data))
    if env_id is not None:
        yield from _played_again(data, env_id, env_kwargs or {}, wrappers)


def _of_fault(data: Dataset, name: str, flags: Any) -> CheckResult:
    touched = np.unique(data.episode[flags])
    if not touched.size:
        return CheckResult(name, "ok", f"no {inspection.WORDS[name]}")
    level, fix = FIXES[name]
    if name == "bounds" and inspection.bad_actions(data).any():
        level = "fault"
    first = int(np.flatnonzero(flags)[0])
    at = f"first in episode {data.episode[first]}, step {first - data.starts[data.episode[first]]}"
    words = f"{inspection.WORDS[name]} in {touched.size:,} episodes, {int(flags.sum()):,} transitions; {at}"
    return CheckResult(name, level, words, fix)  # type: ignore[arg-type]


def _of_shift(shift: int, edges: int) -> CheckResult:
    if not shift and edges:
        where = "first rewards of all episodes are" if edges > 0 else "last rewards of episodes that were cut are"
        words = f"the {where} the same number, and no other reward is: so it looks where all were moved by one step"
        return CheckResult("rewards", "warning", words, "if they were, move them back; give the data seeds, to be sure")
    if not shift:
        return CheckResult("rewards", "ok", "nothing in the data says that they belong to other transitions")
    late = "later" if shift > 0 else "earlier"
    words = (
        f"what follows from a transition is the reward one step {late}, by a fit to both observations and the action"
    )
    return CheckResult(
        "rewards", "fault", words, "move the rewards by one step: that of row t belongs to obs t, action t"
    )


def _spread(numbers: Any) -> str:
    low, middle, high = np.percentile(numbers, (0, 50, 100))
    return f"{low:,.6g} to {high:,.6g}, median {middle:,.6g}, mean {np.mean(numbers):,.6g}"


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def _played_again(data: Dataset, env_id: str, env_kwargs: dict[str, Any], wrappers: Wrappers) -> Iterator[CheckResult]:
    """Play recorded actions from recorded seeds: rewards and observations must be those recorded."""
    known = [index for index, seed in enumerate(data.seeds) if seed is not None][:PLAYED]
    if not known:
        yield CheckResult("replay", "ok", "no episode has a seed, so that none can be played again")
        return
    try:
        plain = ACTION_MASK not in getattr(data.own_spaces[0], "spaces", ())  # from elsewhere
        making = make_single if plain else recorded_in
        with closed(making(env_id, env_kwargs=env_kwargs, wrappers=wrappers)) as env, silenced():
            found = [_compared(data.take([index]), env) for index in known]
    except (Exception, SystemExit) as error:  # whatever the environment raises
        told = isinstance(error, UserError | BadData)
        yield CheckResult(
            "replay",
            "fault",
            str(error) if told else f"{type(error).__name__}: {words_of(error)}",
            "give the environment that they were recorded in: --env, --env-kwargs, --wrappers",
        )
        return
    words = [word for word in found if word]
    if not words:
        yield CheckResult("replay", "ok", f"{len(known)} episodes played again from their seeds: the same to the end")
        return
    fix = "the environment or its version is another one, or rows were changed since they were recorded"
    shifted = "one step" in words[0]
    yield CheckResult(
        "replay",
        "fault",
        f"{len(words)} of {len(known)} episodes: {words[0]}",
        "move the rewards back" if shifted else fix,
    )


def recorded_in(env_id: str, env_kwargs: dict[str, Any], wrappers: Wrappers) -> gymnasium.Env:
    """Return the environment whose observations are those of its recordings: with masks in them, if it gives any.

    Raises:
        UserError: it cannot be built.
    """
    return masked(make_single(env_id, env_kwargs=env_kwargs, wrappers=wrappers))


def _compared(one: Dataset, env: gymnasium.Env) -> str:
    """Return how an episode differs from what its environment does, or ""."""
    observations, actions = ObservationCodec(env.observation_space, unclean=True), ActionCodec(env.action_space)
    seed = one.seeds[0]
    seen, _ = env.reset(seed=seed)
    rewards: list[float] = []
    differs = "" if _same(observations.encode([seen]), one.at(slice(0, 1))) else "its first observation is another"
    for index, action in enumerate(actions.each(actions.decode(one.action))):
        if not env.action_space.contains(action):
            return f"step {index} has an action that the environment has not"
        seen, reward, terminated, truncated, _ = env.step(action)
        rewards.append(float(reward))
        if not differs and not _same(observations.encode([seen]), one.at(slice(index + 1, index + 2))):
            differs = f"after step {index} another observation comes"
        if terminated or truncated:
            break
    true, told = np.array(rewards, np.float32), one.reward[: len(rewards)]
    if len(true) == len(told) and _near(true, told):
        return differs or ("" if len(true) == len(one) else f"it ends after {len(true)} steps, not {len(one)}")
    if len(true) > 2 and _near(true[1:], told[: len(true) - 1]):
        return "the rewards are shifted by one step: row t has the reward of step t + 1"
    if len(true) > 2 and _near(true[:-1], told[1 : len(true)]):
        return "the rewards are shifted by one step: row t has the reward of step t - 1"
    return f"the rewards differ: step {int(np.argmax(~np.isclose(true[: len(told)], told[: len(true)], CLOSE, CLOSE)))}"


def _near(one: Any, other: Any) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, CLOSE, CLOSE))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_same(leaf, other[name]) for name, leaf in one.items())
    return bool(np.allclose(one, other, CLOSE, CLOSE, equal_nan=True))
