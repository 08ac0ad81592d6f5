"""Algorithms by name: those in agents/algos, found by looking there, and a user's own. No PyTorch at import.

A packaged algorithm is a package `agents/algos/<name>/` with `config.py` and `algorithm.py`, or one module
`agents/algos/<name>.py`. A user's own is "path/to/my_file.py:Class", "path/to/my_file.py" alone where it defines one
algorithm, or "module:Class"; naming it runs that file.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import agents.algos
from agents.core.config import AlgoConfig
from agents.core.user_code import class_in, is_user_code, user_class
from agents.run import spellings
from envs.errors import UserError, not_one_of

if TYPE_CHECKING:
    from agents.core.algorithm import Algorithm

FORMS = "my_file.py:Class"  # how help and messages write a user's own algorithm
WORDS = ("pretrain",)  # names that are no abbreviations


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """An algorithm: its name as typed, its hyperparameters, and `load()`, which imports and returns its class."""

    name: str
    config: type[AlgoConfig]
    load: Callable[[], type[Algorithm]]


def names() -> list[str]:
    """Return the packaged algorithms, sorted."""
    return sorted(_packaged())


def label(name: str) -> str:
    """Return a name safe in paths: "ppo" -> "ppo", "my/file.py:Reinforce" -> "Reinforce"."""
    return re.sub(r"\W+", "-", Path(name.rpartition(":")[2]).stem)


def title_of(name: str) -> str:
    """Return an algorithm's name as titles write it: "ppo" -> "PPO", "my/file.py:Reinforce" -> "Reinforce"."""
    if is_user_code(name):
        return label(name)
    return name.capitalize() if name in WORDS else name.upper()


def find(name: str, source: str = "algo") -> AlgorithmSpec:
    """Return the algorithm that `name` means.

    Args:
        name: a packaged algorithm, "file.py:Class", "file.py" or "module:Class".
        source: where the name comes from ("--algo", "my.yaml: algo"), for messages.

    Raises:
        UserError: there is none, or what there is cannot be used.
    """
    if is_user_code(name):
        try:
            return _spec(name, user_class(name, _base(), "an algorithm"))
        except UserError as error:
            raise UserError(f"{source}: {error}") from error.__cause__
    packaged = _packaged()
    if name not in packaged:
        meant = not_one_of(name, names(), spellings.algorithm(name, _flags))
        raise UserError(f"{source}: {meant} (your own: {FORMS})")
    home = f"{agents.algos.__name__}.{name}"
    if not packaged[name]:
        return _spec(name, class_in(import_module(home), home, _base(), "an algorithm"))
    config = class_in(import_module(f"{home}.config"), f"{home}.config", AlgoConfig, "a settings class")
    algorithm = f"{home}.algorithm"
    return AlgorithmSpec(name, config, lambda: class_in(import_module(algorithm), algorithm, _base(), "an algorithm"))


def _flags(algo: str, **settings: str) -> str:
    return " ".join([f"--algo {algo}", *(f"--{key} {value}" for key, value in settings.items())])


def _base() -> type[Algorithm]:
    from agents.core.algorithm import Algorithm  # PyTorch comes with it

    return Algorithm


def _packaged() -> dict[str, bool]:
    """Return packaged name -> whether it is a package rather than one module."""
    found = pkgutil.iter_modules(agents.algos.__path__)
    return {module.name: module.ispkg for module in found if not module.name.startswith("_")}


def _spec(name: str, algorithm: type[Algorithm]) -> AlgorithmSpec:
    """Return the row of an algorithm whose class is there already.

    Raises:
        UserError: it does not say what its settings are.
    """
    config = getattr(algorithm, "config_class", None)
    if not inspect.isclass(config) or not issubclass(config, AlgoConfig):
        raise UserError(
            f"{algorithm.__module__}: {algorithm.__name__}.config_class must be its settings' class, derived from "
            f"agents.core.config.AlgoConfig; it is {config!r}"
        )
    return AlgorithmSpec(name, config, lambda: algorithm)
