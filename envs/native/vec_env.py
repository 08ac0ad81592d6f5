"""Native environments as a `VecEnv`: NumPy on the CPU, torch elsewhere."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs import saved
from envs.actions import ActionCodec, refuse_nan
from envs.adapters.checks import env_error, picture
from envs.adapters.masks import ACTION_MASK, MaskCheck
from envs.api import Array, InProcess, Obs, Step
from envs.errors import UserError
from envs.native.arrays import Arrays
from envs.native.base import Dynamics, Observed, painter_of, state_like
from envs.native.painters import Painter
from envs.seeding import derive_seed
from envs.spaces import BadData, ObservationCodec


def tick(
    xp: Any, dynamics: Observed, state: Array, steps: Array, action: Array, uniform: Array
) -> tuple[Array, Array, Obs, Array, Array, Array, Obs]:
    """Step N environments once and begin a new episode where one ended; a pure function, to be compiled or captured.

    Args:
        xp: the array module.
        dynamics: `NativeVecEnv.dynamics`.
        state: `[k, N]`.
        steps: int64 `[N]`, taken in each environment's episode.
        action: what `NativeVecEnv.decode` returned.
        uniform: float64 `[uniforms + step_uniforms, N]` in [0, 1): the first for the episodes that begin, the others
            for the step.

    Returns:
        The next state and steps, and `obs`, `reward`, `terminated`, `truncated` and `next_obs` of `envs.api.Step`.
    """
    initial = dynamics.uniforms
    state, reward, terminated = dynamics.step(xp, state, action, uniform[initial:])
    steps = steps + 1
    truncated = steps >= dynamics.max_episode_steps
    done = terminated | truncated
    next_obs = dynamics.observe(xp, state)
    state = xp.where(done, dynamics.init(xp, uniform[:initial]), state)
    steps = xp.where(done, 0, steps)
    reward = xp.asarray(reward, dtype=xp.float32)
    return state, steps, dynamics.observe(xp, state), reward, terminated, truncated, next_obs


class NativeVecEnv(InProcess):
    """N native environments, stepped as one set of arrays. See `envs.api.VecEnv`.

    Attributes:
        rules: the task.
        dynamics: the task, its observations canonical.
        state: `[k, N]`, of the dynamics.
        steps: int64 `[N]`, taken in their episodes.
        uniforms: how many random numbers a tick takes for each environment.
    """

    backend = "native"

    def __init__(self, dynamics: Dynamics, num_envs: int, arrays: Arrays, rescale_action: bool = False) -> None:
        self.num_envs = num_envs
        self.device = arrays.device
        self.capturable = arrays.xp is not np
        self.own_spaces = dynamics.observation_space, dynamics.action_space
        self.observation_space = ObservationCodec(dynamics.observation_space).space
        self.dynamics = Observed(dynamics, self.observation_space)
        self.uniforms = dynamics.uniforms + dynamics.step_uniforms
        self.action_space = ActionCodec(dynamics.action_space, rescale_action).space
        self._check_mask = MaskCheck(self.observation_space, self.action_space)
        self.state: Array = None
        self.steps: Array = None
        self._arrays = arrays
        self.rules = dynamics
        self._no_uniform = np.empty((0, num_envs))
        self._numpy = arrays.xp is np
        self._limit = dynamics.max_episode_steps
        self._bounds: tuple[Array, Array] | None = None
        self._scale: tuple[Array, Array] | None = None
        if isinstance(self.action_space, gymnasium.spaces.Box):
            self._bounds = arrays.from_numpy(self.action_space.low), arrays.from_numpy(self.action_space.high)
        if rescale_action and isinstance(dynamics.action_space, gymnasium.spaces.Box):
            low, high = dynamics.action_space.low, dynamics.action_space.high
            self._scale = arrays.from_numpy((high - low) / 2), arrays.from_numpy((high + low) / 2)
        self._painter: Painter | None = None

    def reset(self, seed: int) -> Obs:
        arrays = self._arrays
        arrays.seed(derive_seed(seed, "env"))
        self.state = arrays.assign(self.state, self.dynamics.init(arrays.xp, self._draw_starts()))
        self.steps = arrays.assign(self.steps, arrays.zeros(self.num_envs))
        obs = self.dynamics.observe(arrays.xp, self.state)
        return self._to_act_on(obs) if self._numpy else obs

    def step(self, action: Array) -> Step:
        return self._step_numpy(self.decode(action)) if self._numpy else self.step_drawn(action, self.draw())

    def step_drawn(self, action: Array, uniform: Array) -> Step:
        """`step` with the randomness that `draw` returned (tensors only)."""
        arrays, action = self._arrays, self.decode(action)
        state, steps, *step = tick(arrays.xp, self.dynamics, self.state, self.steps, action, uniform)
        self.state = arrays.assign(self.state, state)
        self.steps = arrays.assign(self.steps, steps)
        return Step(*step)

    def _step_numpy(self, action: np.ndarray) -> Step:
        """`tick`, which begins episodes only where some ended, and draws only what it needs."""
        dynamics = self.dynamics
        uniform = (
            self._arrays.uniform(dynamics.step_uniforms, self.num_envs) if dynamics.step_uniforms else self._no_uniform
        )
        self.state, reward, terminated = dynamics.step_numpy(self.state, action, uniform)
        self.steps += 1
        truncated = self.steps >= self._limit
        done = terminated | truncated
        obs = next_obs = dynamics.observe(np, self.state)
        if np.count_nonzero(done):
            (rows,) = done.nonzero()
            fresh = dynamics.init(np, self._draw_starts().take(rows, axis=1))
            self.state[:, rows] = fresh
            self.steps[rows] = 0
            obs = _with_rows(next_obs, rows, dynamics.observe(np, fresh))
        return Step(self._to_act_on(obs), np.asarray(reward, np.float32), terminated, truncated, next_obs)

    def _to_act_on(self, obs: Obs) -> Obs:
        """Return `obs`, once it is sure that there is an action for each environment (NumPy only, as for NaN)."""
        try:
            self._check_mask(obs)
        except BadData as error:
            raise env_error(error.row, error, f"at step {self.steps[error.row]} of its episode") from error
        return obs

    def decode(self, action: Array) -> Array:
        """Return canonical actions as the dynamics take them: clipped to the bounds, or rescaled to them.

        Raises:
            UserError: an action is NaN (NumPy only: nothing waits for a device, or may in a captured step).
        """
        if self._bounds is None:
            return action
        if self._numpy:
            refuse_nan(action)
        low, high = self._bounds
        xp = self._arrays.xp
        action = xp.minimum(xp.maximum(action, low), high)
        return action if self._scale is None else action * self._scale[0] + self._scale[1]

    def draw(self, *ticks: int) -> Array:
        """Draw what `tick` takes, `[*ticks, uniforms, N]`, from these environments' generator."""
        return self._arrays.uniform(*ticks, self.uniforms, self.num_envs)

    def _draw_starts(self) -> Array:
        return self._arrays.uniform(self.dynamics.uniforms, self.num_envs)

    def state_dict(self) -> dict[str, Any]:
        arrays = self._arrays
        return {
            "state": arrays.to_numpy(self.state),
            "steps": arrays.to_numpy(self.steps),
            "generator": arrays.generator_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        arrays, like = self._arrays, state_like(self.dynamics, self.num_envs)
        state_array = saved.array(state.get("state"), "state", like.shape, like.dtype)
        steps = saved.array(state.get("steps"), "steps", (self.num_envs,), np.int64)
        self._refuse_impossible(state_array)
        generator, notes = saved.entry(state, "generator", dict), []
        try:
            if _generator_kind(generator) == _generator_kind(arrays.generator_state()):
                arrays.set_generator_state(generator)
            else:
                arrays.seed(derive_seed(int(steps.sum()), "env", "resumed"))
                notes = ["the environments' random stream begins anew: it was saved on another kind of device"]
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"the saved environment position has no random state for {self.device}: {error}") from error
        self.state = arrays.assign(self.state, arrays.from_numpy(state_array))
        self.steps = arrays.assign(self.steps, arrays.from_numpy(steps))
        return notes

    def _refuse_impossible(self, state: np.ndarray) -> None:
        """Look at saved states `[k, N]`, and go a step on from them.

        Raises:
            UserError: a state holds NaN or comes to it, or the rules cannot go on from it.
        """
        dynamics, uniform = self.dynamics, np.full((self.dynamics.step_uniforms, self.num_envs), 0.5)
        try:
            with np.errstate(all="ignore"):
                obs = dynamics.observe(np, state)
                for one in (state, *(dynamics.step(np, state, action, uniform)[0] for action in self._tried(obs))):
                    if np.isnan(one).any():
                        raise ValueError("it holds NaN, or comes to it in a step")
                    dynamics.observe(np, one)
        except (ValueError, LookupError, ArithmeticError, TypeError, RuntimeError) as error:
            raise UserError(
                f"the saved environment position is none of {type(self.rules).__name__}: {error}"
            ) from error

    def _tried(self, obs: Obs) -> list[np.ndarray]:
        """Return legal actions of all environments: all choices where all are legal, or else one, or zeros."""
        space = self.action_space
        zero = np.zeros((self.num_envs, *(space.shape or ())), space.dtype)
        if isinstance(obs, dict) and ACTION_MASK in obs:
            return [obs[ACTION_MASK].argmax(axis=-1)] if isinstance(space, gymnasium.spaces.Discrete) else []
        return (
            [zero + choice for choice in range(int(space.n))]
            if isinstance(space, gymnasium.spaces.Discrete)
            else [zero]
        )

    def render(self, index: int = 0) -> np.ndarray:
        if self._painter is None:
            self._painter = painter_of(self.rules, "rgb_array")
        return picture(self._painter.paint(self._arrays.to_numpy(self.state[:, index])))

    def close(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None


def _generator_kind(state: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells states of NumPy's generators, and of PyTorch's on each kind of device, apart.

    Raises:
        KeyError: it is the state of neither.
    """
    return ("torch", np.shape(state["torch"])) if "torch" in state else ("numpy", state["bit_generator"])


def _with_rows(obs: Obs, rows: np.ndarray, new: Obs) -> Obs:
    """Return a copy of `obs` with `rows` taken, in order, from `new`."""
    if isinstance(obs, dict):
        return {key: _with_rows(leaf, rows, new[key]) for key, leaf in obs.items()}
    copy = obs.copy()
    copy[rows] = new
    return copy
