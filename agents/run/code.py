"""Code of the user's own that a run is made of: which it is, its copy in the run's folder, where it is found again.

Settings name it: "path/to/file.py:Name", or "module:Name". A run keeps the path of a file whole, so that it means the
same from any working directory, and copies into `code/` what was imported from the file's folder. The original is
used as long as it is there and unchanged, and the copy where it is not. No PyTorch here.
"""

from __future__ import annotations

import json
import os
import re
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

from agents.core.user_code import is_user_code
from agents.run.storage import disk, write_text
from envs import errors
from envs.errors import UserError

SETTINGS = ("env", "wrappers", "algo", "encoder", "memory", "metrics")  # those that may name code
FOLDER, LIST = "code", "folders.json"
MOST_FILES, LARGEST, LARGEST_SUM = 200, 2**20, 2**23  # of the copies: how many, and bytes of one and of all


def names(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (setting, name) of all code that a run's flat settings name and that is neither ours nor Gymnasium's."""
    for setting in SETTINGS:
        value = values.get(setting)
        for entry in value if setting == "wrappers" and isinstance(value, list | tuple) else [value]:
            for name in entry if isinstance(entry, dict) else [entry]:
                if isinstance(name, str) and (is_user_code(name) or setting == "wrappers") and not _gymnasiums(name):
                    yield setting, name


def _gymnasiums(name: str) -> bool:
    return _file(name) is None and re.split(r"[.:]", name)[0] == "gymnasium"


def refuse(values: Mapping[str, Any], source: str) -> None:
    """Raise UserError if settings from `source` name code outside the package.

    This is the one place that says whether code which a file names may be imported.
    """
    for setting, name in names(values):
        raise UserError(f"{source}: {setting}: {name!r} is code outside the package, and would be run to use this")


def renamed(setting: str, value: Any, rename: Callable[[str], str]) -> Any:
    """Return the value of a setting with another name for the code that it names; settings of no code as they are."""
    if setting in SETTINGS and isinstance(value, str):
        return rename(value)
    if setting != "wrappers":
        return value
    if isinstance(value, dict):
        return {renamed(setting, name, rename): arguments for name, arguments in value.items()}
    return [renamed(setting, entry, rename) for entry in value] if isinstance(value, list | tuple) else value


def absolute(setting: str, value: Any) -> Any:
    """Return a setting's value with whole paths for the files that are there."""

    def whole(name: str) -> str:
        file = _file(name)
        return name if file is None or not Path(file).is_file() else f"{Path(file).resolve()}{name[len(file) :]}"

    return renamed(setting, value, whole)


def _file(name: str) -> str | None:
    """Return the path in "path/to/file.py:Name", None of other names."""
    if ".py" not in name:
        return None
    from envs.locate import FILE  # Gymnasium comes with it

    match = FILE.fullmatch(name)
    return None if match is None else match["path"]


@cache
def _foreign() -> tuple[str, ...]:
    """Return the folders of what is installed, and of the suite itself."""
    paths = sysconfig.get_paths()
    installed = [*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), *site.getsitepackages()]
    suite = [Path(__file__).parents[1], Path(errors.__file__).parent]
    places = {*map(Path, installed), *suite}
    return tuple(f"{each}{os.sep}" for each in places | {place.resolve() for place in places})


def _own(file: str) -> bool:
    """Whether a file is the user's, rather than installed or the suite's."""
    return not file.startswith(_foreign()) and not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _folder(name: str) -> Path | None:
    """Return the folder that code, which has been imported, was imported from; None if it is not the user's own."""
    if (path := _file(name)) is not None:
        file = Path(path).resolve()
        return file.parent if file.is_file() and _own(str(file)) else None
    module = sys.modules.get(re.split(r"[.:]", name)[0])
    places: list[Any] = list(getattr(module, "__path__", ()))  # of a package
    file = Path(places[0] if places else getattr(module, "__file__", None) or "").resolve()
    return file.parent if module is not None and file.exists() and _own(str(file / "_")) else None


def _imported(folder: Path) -> Iterator[Path]:
    """Yield the modules of the user's own in `folder` and below that have been imported."""
    files: set[Any] = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = {Path(file).resolve() for file in files if isinstance(file, str) and file.endswith(".py") and _own(file)}
    yield from sorted(file for file in own if file.is_relative_to(folder) and file.is_file())


def keep(run: Path, values: Mapping[str, Any]) -> list[str]:
    """Copy the user's own code that a run has imported into its folder; return a sentence for what was left out.

    Args:
        run: the run's folder.
        values: its settings, flat; the code they name has been imported.

    Raises:
        UserError: nothing can be written there.
    """
    folders = dict.fromkeys(folder for _, name in names(values) if (folder := _folder(name)) is not None)
    kept: dict[str, str] = {}
    left_out, copied, total = list[str](), 0, 0
    for folder in folders:
        stem = folder.name or "root"
        key = next(each for number in count(1) if (each := f"{stem}-{number}" if number > 1 else stem) not in kept)
        for file in _imported(folder):
            with disk("read", file):
                size = file.stat().st_size
            if size > LARGEST or total + size > LARGEST_SUM or copied >= MOST_FILES:
                left_out.append(str(file))
                continue
            copied, total = copied + 1, total + size
            copy = run / FOLDER / key / file.relative_to(folder)
            with disk("write", copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
        kept[key] = str(folder)
    if kept:
        with disk("write", run / FOLDER):
            (run / FOLDER).mkdir(exist_ok=True)
        write_text(run / FOLDER / LIST, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    if not left_out:
        return []
    return [
        f"the run's folder has no copy of {', '.join(left_out[:3])}{' and others' * (len(left_out) > 3)}: at most "
        f"{MOST_FILES} files of {LARGEST // 2**20} MB and {LARGEST_SUM // 2**20} MB in all are copied"
    ]


def find(values: Any, run: Path) -> tuple[Any, list[str]]:
    """Return a run's settings with the places where the code they name is now, and a sentence for each copy used.

    What a module needs to be imported is put on `sys.path`; nothing is imported yet.

    Args:
        values: the settings as they were written.
        run: the run's folder, which may have no copies.

    Raises:
        UserError: the list of copies is damaged.
    """
    if not isinstance(values, dict):
        return values, []  # who reads the settings says what is wrong
    places, said = dict[str, Path](), list[str]()
    modules = [name for _, name in names(values) if _file(name) is None]
    for key, original in _listed(run).items():
        copy = (run / FOLDER / key).resolve()
        difference = _difference(Path(original), copy)
        place = Path(original) if difference is None else copy
        if difference is not None:
            said.append(f"{difference}: the run's own copy is used, {copy} (what you change there is used too)")
        if (difference is not None or modules) and str(place) not in sys.path:
            sys.path.insert(0, str(place))  # before the working folder, which may hold others of the same name
        places |= {_slashes(original): place, f"*/{FOLDER}/{key}": place}

    def moved(name: str) -> str:
        path = _file(name)
        if path is None:
            return name
        folder, _, file = _slashes(path).rpartition("/")
        place = places.get(folder) or places.get("*/" + "/".join(folder.split("/")[-2:]))
        return name if place is None else f"{place / file}{name[len(path) :]}"

    return {setting: renamed(setting, value, moved) for setting, value in values.items()}, said


def _slashes(path: str) -> str:
    """Write a path of any system with forward slashes."""
    return path.replace("\\", "/")


def _listed(run: Path) -> dict[str, str]:
    """Return each copied folder's name in `code/`, and where it was."""
    file = run / FOLDER / LIST
    if not file.is_file():
        return {}
    with disk("read", file), file.open(encoding="utf-8") as stream:
        text = stream.read(2**20)
    try:
        found = json.loads(text)
        if all(isinstance(place, str) and re.fullmatch(r"[^/\\]*[^/\\.][^/\\]*", key) for key, place in found.items()):
            return found
    except (ValueError, RecursionError, AttributeError):
        pass
    raise UserError(f"{file} is damaged: it must say for each folder beside it where it was copied from")


def _difference(original: Path, copy: Path) -> str | None:
    """Say how the files in `original` differ from those that were copied of them; None where they do not."""
    for file in sorted(islice(copy.rglob("*.py"), MOST_FILES)):
        there = original / file.relative_to(copy)
        if not there.is_file():
            return f"{there} is not there any more"
        try:
            same = there.stat().st_size == file.stat().st_size and there.read_bytes() == file.read_bytes()
        except OSError as error:
            return f"{there} cannot be read ({error.strerror})"
        if not same:
            return f"{there} has changed since the run began"
    return None
