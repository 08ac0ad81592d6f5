"""Classes and functions of the user's own, by name: "path/to/file.py:Class", "path/to/file.py" alone, "module:Class".

Finding one runs the file or module that holds it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from envs.errors import UserError, did_you_mean
from envs.ids import FILE

_WORD = r"[^\W\d]\w*"
_MODULE = re.compile(rf"{_WORD}(\.{_WORD})*:{_WORD}")
Kind = TypeVar("Kind")


def is_user_code(name: str) -> bool:
    """Whether `name` is of one of these forms, as all names are that `user_class` and `user_function` take."""
    return bool(FILE.fullmatch(name) or _MODULE.fullmatch(name))


def user_class(name: str, kind: type[Kind], what: str) -> type[Kind]:
    """Return the class that `name` means.

    Args:
        name: as above; without a class, the file must define exactly one of the kind.
        kind: what it must be derived from.
        what: of what kind it is, for messages, such as "an algorithm".

    Raises:
        UserError: there is no such file, module or class, or it is not derived from `kind`.
    """
    module, home, chosen = _loaded(name)
    return class_in(module, home, kind, what, chosen)


def user_function(name: str, what: str, call: str) -> Callable[..., Any]:
    """Return the function that `name` means.

    Args:
        name: "path/to/file.py:function" or "module:function".
        what: what it is for, for messages, such as "metrics".
        call: how it is called, such as "log(info, progress)".

    Raises:
        UserError: there is no such file, module or function, or it cannot be called so.
    """
    module, home, chosen = _loaded(name)
    own = [
        key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    has = f"; it has {', '.join(sorted(own))}" if own else ""
    found = getattr(module, chosen or "", None)
    if not callable(found):
        raise UserError(f"{what}: {home} has no function {chosen or ''!r}{has}.{did_you_mean(chosen or '', own)}")
    try:
        inspect.signature(found).bind(*call.split(","))
    except TypeError as error:
        raise UserError(f"{what}: {name} is called as {call}, but: {error}") from error
    return found


def _loaded(name: str) -> tuple[ModuleType, str, str | None]:
    """Return the module that a name means, what messages call it, and what is named in it, if something is."""
    from envs.locate import load_file, load_module  # Gymnasium comes with it

    if not is_user_code(name):  # as `agents.run.code` asks only about such names whether they may be imported
        raise UserError(f"{name!r} given, file.py:Name or module:Name expected")
    if match := FILE.fullmatch(name):
        return load_file(Path(match["path"])), match["path"], match["name"]
    home, _, chosen = name.rpartition(":")
    return load_module(home), home, chosen


def class_in(module: ModuleType, home: str, kind: type[Kind], what: str, chosen: str | None = None) -> type[Kind]:
    """Return the class `chosen` of a module that messages call `home`, or the only one of the kind that it defines."""
    classes = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, kind) and value.__module__ == module.__name__
    }
    base = f"{kind.__module__}.{kind.__name__}"
    if chosen is None:
        if len(classes) == 1:
            return next(iter(classes.values()))
        if not classes:
            raise UserError(f"{home} does not define {what} (a class derived from {base})")
        first, all_of_them = next(iter(classes)), ", ".join(sorted(classes))
        raise UserError(f"{home} defines {all_of_them}: name the one that is meant, as in {home}:{first}")
    found = getattr(module, chosen, None)
    if found is None:
        has = f"; it has {', '.join(sorted(classes))}" if classes else ""
        raise UserError(f"{home} has no {chosen!r}{has}.{did_you_mean(chosen, classes)}")
    if not inspect.isclass(found) or not issubclass(found, kind):
        raise UserError(f"{home}: {chosen} is not {what}: derive it from {base}")
    return found
