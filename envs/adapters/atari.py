"""Atari games as they are usually played: 84x84 grey images, four frames to a step, the last four steps stacked.

"ALE/Pong-v5" and "PongNoFrameskip-v4" name the raw emulator in Gymnasium. Here every backend plays them after Machado
et al. (2018, arXiv:1709.06009): each step repeats its action for four frames and takes the maximum of the last two, an
episode begins with up to 30 frames of doing nothing, a lost life ends nothing, and rewards are not clipped. As their
registrations say, an action sticks with probability 0.25 in version 5, and never in NoFrameskip-v4. One environment
is Gymnasium's wrappers; many are ALE's own vector environment; given the same emulator's choices both show the same
images, bit for bit. Other ids of the emulator, as "Pong-v4", skip a random number of frames and stay as they are.
"""

from __future__ import annotations

import re
from typing import Any

import gymnasium
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from envs.errors import UserError

PARAMETERS = ("frameskip", "full_action_space", "max_episode_steps", "repeat_action_probability")
_EMULATOR = "ale_py.env:AtariEnv"
_NOOPS = 30
_SKIP = 4
_STACK = 4


def is_game(spec: EnvSpec) -> bool:
    """Whether `spec` is a game of version 5 or without frame skip, which are preprocessed here."""
    return spec.vector_entry_point == "ale_py.vector_env:AtariVectorEnv" or (
        spec.entry_point == _EMULATOR and re.fullmatch(r"\w+NoFrameskip-v\d", spec.id) is not None
    )


def raw_frames(spec: EnvSpec, observation_space: Space) -> str:
    """Return what there is to say of an environment that shows raw frames of the emulator, or ""."""
    if spec.entry_point != _EMULATOR or is_game(spec) or len(observation_space.shape or ()) != 3:
        return ""
    size = "x".join(map(str, observation_space.shape or ()))
    return f"its observations are raw frames, {size}; {_version_5(spec)} is preprocessed"


def _version_5(spec: EnvSpec) -> str:
    return f"ALE/{re.sub(r'(NoFrameskip)?-v[0-9]+$', '', spec.id)}-v5"


def make_game(spec: EnvSpec, kwargs: dict[str, Any]) -> gymnasium.Env:
    """Build one game; `kwargs` are `PARAMETERS` and render_mode."""
    skip, emulator = _arguments(spec, kwargs)
    env = gymnasium.make(spec, disable_env_checker=True, frameskip=1, **emulator)
    return FrameStackObservation(AtariPreprocessing(env, _NOOPS, skip), _STACK, padding_type="zero")


def make_games(spec: EnvSpec, num_envs: int, kwargs: dict[str, Any]) -> VectorEnv:
    """Build `num_envs` games in one vector environment, which resets on the same step."""
    skip, emulator = _arguments(spec, kwargs)
    return gymnasium.make_vec(
        spec if spec.vector_entry_point is not None else _version_5(spec),
        num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.SAME_STEP,
        frameskip=skip,
        noop_max=_NOOPS,
        stack_num=_STACK,
        use_fire_reset=False,
        reward_clipping=False,
        **emulator,
    )


def _arguments(spec: EnvSpec, kwargs: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return frames per step, and the emulator's own arguments; its time limit counts frames."""
    registered = ("repeat_action_probability", "full_action_space", "max_num_frames_per_episode")
    emulator = {**{name: spec.kwargs[name] for name in registered if name in spec.kwargs}, **kwargs}
    skip = emulator.pop("frameskip", _SKIP)
    if type(skip) is not int or skip < 1:
        raise UserError(f"{spec.id}: frameskip must be an integer of at least 1, got {skip!r}")
    if "max_episode_steps" in emulator:
        emulator["max_num_frames_per_episode"] = skip * emulator.pop("max_episode_steps")
    return skip, emulator
