"""Episodes written down as small files, and played again exactly.

`replays/<env>/<run>/` holds for each recorded episode `NAME.json` (what happened) and `NAME.mp4` (how it looked), and
`manifest.json`, which lists them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agents.acting.evaluation import PolicyPlayer
from agents.core.config import ObservationConfig
from agents.core.settings import PictureAxes
from agents.core.types import Policy
from agents.run import code
from agents.run.folder import run_of
from agents.run.models import LoadedPolicy
from agents.run.play import Moment, frames_per_second, moments, play, policy_env, stage
from agents.run.signature import made_here, sign
from agents.run.storage import disk, parse_json, read_bytes, write_text
from agents.run.video import FORMATS, Frame, write_video
from envs.actions import is_canonical
from envs.api import VecEnv
from envs.errors import UserError
from envs.locate import env_label

STEP_LIMIT = 20_000  # of a recorded episode, which is cut there: eleven minutes at 30 frames a second
SIZE_LIMIT, MOST_VALUES = 256 * 2**20, 10_000_000  # bytes, and numbers: 500 in each action
MANIFEST = "manifest.json"


class RecordedEpisode(BaseModel):
    """All that it takes to play an episode again on a 1-environment `sync` VecEnv, and to know that it is the same.

    `seed` is the one given to `VecEnv.reset`; `actions` are canonical; `checkpoint` and `step` name the policy. Neither
    `terminated` nor `truncated` means that the recording stopped before the episode did. `observations` is what became
    of observations before the policy saw them, and `picture_axes` how it read them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal[1] = 1
    env: str
    env_kwargs: dict[str, Any]
    wrappers: list[str | dict[str, dict[str, Any]]] = []
    rescale_action: bool
    observations: ObservationConfig = ObservationConfig()
    picture_axes: PictureAxes = "auto"
    run: str
    checkpoint: str
    step: int = Field(ge=0)
    deterministic: bool
    gymnasium: str
    seed: int = Field(ge=0)
    total_reward: float
    length: int = Field(gt=0)
    terminated: bool
    truncated: bool
    actions: list[int] | list[list[int]] | list[list[float]]
    rewards: list[float]

    @model_validator(mode="after")
    def _consistent(self) -> RecordedEpisode:
        if not len(self.actions) == len(self.rewards) == self.length:
            raise ValueError(f"{self.length} steps, {len(self.actions)} actions and {len(self.rewards)} rewards")
        return self


@dataclass(frozen=True, slots=True)
class Recorded:
    """An episode that was written down, and its two files."""

    episode: RecordedEpisode
    file: Path
    video: Path


def _content(episode: RecordedEpisode) -> dict[str, Any]:
    """Return what an episode's file holds; what is as usual is left out, as in files older than such settings."""
    fields = {name: RecordedEpisode.model_fields[name].default for name in ("wrappers", "observations", "picture_axes")}
    usual = {name for name, default in fields.items() if getattr(episode, name) == default}
    return episode.model_dump(mode="json", exclude=usual)


def _checksum(episode: RecordedEpisode) -> str:
    content = json.dumps(_content(episode), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def save_episode(file: Path, episode: RecordedEpisode) -> None:
    """Write an episode file; a crash leaves the old one or the new one, whole.

    Raises:
        UserError: it cannot be written.
    """
    with disk("write", file):
        file.parent.mkdir(parents=True, exist_ok=True)
    checksum = _checksum(episode)
    body = {"checksum": checksum, "signature": sign(checksum.encode()), "episode": _content(episode)}
    write_text(file, json.dumps(body, allow_nan=False) + "\n")


def load_episode(file: Path, trust: code.Trust = False) -> RecordedEpisode:
    """Read an episode file.

    Args:
        file: where it is, or its video.
        trust: which code outside the package that it names may be imported to play it (`code.refuse`).

    Raises:
        UserError: it is missing, torn, altered, or no episode; or the user has not agreed to the code that it needs.
    """
    if file.suffix.lower() in FORMATS and file.with_suffix(".json").exists():
        file = file.with_suffix(".json")  # the episode, which lies beside its video
    content = read_bytes(file, SIZE_LIMIT, follow=True)
    try:
        body = parse_json(content, MOST_VALUES)
        episode = RecordedEpisode.model_validate_json(json.dumps(body["episode"]))
        checksum = body["checksum"]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{file} is no recorded episode: {f'{where}: ' if where else ''}{first['msg']}") from error
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise UserError(f"{file} is no recorded episode, or only part of one ({error})") from error
    if checksum != _checksum(episode):
        raise UserError(f"{file} was altered: it does not match its own checksum")
    if not made_here(checksum.encode(), body.get("signature")):
        code.refuse({"env": episode.env, "wrappers": episode.wrappers}, str(file), trust=trust)
    return episode


def episode_env(episode: RecordedEpisode, render: bool = True) -> VecEnv:
    """Make the environment that `replay` plays an episode on.

    Raises:
        UserError: it cannot be made.
    """
    same: dict[str, Any] = {name: getattr(episode, name) for name in ("env_kwargs", "wrappers", "rescale_action")}
    same |= episode.observations.arguments
    return stage(episode.env, vec="sync", render=render, **same)


def replay(
    env: VecEnv, episode: RecordedEpisode, policy: Policy | None = None, render: bool = True
) -> Iterator[Moment]:
    """Play a recorded episode again, verifying each step bit for bit.

    Args:
        env: as `episode_env` makes it.
        policy: its outputs for each observation are shown, if given; it does not act.

    Raises:
        UserError: the actions do not fit the environment, or a reward or the end is not what was recorded;
            the message names the first step where that is so.
    """
    actions = recorded_actions(env, episode)
    played = 0

    player = None if policy is None else PolicyPlayer(policy, 1, generator=None)

    def choose(obs: Any) -> np.ndarray:
        if player is not None:
            player.act(obs)  # its memory follows the episode
        return actions[played : played + 1]

    for moment in moments(env, episode.seed, choose, player, render):
        recorded = episode.rewards[played]
        played += 1
        if np.float32(moment.reward).tobytes() != np.float32(recorded).tobytes():
            raise _differs(episode, f"step {played} gave the reward {moment.reward!r}, not {recorded!r} as recorded")
        last = played == episode.length
        if (moment.terminated, moment.truncated) != (last and episode.terminated, last and episode.truncated):
            end = f"{'ended' if moment.ended else 'did not end'} at step {played}"
            raise _differs(episode, f"the episode {end}; the recorded one ended at step {episode.length}")
        yield moment
        if last:
            return


def _differs(episode: RecordedEpisode, how: str) -> UserError:
    known = episode.gymnasium == gymnasium.__version__
    why = "" if known else f" It was recorded with Gymnasium {episode.gymnasium}; this is {gymnasium.__version__}."
    return UserError(f"{episode.env} does not play as it did when this episode was recorded: {how}.{why}")


def recorded_actions(env: VecEnv, episode: RecordedEpisode) -> np.ndarray:
    """Return the recorded actions `[T, ...]` as `VecEnv.step` takes them.

    Raises:
        UserError: they do not fit the environment.
    """
    space = env.action_space
    try:
        actions = np.array(episode.actions, np.float32 if space.dtype == np.float32 else np.int64)
    except (ValueError, OverflowError):
        actions = np.empty(0)
    fits = actions.shape == (episode.length, *(space.shape or ()))
    if not fits or not is_canonical(space, actions):
        raise UserError(f"the recorded actions do not fit {episode.env}, which takes {space}")
    return actions


def run_name(loaded: LoadedPolicy) -> str:
    """Return the name of the run that a policy comes from, or of its folder where it is part of none."""
    return run_of(loaded.path).name


def replay_folder(loaded: LoadedPolicy, replays: Path = Path("replays")) -> Path:
    """Return where the recorded episodes of a policy go."""
    return replays / env_label(loaded.env) / run_name(loaded)


def videos_of(run: Path, env: str, replays: Path) -> list[Path]:
    """Return the videos there are of a run: recorded episodes, the newest first, and then those of the training."""
    recorded = (replays / env_label(env) / run.resolve().name).glob("*.mp4")
    by_age = sorted((file for file in recorded if file.is_file()), key=lambda file: file.stat().st_mtime, reverse=True)
    return by_age + sorted((run / "videos").glob("*.mp4"), reverse=True)


def record_episode(
    loaded: LoadedPolicy,
    seed: int,
    folder: Path,
    *,
    env: VecEnv | None = None,
    deterministic: bool = True,
    fps: float | None = None,
    picture: Callable[[Moment], Frame] | None = None,
    step_limit: int = STEP_LIMIT,
) -> Recorded:
    """Play one episode, and write its file, its video and the folder's manifest.

    Args:
        seed: given to `VecEnv.reset`; also names the files.
        folder: usually `replay_folder(loaded)`.
        env: `policy_env(loaded, render=True)`; made and closed here where it is None.
        fps: of the video; the environment's own where it is None.
        picture: what the video shows of each moment; the environment's own picture where it is None.
        step_limit: steps after which the recording stops.

    Raises:
        UserError: the environment cannot be rendered, or a file cannot be written.
    """
    played: list[Moment] = []

    def frames() -> Iterator[Frame]:
        for moment in islice(play(playing, loaded.policy, seed, deterministic), step_limit):
            assert moment.frame is not None
            yield moment.frame if picture is None else picture(moment)
            played.append(replace(moment, frame=None, outputs={}, obs=None))

    name = f"step{loaded.step}-seed{seed}{'' if deterministic else '-stochastic'}"
    file, video = folder / f"{name}.json", folder / f"{name}.mp4"
    playing = env or policy_env(loaded, render=True)
    try:
        write_video(video, frames(), fps or frames_per_second(loaded.env))
    finally:
        if env is None:
            playing.close()
    end = played[-1]
    episode = RecordedEpisode(
        env=loaded.env,
        env_kwargs=loaded.env_kwargs,
        wrappers=loaded.config.wrappers,
        rescale_action=loaded.rescale_action,
        observations=loaded.config.params.observations,
        picture_axes=loaded.config.params.network.picture_axes,
        run=run_name(loaded),
        checkpoint=loaded.name,
        step=loaded.step,
        deterministic=deterministic,
        gymnasium=gymnasium.__version__,
        seed=seed,
        total_reward=end.ret,
        length=end.step,
        terminated=end.terminated,
        truncated=end.truncated,
        actions=[moment.action.tolist() for moment in played],
        rewards=[moment.reward for moment in played],
    )
    save_episode(file, episode)
    write_manifest(folder)
    return Recorded(episode, file, video)


def write_manifest(folder: Path) -> None:
    """List the folder's episodes in its `manifest.json`; files that are no episode are left out.

    Raises:
        UserError: it cannot be written.
    """
    entries = []
    for file in sorted(folder.glob("*.json")):
        if file.name == MANIFEST or file.is_symlink():
            continue
        try:
            episode = load_episode(file, trust=True)  # nothing is played
        except UserError:
            continue
        entry = {"file": file.name, "video": file.with_suffix(".mp4").name}
        entries.append(entry | episode.model_dump(mode="json", exclude={"format", "actions", "rewards"}))
    write_text(folder / MANIFEST, json.dumps({"episodes": entries}, indent=1) + "\n")
