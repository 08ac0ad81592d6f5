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
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import agents.algos
from agents.core.config import AlgoConfig
from envs.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from agents.core.algorithm import Algorithm

Kind = TypeVar("Kind")
FORMS = "my_file.py:Class"  # how help and messages write a user's own algorithm


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """An algorithm: its name as typed, its hyperparameters, and `load()`, which imports and returns its class."""

    name: str
    config: type[AlgoConfig]
    load: Callable[[], type[Algorithm]]


def names() -> list[str]:
    """Return the packaged algorithms, sorted."""
    return sorted(_packaged())


def is_own(name: str) -> bool:
    """Whether `name` means a user's own file or module, whose code runs when it is found."""
    return ":" in name or name.endswith(".py")


def label(name: str) -> str:
    """Return a name safe in paths: "ppo" -> "ppo", "my/file.py:Reinforce" -> "Reinforce"."""
    return re.sub(r"\W+", "-", Path(name.rpartition(":")[2]).stem)


def title_of(name: str) -> str:
    """Return an algorithm's name as titles write it: "ppo" -> "PPO", "my/file.py:Reinforce" -> "Reinforce"."""
    return label(name) if is_own(name) else name.upper()


def find(name: str, source: str = "algo") -> AlgorithmSpec:
    """Return the algorithm that `name` means.

    Args:
        name: a packaged algorithm, "file.py:Class", "file.py" or "module:Class".
        source: where the name comes from ("--algo", "my.yaml: algo"), for messages.

    Raises:
        UserError: there is none, or what there is cannot be used.
    """
    if is_own(name):
        return _own(name, source)
    packaged = _packaged()
    if name not in packaged:
        raise UserError(
            f"{source}: {name!r} given, {'|'.join(names())} expected.{did_you_mean(name, packaged)} (your own: {FORMS})"
        )
    home = f"{agents.algos.__name__}.{name}"
    if not packaged[name]:
        return _spec(name, _algorithm(import_module(home), home))
    config = _one(_defined(import_module(f"{home}.config"), AlgoConfig), f"{home}.config", "settings (AlgoConfig)")
    return AlgorithmSpec(name, config, lambda: _algorithm(import_module(f"{home}.algorithm"), f"{home}.algorithm"))


def _packaged() -> dict[str, bool]:
    """Return packaged name -> whether it is a package rather than one module."""
    found = pkgutil.iter_modules(agents.algos.__path__)
    return {module.name: module.ispkg for module in found if not module.name.startswith("_")}


def _own(name: str, source: str) -> AlgorithmSpec:
    from envs.locate import _FILE, _import, _load_file  # Gymnasium comes with it

    home, _, chosen = name.rpartition(":")
    try:
        if match := _FILE.fullmatch(name):
            home, chosen = match["path"], match["name"]
            module = _load_file(Path(home))
        else:
            module = _import(home)
        return _spec(name, _algorithm(module, home, chosen))
    except UserError as error:
        raise UserError(f"{source}: {error}") from error.__cause__


def _spec(name: str, algorithm: type[Algorithm]) -> AlgorithmSpec:
    return AlgorithmSpec(name, algorithm.config_class, lambda: algorithm)


def _algorithm(module: ModuleType, home: str, chosen: str | None = None) -> type[Algorithm]:
    """Return the algorithm called `chosen` in a module, or the only one that it defines."""
    from agents.core.algorithm import Algorithm

    classes = _defined(module, Algorithm)
    if chosen is None:
        algorithm: Any = _one(classes, home, "algorithm (a class derived from agents.core.algorithm.Algorithm)")
    else:
        algorithm = getattr(module, chosen, None)
        if algorithm is None:
            has = f"; it has {', '.join(sorted(classes))}" if classes else ""
            raise UserError(f"{home} has no {chosen!r}{has}.{did_you_mean(chosen, classes)}")
        if not inspect.isclass(algorithm) or not issubclass(algorithm, Algorithm):
            raise UserError(f"{home}: {chosen} is not an algorithm: derive it from agents.core.algorithm.Algorithm")
    config = getattr(algorithm, "config_class", None)
    if not inspect.isclass(config) or not issubclass(config, AlgoConfig):
        raise UserError(
            f"{home}: {algorithm.__name__}.config_class must be its settings' class, derived from "
            f"agents.core.config.AlgoConfig; it is {config!r}"
        )
    return algorithm


def _defined(module: ModuleType, kind: type[Kind]) -> dict[str, type[Kind]]:
    """Return the classes of a kind that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, kind) and value.__module__ == module.__name__
    }


def _one(classes: dict[str, type[Kind]], home: str, what: str) -> type[Kind]:
    if len(classes) == 1:
        return next(iter(classes.values()))
    if not classes:
        raise UserError(f"{home} defines no {what}")
    first = next(iter(classes))
    raise UserError(f"{home} defines {', '.join(sorted(classes))}: name the one that is meant, as in {home}:{first}")
