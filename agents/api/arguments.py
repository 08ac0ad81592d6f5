"""Arguments of the Python API: what they must be, where those belong that are none, and values as files hold them.

What refuses an argument raises UserError, which says what was given and what is expected.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import FunctionType
from typing import Any

from agents.api import habits
from agents.run import code, registry, spellings
from agents.run.config import ALIASES, RUN_FIELDS
from agents.run.notation import show
from envs.errors import UserError, listed, nearest, not_one_of

LEARN = ("total_timesteps", "quiet", "runs_dir", "name", "replays_dir")  # arguments of `learn`
PLAIN = (str, int, float, bool, type(None))  # what files hold
MADE_WITH = ("config", "trust")  # arguments of the classes that are no settings


class NotGiven:
    """The default of an argument whose value then comes from the settings beneath."""

    def __repr__(self) -> str:
        return "not given"


NOT_GIVEN: Any = NotGiven()


def refuse(name: str, algo: str, env: Any, misplaced: Sequence[Any], settings: Mapping[str, Any]) -> None:
    """Refuse what a model of the class `name` cannot be made of.

    Args:
        algo: its algorithm, whose settings are allowed.
        env: the first argument.
        misplaced: what was given by place after it.

    Raises:
        UserError: something is; the message says what there is instead.
    """
    if misplaced or (isinstance(env, str) and env in habits.POLICIES):
        raise UserError(f"{name}(env, ...) takes the environment alone: {habits.ARGUMENTS['policy']}")
    known = _settings(algo)
    for key, value in settings.items():
        if isinstance(value, FunctionType) and not _elsewhere(key, known):
            raise UserError(
                f"{name}({key}=...): a function given, but settings are numbers and text, which files can hold; "
                "what is to fall linearly to 0 is text such as 'lin_3e-4'"
            )
        if instead := _elsewhere(key, known):
            raise UserError(f"{name}({key}=...): there is no such setting here; {instead}")


def _elsewhere(key: str, known: Collection[str]) -> str:
    """Say where a name that is no setting belongs; "" where it is one, or resembles one most."""
    if key in known:
        return ""
    if said := (habits.ARGUMENTS | habits.LEARN | habits.COMMAND).get(key):
        return said
    near = [key] if key in LEARN else spellings.ours(key, LEARN) or nearest(key, [*known, *LEARN])
    of_learn = bool(near) and near[0] in LEARN and near[0] not in known
    return f"{near[0]} is an argument of learn(..., {near[0]}=...)" if of_learn else ""


def refuse_of_learn(others: Iterable[str], name: str, algo: str) -> None:
    """Raise UserError for arguments that `learn` of a model of the class `name` has not, if there are any."""
    known = _settings(algo)
    for key in others:
        said = (habits.LEARN | habits.ARGUMENTS | habits.COMMAND).get(key)
        if said is None:
            near = spellings.ours(key, LEARN) or ([key] if key in known else spellings.ours(key, known))
            near = near or nearest(key, [*LEARN, *known, *MADE_WITH])
            said = f"it takes {listed(LEARN)}"
            if near and near[0] in LEARN:
                said = f"did you mean {listed([each for each in near if each in LEARN], 'or')}?"
            elif near:
                said = f"{near[0]} is given when the model is made: {name}(env, {near[0]}=...)"
        raise UserError(f"learn({key}=...): there is no such argument here; {said}")


def refuse_without_a_run(**given: Any) -> None:
    """Raise UserError for arguments of `learn` that are about a run, of which without `runs_dir` there is none."""
    for key, value in given.items():
        if value is not None:
            instead = "; record(folder) records an episode" if key == "replays_dir" else ""
            raise UserError(f"learn({key}=...) goes with runs_dir, where the run is kept{instead}")


def _settings(algo: str) -> set[str]:
    """Return all names that settings of an algorithm may be given by."""
    config = registry.find(algo).config
    return {*RUN_FIELDS, *config.flat_fields(), *config.parts(), *ALIASES}


def whole(name: str, given: Any, hint: str = "", least: int = 1) -> int:
    """Return a number of which there must be `least` at least; `hint` is for what is no number."""
    if not isinstance(given, Real) or isinstance(given, bool):
        raise UserError(f"{name}: {given!r} given, a whole number expected{hint}")
    try:
        number = int(given)  # type: ignore[call-overload]
    except (ValueError, OverflowError):  # not finite
        number = least - 1
    if number != given or number < least:
        raise UserError(f"{name}: {given} given, a whole number of at least {least} expected")
    return number


def number(name: str, given: Any) -> float:
    """Return a number."""
    if not isinstance(given, Real) or isinstance(given, bool):
        raise UserError(f"{name}: {show(given)} given, a number expected")
    return float(given)


def seed(given: Any) -> int:
    """Return a seed, a whole number from 0 to 2^64 - 1."""
    number = whole("seed", given, least=0)
    if number >= 2**64:
        raise UserError(f"seed: {given} given, a whole number below 2^64 expected")
    return number


def place(name: str, given: Any, hint: str = "") -> Path:
    """Return a path."""
    try:
        path = os.fspath(given)
    except TypeError:
        path = b""
    if not isinstance(path, str) or "\0" in path:
        raise UserError(f"{name}: {show(given)} given, a path expected{hint}")
    return Path(path)


def one_of(name: str, given: Any, options: Sequence[str]) -> Any:
    """Return a word, which must be one of some."""
    if not isinstance(given, str) or given not in options:
        raise UserError(f"{name}: {not_one_of(given, options)}")
    return given


def env_kwargs(given: Any) -> dict[str, Any]:
    """Return an environment's own arguments by name, which a file must be able to hold; {} for None."""
    if given is not None and not (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
        raise UserError(f"env_kwargs: {show(given)} given, a mapping of names to values expected")
    return {name: _written(name, value) for name, value in (given or {}).items()}


def _written(name: str, value: Any) -> Any:
    if type(value) in (list, tuple):  # a tuple stays one, as environments may tell them apart
        return type(value)(_written(name, item) for item in value)
    if type(value) is dict and all(type(key) in PLAIN for key in value):
        return {key: _written(name, item) for key, item in value.items()}
    value = _plain(value) if isinstance(value, os.PathLike) or getattr(value, "ndim", None) == 0 else value
    if type(value) in PLAIN:
        return value
    raise UserError(
        f"env_kwargs: {name}: {type(value).__name__} given, but numbers, text, lists and mappings of them expected, "
        f"which files can hold; with others give a function that makes the environment: lambda: MyEnv({name}=...)"
    )


def trusted(given: Any) -> code.Trust:
    """Return what code may be run: all, none, or what is named."""
    words = [given] if isinstance(given, str) else given
    if isinstance(given, bool):
        return given
    if not isinstance(words, Collection) or not all(isinstance(word, str) for word in words):
        raise UserError(f"trust: {show(given)} given, True, False or the names of code that may be run expected")
    return frozenset(words)


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write settings as a file would: tuples and arrays as lists, NumPy's numbers as Python's, paths as text.

    Raises:
        UserError: a value is an array that no setting is.
    """
    found = {}
    for name, value in settings.items():
        try:
            found[name] = _plain(value)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | type) or not hasattr(value, "tolist"):
        return value
    if getattr(value, "ndim", 0) > 1:
        raise UserError(
            f"an array of shape {tuple(value.shape)} given, but settings are numbers and text, which files can hold"
        )
    return value.tolist()
