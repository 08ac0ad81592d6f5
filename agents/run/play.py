"""One episode at a time, step by step, for those who watch and those who write it down."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Container, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from agents.acting.evaluation import Evaluation, PolicyPlayer, env_action, evaluate, policy_generator
from agents.core.tree import to_numpy, tree_map
from agents.core.types import Policy
from agents.run.evaluator import most_steps_of
from agents.run.models import LoadedPolicy
from envs.actions import ActionCodec
from envs.adapters import mujoco
from envs.api import VecEnv
from envs.errors import EnvError, UserError
from envs.locate import locate
from envs.make import make
from envs.names import renamed
from envs.native.gym_env import native_task
from envs.single import check_renders

PARALLEL = 10  # environments that a policy is measured in together
HEADLESS = ("dummy", "offscreen")  # SDL's drivers that show nothing

Choose = Callable[[Any], Any]  # observations [1, ...] -> actions [1, ...] as VecEnv.step takes them


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of an episode: what was seen, what was done, and what came of it. No array has a batch axis.

    Attributes:
        step: counted from 1.
        frame: uint8 `[H, W, 3]`, the picture the action was chosen on; None where nothing is rendered.
        outputs: `Policy.inspect` of the observation; empty where no policy is asked.
        action: canonical.
        ret: sum of the rewards so far, this one included.
        obs: canonical, what the action was chosen on; None where nothing is rendered.
        carry: what the policy remembered then, with a batch axis of 1; () where it remembers nothing.
        memory_reset: whether that was its memory of an episode that starts.
    """

    step: int
    frame: np.ndarray | None
    outputs: dict[str, np.ndarray]
    action: np.ndarray
    reward: float
    ret: float
    terminated: bool
    truncated: bool
    obs: Any = None
    carry: Any = ()
    memory_reset: bool = False

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated


def moments(
    env: VecEnv,
    seed: int,
    choose: Choose,
    player: PolicyPlayer | None = None,
    render: bool | Container[int] = True,
    forget: Callable[[], bool] = lambda: False,
) -> Iterator[Moment]:
    """Play one episode from `env.reset(seed)` on a 1-environment VecEnv, one step for each pull.

    Args:
        player: is asked what it thinks of each observation, if given.
        render: whether it is drawn, or after how many steps it is.
        forget: asked before each step whether its memory is to begin anew.
    """
    obs = env.reset(seed)
    remembers = player is not None and player.remembers
    ret, count, ended = 0.0, 0, False
    while not ended:
        is_drawn = render if isinstance(render, bool) else count in render
        frame, seen = (_picture(env), tree_map(lambda leaf: to_numpy(leaf)[0], obs)) if is_drawn else (None, None)
        outputs, carry, reset = dict[str, np.ndarray](), (), remembers and (not count or forget())
        if player is not None:
            if reset and count:
                player.start(np.ones(1, bool))
            outputs, carry = {key: to_numpy(row)[0] for key, row in player.inspect(obs).items()}, player.carry
        action = choose(obs)
        step = env.step(action)
        obs = step.obs
        reward, terminated, truncated = (to_numpy(x)[0].item() for x in (step.reward, step.terminated, step.truncated))
        ret, count, ended = ret + reward, count + 1, terminated or truncated
        yield Moment(count, frame, outputs, to_numpy(action)[0], reward, ret, terminated, truncated, seen, carry, reset)


def _picture(env: VecEnv) -> np.ndarray:
    try:
        return env.render()
    except UserError:
        raise
    except Exception as error:
        raise EnvError(f"the environment could not be drawn: {type(error).__name__}: {error}") from error


def play(
    env: VecEnv,
    policy: Policy,
    seed: int,
    deterministic: bool = True,
    render: bool = True,
    forget: Callable[[], bool] = lambda: False,
) -> Iterator[Moment]:
    """Let `policy` play one episode on a 1-environment VecEnv; the same seed gives the same episode.

    Args:
        forget: as `moments` takes it.
    """
    player = PolicyPlayer(policy, 1, None if deterministic else policy_generator(policy, seed))
    return moments(env, seed, lambda obs: env_action(env, player.act(obs)), player, render, forget)


def measure(loaded: LoadedPolicy, episodes: int, seed: int, deterministic: bool = True) -> Evaluation:
    """Let a policy play `episodes` episodes in fresh copies of its environment, from `reset(seed)` on.

    Raises:
        UserError: the environment cannot be made.
    """
    limit = most_steps_of(loaded.config, loaded.env, loaded.env_kwargs)
    with closing(policy_env(loaded, min(PARALLEL, episodes), vec="auto")) as env:
        return evaluate(env, loaded.policy, episodes, seed, deterministic, limit)


def has_display() -> bool:
    """Whether a window could open, as far as the surroundings tell."""
    if driver := os.environ.get("SDL_VIDEODRIVER"):
        return driver not in HEADLESS
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def watch_fault(env_id: str) -> str | None:
    """Say why an environment cannot be watched here, as far as can be told without making it; None where it can."""
    if importlib.util.find_spec("pygame") is None:
        return "to watch a policy takes the package pygame: pip install pygame"
    try:
        check_renders(env_id)
    except UserError as error:
        return str(error)
    return None


def stage(env_id: str, num_envs: int = 1, *, render: bool = False, **options: Any) -> VecEnv:
    """`envs.make.make`, ready to draw where `render`."""
    if render:
        prepare_drawing(env_id)
    return make(env_id, num_envs, render=render, **options)


def prepare_drawing(env_id: str) -> None:
    """Tell what an environment draws with of a screen or a sound card that is not there.

    That is pygame for most of Gymnasium's, and MuJoCo's own renderer, which draws in the first way that works here.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")  # or a program that draws does not end at SIGTERM
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    mujoco.choose_way(locate(env_id), has_display())


def policy_env(
    loaded: LoadedPolicy,
    num_envs: int = 1,
    *,
    vec: str = "sync",
    render: bool = False,
    around: Callable[[gymnasium.Env], gymnasium.Env] | None = None,
) -> VecEnv:
    """Make the environment that a policy was trained on; `LoadedPolicy.moved` names another one that it fits.

    Raises:
        UserError: the environment cannot be made, or its spaces are not those of the policy.
    """
    name, num_envs = loaded.env, 1 if loaded.config.one_instance else num_envs
    same: dict[str, Any] = {"wrappers": loaded.config.wrappers, "rescale_action": loaded.rescale_action}
    same |= loaded.config.params.observations.arguments
    env = stage(name, num_envs, render=render, vec=vec, env_kwargs=loaded.env_kwargs, around=around, **same)
    try:
        refuse_unfit(loaded, env, name)
    except UserError:
        env.close()
        raise
    own = loaded.config.action_names, loaded.config.observation_names
    env.names = renamed(env.names, *own, env.observation_space, env.action_space)
    return env


def refuse_unfit(loaded: LoadedPolicy, env: VecEnv, name: str) -> None:
    """Refuse a policy of other spaces than an environment's, whatever the scale of that one's actions.

    Raises:
        UserError: the message names both.
    """
    for what, offered, learnt in (
        ("observations", env.observation_space, loaded.observation_space),
        ("actions", ActionCodec(env.own_spaces[1], loaded.rescale_action).space, loaded.action_space),
    ):
        if offered != learnt:
            raise UserError(f"{loaded.path}: this policy does not fit {name}: it learnt {what} {learnt}, not {offered}")


def frames_per_second(env_id: str) -> float:
    """Return how many steps of an environment make a second, by its metadata; 30 where it does not say."""
    spec = locate(env_id)
    if (task := native_task(spec)) is not None:
        return float(task.render_fps)
    entry = spec.entry_point
    maker = load_env_creator(entry) if isinstance(entry, str) else entry
    metadata = getattr(maker, "metadata", None)
    fps = metadata.get("render_fps") if isinstance(metadata, dict) else None  # of a wrapper's class it is a property
    return float(fps) if isinstance(fps, int | float) and 0 < fps <= 1000 else 30.0
