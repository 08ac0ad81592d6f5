"""Where to search: for each setting the values that a trial may have, read from YAML and checked by the settings.

A file names settings, each with one of

    gamma: [0.98, 0.99, 0.995]                    these values
    dueling: all                                  all that its type allows: true and false, or each of its words
    learning_rate: {low: 1e-5, high: 1e-2, log: true, falling: both}
    n_step_returns: {low: 1, high: 5}             whole numbers, where the setting is one

`falling` (no, yes, both) is for schedules: whether the value falls linearly to 0 (`lin_X`). Which settings belong to a
part that is not in use (`memory_size` without a memory) follows from the settings themselves: a trial leaves them out.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin

from agents.core.config import AlgoConfig
from agents.core.settings import DETAILS, idle
from agents.run.config import ALIASES, CONFIGS, Layer, unknown_name, validate
from agents.run.registry import AlgorithmSpec
from agents.run.storage import parse_json
from agents.run.yaml_files import load_config_file
from envs.errors import UserError, listed, not_one_of

FORMS = "a list of values, all, or {low: NUMBER, high: NUMBER} with log: true and falling: yes|no|both if wanted"
FIXED = ("total_timesteps", "eval_freq", "eval_episodes", "final_eval_episodes", "eval_max_steps", "schedule_total")
FALLING = ".falling"  # the parameter beside a schedule's value
FALLS = {"no": (False,), "yes": (True,), "both": (False, True)}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, drawn evenly, or evenly in their logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    falling: tuple[bool, ...] = (False,)

    def __str__(self) -> str:
        falls = "" if self.falling == (False,) else ", constant or falling" if len(self.falling) > 1 else ", falling"
        return f"{self.low:g} to {self.high:g}{' by logarithm' if self.log else ''}{falls}"

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that a trial of Optuna's draws."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        value = trial.suggest_float(name, self.low, self.high, log=self.log)
        falls = self.falling[0]
        if len(self.falling) > 1:
            falls = trial.suggest_categorical(name + FALLING, list(self.falling))
        return f"lin_{value}" if falls else value

    def parameters(self, name: str, value: Any) -> dict[str, Any]:
        """Return Optuna's parameters for a value; none where it is no number."""
        falls = isinstance(value, str) and value.startswith("lin_")
        try:
            number = float(value.removeprefix("lin_") if falls else value)
            whole = int(number) if self.whole else number
        except (TypeError, ValueError, OverflowError):
            return {}
        found = {name: whole}
        return found | ({name + FALLING: falls} if len(self.falling) > 1 else {})

    def holds(self, name: str, value: Any) -> bool:
        """Whether a value is one of them."""
        found = self.parameters(name, value)
        return name in found and self.low <= found[name] <= self.high and isinstance(value, str) in self.falling

    def widened(self, name: str, value: Any) -> Range:
        """Return what holds a value too; itself where it cannot, as a logarithm of 0 would be."""
        found = self.parameters(name, value)
        if name not in found or not math.isfinite(found[name]) or (self.log and found[name] <= 0):
            return self
        falls = isinstance(value, str)
        falling = self.falling if falls in self.falling else (False, True)
        return replace(self, low=min(self.low, found[name]), high=max(self.high, found[name]), falling=falling)


@dataclass(frozen=True)
class Choices:
    """Values, each as the JSON that it is written as: Optuna compares them, and lists are no values of its own."""

    texts: tuple[str, ...]

    def __str__(self) -> str:
        return " | ".join(self.texts)

    def suggest(self, trial: Any, name: str) -> Any:
        return json.loads(trial.suggest_categorical(name, list(self.texts)))

    def parameters(self, name: str, value: Any) -> dict[str, Any]:
        return {name: next((text for text in self.texts if json.loads(text) == _plain(value)), _text(value))}

    def holds(self, name: str, value: Any) -> bool:
        return self.parameters(name, value)[name] in self.texts

    def widened(self, name: str, value: Any) -> Choices:
        if self.holds(name, value):
            return self
        texts = (*self.texts, _text(value))
        numbers = all(isinstance(json.loads(text), int | float) for text in texts)
        return Choices(tuple(sorted(texts, key=json.loads)) if numbers else texts)


Dimension: TypeAlias = Range | Choices
Space: TypeAlias = dict[str, Dimension]


def packaged_spaces(algo: str) -> dict[str, Path]:
    """Return the search spaces that come with the package for an algorithm, by name."""
    return {path.stem: path for path in sorted((CONFIGS / algo / "search").glob("*.yaml"))}


def find_space(asked: str, spec: AlgorithmSpec) -> Path:
    """Return the file of a space: a packaged one by its name, or one of the user's own.

    Raises:
        UserError: there is none.
    """
    if asked.endswith((".yaml", ".yml")):
        return Path(asked)
    packaged = packaged_spaces(spec.name)
    if asked not in packaged:
        has = not_one_of(asked, list(packaged)) if packaged else f"{spec.name} has no packaged one"
        raise UserError(f"--space: {has} (your own: FILE.yaml)")
    return packaged[asked]


def read_space(path: Path, spec: AlgorithmSpec, base: Mapping[str, Any]) -> Space:
    """Read a space; it is widened where the settings that the search begins with would lie outside.

    Args:
        spec: the algorithm.
        base: its settings, flat, of which trials have what the space does not name.

    Raises:
        UserError: the file, a name in it, a form or a value is not what it may be.
    """
    source = Layer(str(path), {})
    fields, found = spec.config.flat_fields(), Space()
    for written, value in load_config_file(path).items():
        name = ALIASES.get(written, written)
        if name not in fields:
            raise UserError(unknown_name(name, spec, source.label(name)))
        if name in FIXED:
            raise UserError(
                f"{source.label(name)}: trials are held against one another by it, so it is no part of them"
            )
        if name in found:
            raise UserError(f"{source.label(name)}: given twice")
        dimension = _dimension(value, fields[name].annotation, source.label(name))
        for one in extremes(dimension):
            validate(spec.config, {name: (one, source)})
        found[name] = dimension.widened(name, base[name])
    if not found:
        raise UserError(f"{path}: it names no setting to search over")
    switches = {part for part, *_ in (*DETAILS, *spec.config.all_details())}
    return dict(sorted(found.items(), key=lambda item: item[0] not in switches))  # before what depends on them


def _dimension(value: Any, annotation: Any, label: str) -> Dimension:
    if value == "all":
        if not (words := _words(annotation)):
            raise UserError(f"{label}: all given, but it may be any number; give {FORMS}")
        return Choices(tuple(map(_text, words)))
    if isinstance(value, list) and value:
        try:
            texts = tuple(map(_text, value))
        except TypeError as error:  # of a mapping with keys of several types
            raise UserError(f"{label}: {value!r} given, {FORMS} expected.") from error
        if len(set(texts)) < len(texts):
            raise UserError(f"{label}: a value is given twice")
        return Choices(texts)
    if isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log", "falling"}:
        return _range(value, annotation, label)
    raise UserError(f"{label}: {value!r} given, {FORMS} expected.")


def _range(value: dict[str, Any], annotation: Any, label: str) -> Range:
    low, high, log, falling = value["low"], value["high"], value.get("log", False), value.get("falling", "no")
    if isinstance(falling, bool):
        falling = "yes" if falling else "no"
    if not (_is_number(low) and _is_number(high)) or low >= high:
        raise UserError(f"{label}: low {low!r} and high {high!r} given, two numbers expected, the first less")
    if not isinstance(log, bool) or not isinstance(falling, str) or falling not in FALLS:
        raise UserError(f"{label}: {FORMS} expected.")
    if log and low <= 0:
        raise UserError(f"{label}: low {low!r} given, but a logarithm needs a number above 0")
    kinds = _kinds(annotation)
    if not kinds & {int, float}:
        raise UserError(f"{label}: it is no number; give {listed(['a list of values', 'all'], 'or')}")
    if falling != "no" and str not in kinds:
        raise UserError(f"{label}: falling given, but it does not change during a run")
    whole = float not in kinds
    if whole and (low != int(low) or high != int(high)):
        raise UserError(f"{label}: low {low!r} and high {high!r} given, whole numbers expected")
    return Range(low, high, log, whole, FALLS[falling])


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types that a setting may have."""
    inner = get_args(annotation)
    return {kind for one in inner for kind in _kinds(one)} if inner else {annotation}


def _words(annotation: Any) -> list[Any]:
    """Return all values of a type that has few: true and false, words, none."""
    if annotation is bool:
        return [False, True]
    if annotation is type(None):
        return [None]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for inner in get_args(annotation) for word in _words(inner)]


def extremes(dimension: Dimension) -> Sequence[Any]:
    """Return the settings at the ends of a dimension: all of its values, or the lowest and the highest."""
    if isinstance(dimension, Choices):
        return [json.loads(text) for text in dimension.texts]
    low, high = (int(x) if dimension.whole else x for x in (dimension.low, dimension.high))
    return [f"lin_{x}" if falls else x for x in (low, high) for falls in dimension.falling]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True)


def suggest(trial: Any, space: Space, base: Mapping[str, Any], kind: type[AlgoConfig]) -> dict[str, Any]:
    """Return the settings that a trial of Optuna's draws, without those of parts that are not in use.

    Args:
        trial: it has `suggest_float`, `suggest_int`, `suggest_categorical`.
        base: the settings beneath, flat.
        kind: whose parts decide.
    """
    values: dict[str, Any] = {}
    for name, dimension in space.items():
        if name not in idle(kind, {**base, **values}):
            values[name] = dimension.suggest(trial, name)
    return values


def parameters(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return Optuna's parameters for settings, of those that the space holds."""
    found: dict[str, Any] = {}
    for name, dimension in space.items():
        if name in values and dimension.holds(name, values[name]):
            found |= dimension.parameters(name, values[name])
    return found


def settings(space: Space, parameters_: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for Optuna's parameters."""
    return {
        name: dimension.suggest(_Given(parameters_), name) for name, dimension in space.items() if name in parameters_
    }


@dataclass(frozen=True)
class _Given:
    """What stands for a trial whose parameters are known."""

    values: Mapping[str, Any]

    def suggest_float(self, name: str, *_: Any, **__: Any) -> Any:
        return self.values[name]

    suggest_int = suggest_categorical = suggest_float


def to_plain(space: Space) -> dict[str, Any]:
    """Return the space as JSON holds it."""
    return {
        name: list(d.texts) if isinstance(d, Choices) else [d.low, d.high, d.log, d.whole, list(d.falling)]
        for name, d in space.items()
    }


def from_plain(values: Mapping[str, Any]) -> Space:
    """Read what `to_plain` wrote.

    Raises:
        TypeError, ValueError: it is not of that form.
    """
    return {name: _dimension_of(value) for name, value in values.items()}


def _dimension_of(value: Sequence[Any]) -> Dimension:
    if value and all(isinstance(text, str) for text in value):
        for text in value:
            parse_json(text.encode())
        return Choices(tuple(value))
    low, high, log, whole, falling = value
    sound = _is_number(low) and _is_number(high) and low <= high and (low > 0 or not log) and len(falling) > 0
    if not sound or not all(isinstance(one, bool) for one in (log, whole, *falling)):
        raise ValueError(f"{value!r:.80} is no range")
    return Range(low, high, log, whole, tuple(falling))
