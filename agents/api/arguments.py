"""Arguments of the Python API: those of stable-baselines3 are refused in words, and values become what files hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from types import FunctionType
from typing import Any

from agents.api import habits
from envs.errors import UserError, did_you_mean

LEARN = ("quiet", "runs_dir", "name", "replays_dir")


def refuse(name: str, env: Any, misplaced: Sequence[Any], settings: Mapping[str, Any]) -> None:
    """Refuse what a model of the class `name` cannot be made of.

    Args:
        env: the first argument.
        misplaced: what was given by place after it.

    Raises:
        UserError: something is; the message says what there is instead.
    """
    if misplaced or (isinstance(env, str) and env in habits.POLICIES):
        raise UserError(f"{name}(env, ...) takes the environment alone: {habits.ARGUMENTS['policy']}")
    if strange := next((key for key in settings if key in habits.ARGUMENTS), None):
        raise UserError(f"{name}({strange}=...): there is no such setting here; {habits.ARGUMENTS[strange]}")
    if strange := next((key for key, value in settings.items() if isinstance(value, FunctionType)), None):
        raise UserError(
            f"{name}({strange}=...): a function given, but settings are numbers and text, which files can hold; "
            "what is to fall linearly to 0 is text such as 'lin_3e-4'"
        )


def refuse_of_learn(others: Iterable[str]) -> None:
    """Raise UserError for arguments that `learn` has not, if there are any."""
    for strange in others:
        instead = habits.LEARN.get(strange)
        hint = f"; {instead}" if instead else f".{did_you_mean(strange, LEARN)}"
        raise UserError(f"learn({strange}=...): there is no such argument here{hint}")


def whole(name: str, given: Any, hint: str = "") -> int:
    """Return a number of which there must be one at least; `hint` is for what is no number."""
    if not isinstance(given, Real):
        raise UserError(f"{name}: {given!r} given, a whole number expected{hint}")
    number = float(given)
    if not number >= 1 or number % 1:
        raise UserError(f"{name}: {given} given, a whole number of at least 1 expected")
    return int(number)


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write settings as a file would: tuples as lists, NumPy's numbers as Python's, paths as text."""
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") and not isinstance(value, type) else value
