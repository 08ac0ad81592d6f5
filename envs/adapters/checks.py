"""What every adapter checks of what a Gymnasium environment returned, and how an error is worded."""

from __future__ import annotations

import math
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import gymnasium
import numpy as np

from envs.api import Step
from envs.errors import EnvError, words_of
from envs.spaces import MISFITS, BadData


@contextmanager
def silenced() -> Iterator[None]:
    """Keep Gymnasium from printing what our own errors say better."""
    level = gymnasium.logger.min_level
    gymnasium.logger.min_level = 100
    try:
        yield
    finally:
        gymnasium.logger.min_level = level


@contextmanager
def closed(env: Any, who: str = "an environment") -> Iterator[Any]:
    """Yield an environment, and close it at the end of the block; where it raises then, warn of that and go on.

    What was done in it is done: an error in `close` is no reason to lose it.
    """
    try:
        yield env
    finally:
        try:
            env.close()
        except (Exception, SystemExit) as error:
            said = f"{who} raised {type(error).__name__} when it was closed: {words_of(error)}"
            warnings.warn(said, RuntimeWarning, stacklevel=3)


_RULES = {
    "reset": "reset must return (observation, info)",
    "step": "step must return (observation, reward, terminated, truncated, info)",
}
_ARGUMENT = re.compile(r"\breset\(\) got an unexpected keyword argument '(seed|options)'")


def reset_result(result: Any) -> Any:
    """Return what `reset` returned, which must be a pair; BadData if not."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise BadData(None, f"{_RULES['reset']}, but it returned {_listed(result)}")
    return result


def step_result(result: Any) -> Any:
    """Return what `step` returned, which must be five values; BadData if not."""
    if not isinstance(result, tuple) or len(result) != 5:
        raise BadData(None, f"{_RULES['step']}, but it returned {_listed(result)}")
    return result


def _listed(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"a single {type(result).__name__}"


def rewards_of(rewards: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return N rewards as fresh float32 `[N]`.

    Raises:
        BadData: one is not a finite number; `row` says which.
    """
    try:
        array = np.array(rewards)
        if array.dtype.kind in "biuf" and array.ndim == 1:  # NumPy would read text, too, as numbers
            array = array.astype(np.float32, copy=False)
            # A sum of squares is finite only if every entry is; if not, it may just have overflowed.
            if math.isfinite(np.vdot(array, array)) or np.isfinite(array).all():
                return array
    except MISFITS:
        pass
    for row, reward in enumerate(rewards):
        if np.ndim(reward) != 0:
            raise BadData(row, f"reward has shape {np.shape(reward)}, but must be one number")
        kind = _kind(reward)
        if kind not in "biuf" and not (kind == "O" and isinstance(reward, Real)):
            raise BadData(row, f"reward is {reward!r} ({type(reward).__name__}), which is not a number")
        if not np.isfinite(np.float32(reward)):
            raise BadData(row, f"reward is {'NaN' if np.isnan(reward) else reward}, which float32 cannot hold")
    return np.array([float(reward) for reward in rewards], np.float32)


def flags_of(flags: Sequence[Any] | np.ndarray, name: str) -> np.ndarray:
    """Return N `terminated` or `truncated` flags as fresh bool `[N]`; BadData if one is not a single flag."""
    try:
        array = np.array(flags)
        if array.ndim == 1 and array.dtype.kind in "biu":
            return array.astype(bool)
    except MISFITS:
        pass
    for row, flag in enumerate(flags):
        if np.ndim(flag) != 0 or _kind(flag) not in "biu":
            raise BadData(row, f"{name} is {flag!r}, but must be True or False")
    return np.array([bool(flag) for flag in flags])


def _kind(value: Any) -> str:
    """Return the kind of NumPy's dtype that a value has; that of an object where NumPy cannot read it."""
    try:
        return np.asarray(value).dtype.kind
    except MISFITS:
        return "O"


def picture(frame: Any) -> np.ndarray:
    """Return what an environment rendered as uint8 `[H, W, 3]`.

    Grey pictures `[H, W]` and `[H, W, 1]` become coloured ones, and the fourth channel of `[H, W, 4]`, transparency,
    is left out. Floats count from 0 to 1 where none is above 1, else from 0 to 255; truth values are black and white.

    Raises:
        EnvError: it is no picture; the message names its shape and the remedy.
    """
    if frame is None:
        raise EnvError(
            "render() returned None, not a picture [height, width, 3]: where self.render_mode is 'rgb_array' it must"
            " return one, and __init__ must keep render_mode as self.render_mode"
        )
    try:
        pixels = np.asarray(frame)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EnvError(
            f"render() returned {type(frame).__name__}, not a picture [height, width, 3]: {words_of(error)}"
        ) from error
    given, shape = f"render() returned {type(frame).__name__} of {pixels.dtype}", list(pixels.shape)
    if pixels.dtype.kind not in "buif":
        raise EnvError(f"{given}, not a picture: return a NumPy array uint8 [height, width, 3]")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)) or 0 in shape:
        remedy = "return a NumPy array of that shape"
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4):
            remedy = "its channels come first; return picture.transpose(1, 2, 0)"
        elif pixels.ndim == 4 and pixels.shape[3] in (1, 3, 4):
            remedy = "return one picture, the latest, not a sequence of them"
        raise EnvError(f"{given} {shape}, not a picture [height, width, 3]: {remedy}")
    if pixels.dtype != np.uint8:
        low, high = pixels.min(), pixels.max()
        if not 0 <= low <= high <= 255:  # NaN too
            raise EnvError(f"{given} {shape} with values from {low} to {high}: they must be from 0 to 255, or 0 to 1")
        unit = pixels.dtype.kind == "b" or (pixels.dtype.kind == "f" and high <= 1)
        pixels = np.rint(pixels * np.float32(255) if unit else pixels).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.ascontiguousarray(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3])


def flag_dummies(step: Step, dummy: np.ndarray) -> Step:
    """Return `step` with the rows that `dummy` names marked as no transitions, without reward or end."""
    valid = ~dummy
    reward = np.where(valid, step.reward, np.float32(0))
    infos = {row: info for row, info in step.infos.items() if valid[row]}
    return Step(step.obs, reward, step.terminated & valid, step.truncated & valid, step.next_obs, valid, infos)


def env_error(index: int | None, error: BaseException, where: str) -> EnvError:
    """Return the EnvError that says what environment `index` (None: all of them) did, and where.

    `sys.exit` in an environment is an error of its own like any other: it must not end a run in silence.
    """
    who = "the vector environment" if index is None else f"environment {index}"
    if isinstance(error, BadData):
        hint = " (--on-nan fill takes the last value instead)" if str(error).endswith("contains NaN") else ""
        return EnvError(f"{who} returned bad data {where}: {error}{hint}")
    if isinstance(error, ValueError) and (rule := _rule_behind(error)) is not None:
        return EnvError(f"{who} returned bad data {where}: {rule}, but a wrapper found {words_of(error)}")
    if isinstance(error, TypeError) and (lacking := _ARGUMENT.search(words_of(error))):
        rule = "reset must take seed and options, as in `def reset(self, *, seed=None, options=None)`"
        return EnvError(f"{who} failed {where}: {rule}, but it takes no {lacking[1]}")
    return EnvError(f"{who} raised {type(error).__name__} {where}: {words_of(error)}")


def _rule_behind(error: ValueError) -> str | None:
    """Return the rule that an environment broke whose result a wrapper of Gymnasium's could not unpack, if it did."""
    *_, last = traceback.extract_tb(error.__traceback__)
    unpacked = "to unpack" in words_of(error) and "gymnasium/wrappers" in last.filename.replace("\\", "/")
    return _RULES.get(last.name) if unpacked else None
