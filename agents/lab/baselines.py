"""stable-baselines3 (SB3) trained and evaluated: the baseline of every comparison.

SB3 is imported where it is used, and neither our configurations nor our algorithms are: a process that only trains SB3
takes the time and memory that a script of SB3's own takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.adapters.masks import ACTION_MASK, masked
from envs.errors import UserError
from envs.single import make_single


def sb3_class(algo: str) -> Any:
    """Return the class of an algorithm of SB3 or of its contributions, by its name in small letters.

    Raises:
        UserError: it is one of the contributions, which are not installed.
    """
    import stable_baselines3

    if (kind := _class_in(stable_baselines3, algo)) is not None:
        return kind
    try:
        import sb3_contrib
    except ImportError as error:
        raise UserError(f'{algo} of SB3 needs its contributions: pip install -e ".[contrib]"') from error
    return _class_in(sb3_contrib, algo)


def _class_in(module: Any, name: str) -> Any:
    """Return the class of this name, in letters of any size, or None."""
    return next((kind for own, kind in vars(module).items() if own.lower() == name and isinstance(kind, type)), None)


class MasksApart(gymnasium.Wrapper):
    """Gives masks as SB3's MaskablePPO asks for them, and an observation without them."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        leaves = dict(env.observation_space.spaces)  # type: ignore[attr-defined]
        self._mask = np.ones(leaves.pop(ACTION_MASK).shape, bool)
        self.observation_space = leaves["observation"] if [*leaves] == ["observation"] else spaces.Dict(leaves)

    def action_masks(self) -> np.ndarray:
        """Return which actions are legal now, bool `[A]`."""
        return self._mask

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**options)
        return self._without(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, *rest = self.env.step(action)
        return self._without(obs), *rest

    def _without(self, obs: dict[str, Any]) -> Any:
        self._mask = obs[ACTION_MASK] != 0
        return without_mask(obs)


def without_mask(obs: dict[str, Any]) -> Any:
    """Return an observation without its mask: one that stood beside it alone, as it was."""
    rest = {name: leaf for name, leaf in obs.items() if name != ACTION_MASK}
    return rest["observation"] if [*rest] == ["observation"] else rest


def make_sb3(
    algo: str,
    env_id: str,
    n_envs: int,
    hyperparameters: Mapping[str, Any],
    seed: int,
    *,
    normalize: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Any:
    """Build an algorithm of SB3's with its MlpPolicy (MultiInputPolicy, CnnPolicy where observations ask for it).

    RecurrentPPO has those with a memory, and MaskablePPO learns with the environment's action masks.

    Args:
        algo: its name in small letters, such as "ppo".
        env_id, env_kwargs: as `envs.make` takes them.
        n_envs: copies, stepped one after the other (DummyVecEnv, SB3's default).
        hyperparameters: SB3's own arguments as plain values (see `sb3_settings`); the others have SB3's defaults.
        seed: of networks, policy and environments.
        normalize: arguments of VecNormalize, or None to go without.
        device: where its networks are.
    """
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.preprocessing import is_image_space
    from stable_baselines3.common.vec_env import VecNormalize

    env = _make_envs(env_id, n_envs, seed, env_kwargs, masks=algo == "maskableppo")
    image = is_image_space(env.observation_space)
    nested = isinstance(env.observation_space, spaces.Dict)
    if normalize is not None:
        env = VecNormalize(env, **normalize)
    reads, remembers = "MultiInput" if nested else "Cnn" if image else "Mlp", "Lstm" if algo == "recurrentppo" else ""
    policy = f"{reads}{remembers}Policy"
    model = sb3_class(algo)(policy, env, seed=seed, device=device, **_arguments(hyperparameters))
    model.set_logger(Logger(folder=None, output_formats=[]))  # as its own without output, which leaves a folder in /tmp
    return model


def _make_envs(env_id: str, n_envs: int, seed: int, env_kwargs: Mapping[str, Any] | None, masks: bool = False) -> Any:
    from stable_baselines3.common.env_util import make_vec_env

    single = partial(make_single, env_id, env_kwargs=dict(env_kwargs or {}))
    return make_vec_env(partial(_with_masks, single, env_id) if masks else single, n_envs, seed=seed)


def _with_masks(single: Callable[[], gymnasium.Env], env_id: str) -> gymnasium.Env:
    env = single()
    env = masked(env)
    if ACTION_MASK not in getattr(env.observation_space, "spaces", ()):
        env.close()
        raise UserError(f"MaskablePPO of stable-baselines3 needs action masks, and {env_id} has none")
    return MasksApart(env)


def train_sb3(total_timesteps: int, **arguments: Any) -> tuple[Any, list[tuple[int, float]]]:
    """Train what `make_sb3` builds of the other arguments for a number of steps, or a part of a rollout more.

    Returns:
        The model, and `(steps, seconds)` of `learn` alone at its start, at the start of every later rollout and at the
        end.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    model, points = make_sb3(**arguments), list[tuple[int, float]]()

    class Clock(BaseCallback):
        def _on_rollout_start(self) -> None:
            points.append((self.num_timesteps, perf_counter() - began))

        def _on_step(self) -> bool:
            return True

    began = perf_counter()
    model.learn(total_timesteps, callback=Clock())
    return model, [*points, (model.num_timesteps, perf_counter() - began)]


def _arguments(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Put functions and classes where the settings have their names."""
    import torch

    found = {name: _schedule(value) for name, value in hyperparameters.items()}
    policy = dict(found.pop("policy_kwargs", {}))
    activations = {"tanh": "Tanh", "relu": "ReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU"}
    optimizers = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}
    if name := policy.get("activation_fn"):
        policy["activation_fn"] = getattr(torch.nn, activations[name])
    if name := policy.get("optimizer_class"):
        policy["optimizer_class"] = getattr(torch.optim, optimizers[name])
    return found | {"policy_kwargs": policy or None}


def _schedule(value: Any) -> Any:
    """Turn `lin_X` into SB3's kind of schedule: a function of the part of the run that is left."""
    if isinstance(value, str) and value.startswith("lin_"):
        start = float(value.removeprefix("lin_"))
        return lambda left: left * start
    return value


def evaluate_sb3(
    model: Any, env_id: str, episodes: int, seed: int, env_kwargs: Mapping[str, Any] | None = None
) -> tuple[list[float], list[int]]:
    """Play fresh episodes greedily; return their raw returns and their lengths in steps."""
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    env = _make_envs(env_id, min(episodes, 10), seed, env_kwargs)
    if (statistics := model.get_vec_normalize_env()) is not None:
        env = VecNormalize(env, training=False, norm_obs=statistics.norm_obs, norm_reward=False)
        env.obs_rms = statistics.obs_rms
    try:
        found: Any = evaluate_policy(model, env, episodes, return_episode_rewards=True)
    finally:
        env.close()
    returns, lengths = found
    return returns, lengths


def steady_part(points: Sequence[tuple[int, float]]) -> int:
    """Return the index of the point at which the last nine tenths of a training's steps begin.

    What happens once (compiling, first calls, a replay buffer's first samples) lies before it; the time until something
    is learnt is measured whole elsewhere.

    Args:
        points: `(steps, seconds)` in order, the start first and the end of the training last.
    """
    return next((at for at, (step, _) in enumerate(points[:-1]) if step >= points[-1][0] / 10), 0)


def steady_rate(points: Sequence[tuple[int, float]]) -> float:
    """Return steps per second over the steady part of a training, whose points are as `steady_part` takes them."""
    (first, then), (steps, seconds) = points[steady_part(points)], points[-1]
    return (steps - first) / max(seconds - then, 1e-9)
