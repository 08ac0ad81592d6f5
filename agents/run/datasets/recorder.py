"""Episodes that somebody plays, written down as they are played, into a folder that Minari reads.

Each episode is on the disk, in `OUT.parts/`, before the next one begins; the folder itself appears when all are there.
Its seeds and its randomness follow from its number, so that a recording that broke off goes on where it was.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from agents.acting.evaluation import PolicyPlayer, env_action
from agents.core.types import Policy
from agents.run.datasets.experts import Random
from agents.run.datasets.minari import Episode, h5, write_episode, write_set
from agents.run.storage import atomic_folder, disk, read_json, write_text
from envs.api import VecEnv
from envs.errors import UserError
from envs.locate import env_label, locate
from envs.seeding import derive_seed

PARTS, ASKED = ".parts", "recording.json"


@dataclass(frozen=True, slots=True)
class Recording:
    """What is recorded: all that its episodes follow from.

    Attributes:
        who: the run's folder and checkpoints, "heuristic", "random" or "human".
        exploration: shares of random actions; the episodes take turns with them.
        stochastic: whether the policy's own actions are sampled.
        max_steps: after which an episode breaks off; None for no limit.
    """

    who: str
    env: str
    env_kwargs: dict[str, Any]
    wrappers: list[Any] = field(default_factory=list)
    seed: int = 0
    exploration: tuple[float, ...] = (0.0,)
    stochastic: bool = False
    max_steps: int | None = None


class RecordingWrapper(gymnasium.Wrapper):
    """Notes what an environment was given and what it returned, an episode at a time.

    Args:
        seeds: of the episodes, whatever `reset` is given; None to take that.
    """

    def __init__(self, env: gymnasium.Env, seeds: Iterator[int] | None = None) -> None:
        super().__init__(env)
        self._seeds = seeds
        self.ended: Episode | None = None
        self._running = Episode(None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seed = seed if self._seeds is None else next(self._seeds)
        observation, info = self.env.reset(seed=seed, options=options)
        self._running = Episode(seed, [copy.deepcopy(observation)])
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        running = self._running
        running.observations.append(copy.deepcopy(observation))
        running.actions.append(copy.deepcopy(action))
        running.rewards.append(float(reward))
        running.terminations.append(bool(terminated))
        running.truncations.append(bool(truncated))
        if terminated or truncated:
            self.ended = running
        return observation, reward, terminated, truncated, info

    @property
    def steps(self) -> int:
        """How many steps the running episode has."""
        return len(self._running.actions)

    def cut(self) -> None:
        """Let the running episode break off here."""
        self.ended = self._running

    def take(self) -> Episode | None:
        """Return the episode that has ended since the last call, if one has."""
        ended, self.ended = self.ended, None
        return ended


def episodes_of(
    policies: Sequence[Policy], env: VecEnv, noted: RecordingWrapper, recording: Recording, first: int, count: int
) -> Iterator[Episode]:
    """Yield the episodes from number `first` on that policies play in turn.

    Args:
        env: of one environment, `noted` around it.
    """
    space = copy.deepcopy(env.action_space)
    random = Random(space)
    for index in range(first, count):
        stream = derive_seed(recording.seed, "record", index)
        space.seed(derive_seed(stream, "actions"))
        policy = policies[index % len(policies)]
        chance, share = np.random.default_rng(stream), recording.exploration[index % len(recording.exploration)]
        noise = torch.Generator(policy.device).manual_seed(derive_seed(stream, "policy"))
        player, obs = PolicyPlayer(policy, 1, noise if recording.stochastic else None), env.reset(stream)
        while (episode := noted.take()) is None:
            action = player.act(obs)  # asked at each step, as its memory follows the episode
            if chance.random() < share:
                action = random.choose(obs, None)
            step = env.step(env_action(env, action))
            obs = step.obs
            if recording.max_steps is not None and noted.ended is None and noted.steps >= recording.max_steps:
                noted.cut()
        yield episode


class RecordingWriter:
    """A recording on its way to the disk.

    Args:
        out: the folder that it becomes.

    Raises:
        UserError: `out` is there already, or holds the parts of another recording.
    """

    def __init__(self, out: Path, recording: Recording) -> None:
        h5()
        if out.exists():
            raise UserError(f"{out} is there already: give another --out, or delete it")
        self.out, self.parts = out, out.with_name(f"{out.name}{PARTS}")
        about = json.loads(json.dumps(asdict(recording)))
        with disk("write", self.parts):
            self.parts.mkdir(parents=True, exist_ok=True)
        if (self.parts / ASKED).is_file() and read_json(self.parts / ASKED) != about:
            raise UserError(
                f"{self.parts} holds a recording of other settings that broke off: delete it, or give another --out"
            )
        write_text(self.parts / ASKED, json.dumps(about))
        self._recording = recording
        self.count = 0  # of the episodes that are there, one after the other
        while self._file(self.count).is_file():
            self.count += 1

    def _file(self, index: int) -> Path:
        return self.parts / f"{index:06}.hdf5"

    def add(self, episode: Episode, own_spaces: tuple[gymnasium.Space, gymnasium.Space]) -> None:
        """Write the next episode."""
        write_episode(self._file(self.count), episode, own_spaces)
        self.count += 1

    def finish(self, own_spaces: tuple[gymnasium.Space, gymnasium.Space], count: int) -> Path:
        """Put at most so many of the episodes together into the folder, and return that.

        Raises:
            UserError: there is none, or it cannot be written.
        """
        if not self.count:
            raise UserError(f"no episode came to its end: nothing is recorded in {self.out}")
        with atomic_folder(self.out) as folder:
            files = [self._file(index) for index in range(min(self.count, count))]
            write_set(folder, files, own_spaces, _about(self._recording))
        shutil.rmtree(self.parts, ignore_errors=True)
        return self.out


def _about(recording: Recording) -> dict[str, Any]:
    """Return what a set's metadata say of where it comes from."""
    words = [re.sub(r"[^-\w]+", "-", word).strip("-") for word in (env_label(recording.env), Path(recording.who).name)]
    ours = {name: value for name, value in asdict(recording).items() if name != "who"} | {"who": words[1]}
    found: dict[str, Any] = {
        "dataset_id": f"{words[0]}/{words[1]}-v0",
        "algorithm_name": words[1],
        "deep_rl_suite": ours,
    }
    spec: EnvSpec = copy.deepcopy(locate(recording.env))
    spec.kwargs = spec.kwargs | recording.env_kwargs
    try:
        return found | {"env_spec": spec.to_json()}
    except (TypeError, ValueError, AttributeError):  # made by a function, which no file can name
        return found


def record(
    policies: Sequence[Policy],
    env: VecEnv,
    noted: RecordingWrapper,
    recording: Recording,
    count: int,
    out: Path,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Record so many episodes of policies that take turns; a recording that broke off goes on where it was.

    Raises:
        UserError: as of `RecordingWriter`; the environment broke its contract.
    """
    written = RecordingWriter(out, recording)
    for episode in episodes_of(policies, env, noted, recording, written.count, count):
        written.add(episode, env.own_spaces)
        report(written.count, count)
    return written.finish(env.own_spaces, count)


def play_by_hand(env: gymnasium.Env, recording: Recording, count: int, out: Path) -> Path:
    """Record episodes played with the keyboard, until there are so many or the window is closed.

    Args:
        env: draws itself as "rgb_array", and takes Discrete actions.

    Raises:
        UserError: as of `RecordingWriter`.
    """
    from gymnasium.utils.play import play

    class Enough(Exception):
        """As many were played as were asked for."""

    own_spaces = env.observation_space, env.action_space
    written = RecordingWriter(out, recording)
    numbers = itertools.count(written.count)
    noted = RecordingWrapper(env, (derive_seed(recording.seed, "record", number) for number in numbers))
    keys, noop = keys_for(recording.env, env.action_space)

    def look(*_: Any) -> None:
        if (episode := noted.take()) is not None:
            written.add(episode, own_spaces)
            if written.count >= count:
                raise Enough

    if written.count < count:
        with suppress(Enough):
            play(noted, keys_to_action=keys, callback=look, noop=noop)
    return written.finish(own_spaces, count)


def keys_for(env_id: str, space: gymnasium.Space) -> tuple[dict[Any, int], int]:
    """Return which keys stand for which actions, the arrows where an environment is known, else the digits; and what
    is done where no key is pressed.
    """
    import pygame

    left, right, up = (pygame.K_LEFT,), (pygame.K_RIGHT,), (pygame.K_UP,)
    known: dict[str, tuple[dict[Any, int], int]] = {
        "CartPole-v1": ({left: 0, right: 1}, 0),
        "MountainCar-v0": ({left: 0, right: 2}, 1),
        "Acrobot-v1": ({left: 0, right: 2}, 1),
        "LunarLander-v3": ({left: 1, up: 2, right: 3}, 0),
    }
    first, count = int(space.start), int(space.n)  # type: ignore[attr-defined]
    digits = {str(index): first + index for index in range(min(count, 10))}
    return known.get(env_id, (digits, first))
