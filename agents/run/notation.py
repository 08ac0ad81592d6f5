"""How settings are written in `--help` and in messages: their types, their values, and what is wrong with one."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from envs.errors import did_you_mean

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_LENGTHS = {"min_length": "at least", "max_length": "at most"}
_WORDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", bool: "true|false", type(None): "none"}


def show(value: Any) -> str:
    """Write a value as it stands in a file."""
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def explain(error: ErrorDetails, field: FieldInfo, value: Any) -> str:
    """Say in one sentence what was given and what is allowed."""
    violated = error.get("ctx", {})
    if _BOUNDS.keys() & violated.keys():
        kinds = {type(bound).__name__.lower(): bound for bound in field.metadata}
        bounds = violated | {kind: getattr(bound, kind) for kind, bound in kinds.items() if kind in _BOUNDS}
        allowed = [f"{sign} {bounds[kind]:.12g}" for kind, sign in _BOUNDS.items() if kind in bounds]
        return f"{show(value)} is out of range; it must be {' and '.join(allowed)}."
    if length := next((kind for kind in _LENGTHS if kind in violated), None):
        unit = "character" if error["type"].startswith("string") else "value"
        most = f"{_LENGTHS[length]} {violated[length]} {unit}{'s' * (violated[length] != 1)}"
        return f"{show(value)} given, {notation(field.annotation)} of {most} expected."
    if error["type"] == "value_error":
        return f"{show(value)} given, but it {error['msg'].removeprefix('Value error, ')}."
    value = error["input"] if error["type"] == "literal_error" else value  # of a list, the word that is meant
    near = did_you_mean(str(value), _options(field.annotation))
    return f"{show(value)} given, {notation(field.annotation)} expected.{near}"


def _options(annotation: Any) -> list[str]:
    """Return the words that a field of this type may be."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for argument in get_args(annotation) for word in _options(argument)]


def notation(annotation: Any) -> str:
    """Write a field's type as `--help` and error messages do: `NUMBER|none`, `INTEGER ...`, `adam|sgd`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return next((note for note in arguments[1:] if isinstance(note, str)), notation(arguments[0]))
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return "|".join(notation(argument) for argument in arguments)
    if origin in (tuple, list):
        return f"{notation(arguments[0])} ..."
    if origin is dict:
        return "KEY=VALUE ..."
    return _WORDS.get(annotation, getattr(annotation, "notation", "VALUE"))


def is_text(annotation: Any) -> bool:
    """Whether values of this type are text, several texts, or none."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return all(isinstance(option, str) for option in arguments)
    if origin is Annotated:
        return is_text(arguments[0])
    if origin in (Union, types.UnionType, tuple, list):
        return all(is_text(argument) for argument in arguments if argument is not ...)
    return annotation in (str, type(None))


def takes_many(annotation: Any) -> bool:
    """Whether a field of this type takes several words."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(map(takes_many, get_args(annotation)))
    return get_origin(annotation) in (tuple, list, dict)
