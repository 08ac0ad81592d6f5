"""Code of the user's own that a run is made of: which it is, its copy in the run's folder, where it is found again.

Settings name it: "path/to/file.py:Name", or "module:Name". A run keeps the path of a file whole, so that it means the
same from any working directory, and copies into `code/` what was imported from the file's folder. The original is
used as long as it is there and unchanged, and the copy where it is not. No PyTorch here.

Files may come from anybody, so code that they name is imported only if the user agreed: they typed the same name,
said `--trust`, or made the run on this machine, which its signature shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import site
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

from agents.core.user_code import is_user_code
from agents.run import signature
from agents.run.storage import disk, read_json, write_text
from envs import errors
from envs.errors import UserError
from envs.ids import FILE

SETTINGS = ("env", "wrappers", "algo", "encoder", "memory", "metrics")  # those that may name code
_ALSO = {"env_wrapper": "wrappers", "network": "encoder"}  # other names of such settings
# free text, and the environment's own arguments; others may be settings of a user's own algorithm, and name code
NO_CODE = ("name", "env_kwargs", "action_names", "observation_names", "pretrained")
FOLDER, LIST, SIGNATURE = "code", "folders.json", "signature.json"
MOST_FILES, LARGEST, LARGEST_SUM = 200, 2**20, 2**23  # of the copies: how many, and bytes of one and of all
MOST = 1_000  # of what Gymnasium's wrappers are given as a size or a count, by these names
SIZES = ("stack_size", "delay", "shape", "bins", "skip", "num_repeats", "max_repeat", "noop_max", "screen_size")
_LEFT = re.compile(r"\.(folders|signature)\.json\.tmp-[0-9a-f]{12}")  # what a kill leaves; no name of a module
Trust = bool | Collection[str]  # what files name may be imported: all of it, or what the user typed


def names(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (setting, name) of all code outside the package that a run's settings name, flat or in their parts."""
    for setting, value in values.items():
        if setting not in NO_CODE:
            yield from _names(_ALSO.get(setting, setting), value)


def _names(setting: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if _is_code(setting, value):
            yield setting, value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _names(setting, entry)
    elif isinstance(value, dict) and setting == "wrappers":  # their arguments are no names
        yield from ((setting, name) for name, given in value.items() if _is_code(setting, name) or _asks_much(given))
    elif isinstance(value, dict):
        yield from names(value)


def _is_code(setting: str, name: str) -> bool:
    if setting not in SETTINGS:
        return is_user_code(name)
    if setting != "wrappers":  # more than is_user_code, as environments' ids may be anything
        return ":" in name or name.endswith(".py") or name.startswith("GymV")  # these make what their arguments name
    home, _, chosen = name.replace(":", ".").rpartition(".")
    gymnasiums = _file(name) is None and home == "gymnasium.wrappers" and chosen.isidentifier()
    return not gymnasiums or chosen == "RecordVideo"  # which writes files wherever it is told


def _asks_much(arguments: Any) -> bool:
    """Whether arguments of one of Gymnasium's wrappers may make it take much memory or time."""
    named = arguments if isinstance(arguments, dict) else {}
    return any(_is_much(value) for name, value in named.items() if name in SIZES)


def _is_much(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_much, value))
    return isinstance(value, int | float) and not -MOST <= value <= MOST


def typed_in(words: Sequence[str]) -> frozenset[str]:
    """Return what a user typed that may be the name of code, as `refuse` takes it."""
    return frozenset(word.partition("=")[2] if word.startswith("--") else word for word in words)


def refuse(
    values: Mapping[str, Any], source: str, run: Path | None = None, trust: Trust = False, *, replaced: str = ""
) -> None:
    """Raise UserError if settings from a file name code outside the package to which the user has not agreed.

    This is the one place that says whether code which a file names may be imported.

    Args:
        values: settings, flat.
        source: the file that they are from, for the message.
        run: the folder whose signature may say that the user made them; None: there is none.
        trust: all code, or the names that the user typed.
        replaced: a setting that is not used, as the user gave another.
    """
    named = [(setting, name) for setting, name in names(values) if setting != replaced]
    if trust is True or not named:
        return
    typed = set() if trust is False else {absolute("env", word) for word in trust}
    signed = None if run is None else _signed(run)
    reason = "it was not made by you on this machine" if signed is None else "the run was not made with it"
    if signed == set():
        reason = f"the run was made on another machine, or {FOLDER}/ has been changed since"
    for setting, name in named:
        if absolute(setting, name) in typed or f"{setting}: {name}" in (signed or ()):
            continue
        instead = f"--{setting} {name}" if setting == "env" else ""
        what = "is code outside the package, which this would run"
        if not _is_code(setting, name):
            what = f"has a size or a count beyond {MOST:,}, which may fill the memory"
        raise UserError(
            f"{source}: {setting}: {name!r} {what}, and {reason}. If you trust it, add --trust"
            f"{' or ' + instead if instead else ''} (in Python trust=True)"
        )


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
    """Copy the user's own code that a run has imported into its folder, and sign it as made here.

    Args:
        run: the run's folder.
        values: its settings, flat; the code they name has been imported.

    Returns:
        A sentence for what was left out.

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
    sign(run, values)
    if not left_out:
        return []
    return [
        f"the run's folder has no copy of {', '.join(left_out[:3])}{' and others' * (len(left_out) > 3)}: at most "
        f"{MOST_FILES} files of {LARGEST // 2**20} MB and {LARGEST_SUM // 2**20} MB in all are copied"
    ]


def is_kept(folder: Path) -> bool:
    """Whether a folder called `code` is one that `keep` wrote."""
    return (folder / LIST).is_file() or (folder / SIGNATURE).is_file()


def sign(run: Path, values: Mapping[str, Any]) -> None:
    """Note in a run's folder that this user runs the code that its settings name, and as it is there.

    What the folder is signed for already stays so.

    Raises:
        UserError: nothing can be written there.
    """
    before = _signed(run) or set()
    signed = sorted({f"{setting}: {name}" for setting, name in names(values)} | before)
    if set(signed) == before or (made := signature.sign(_content(run, signed))) is None:
        return
    with disk("write", run / FOLDER):
        (run / FOLDER).mkdir(exist_ok=True)
    write_text(run / FOLDER / SIGNATURE, json.dumps({"code": signed, "signature": made}, indent=2) + "\n")


def _signed(run: Path) -> set[str] | None:
    """Return "setting: name" of the code with which this user has made a run; none if it is not as they made it.

    Where there is no signature at all, that is None.
    """
    file = run / FOLDER / SIGNATURE
    if not file.is_file():
        return None
    try:
        found = read_json(file)
        signed = [str(name) for name in found["code"]]
        return set(signed) if signature.made_here(_content(run, signed), found["signature"]) else set()
    except (UserError, OSError, LookupError, TypeError):
        return set()


def _content(run: Path, signed: list[str]) -> bytes:
    """Return what is signed: the names, and every file in `code/`, so that nothing can be put beside them."""
    digests, total = dict[str, str](), 0
    files = list(islice((run / FOLDER).rglob("*"), 10 * MOST_FILES))
    if len(files) == 10 * MOST_FILES:
        raise UserError(f"{run / FOLDER}: more files than a run copies")
    for file in sorted(files):
        if file == run / FOLDER / SIGNATURE or (file.is_dir() and not file.is_symlink()):
            continue
        if file.parent == run / FOLDER and _LEFT.fullmatch(file.name):
            continue
        with disk("read", file):
            size = file.lstat().st_size
            if file.is_symlink() or not file.is_file() or (total := total + size) > 2 * LARGEST_SUM:
                raise UserError(f"{file}: no file that a run copies")
            digests[file.relative_to(run / FOLDER).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return json.dumps([signed, digests], sort_keys=True).encode()


def find(values: Any, run: Path, source: str, trust: Trust = False, *, replaced: str = "") -> tuple[Any, list[str]]:
    """Return a run's settings with the places where the code they name is now, and a sentence for each copy used.

    What a module needs to be imported is put on `sys.path`; nothing is imported yet.

    Args:
        values: the settings as they were written.
        run: the run's folder, which may have no copies.
        source, trust, replaced: as `refuse` takes them.

    Raises:
        UserError: the user has not agreed to their code, or the list of copies is damaged.
    """
    if not isinstance(values, dict):
        return values, []  # who reads the settings says what is wrong
    refuse(values, source, run, trust, replaced=replaced)
    named = [name for setting, name in names(values) if setting != replaced]
    if not named:
        return values, []  # so that nothing in the folder can be imported
    places, said = dict[str, Path](), list[str]()
    modules = [name for name in named if _file(name) is None]
    for key, original in _listed(run).items():
        copy = (run / FOLDER / key).resolve()
        difference = _difference(Path(original), copy)
        place = Path(original) if difference is None else copy
        if difference is not None:
            said.append(f"{difference}: the run's own copy is used, {copy}")
            _write_no_bytecode()
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


def _write_no_bytecode() -> None:
    """Let Python put no files beside the modules it imports: a run's copies are signed as they are."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # in environments' processes


def _slashes(path: str) -> str:
    """Write a path of any system with forward slashes."""
    return path.replace("\\", "/")


def _listed(run: Path) -> dict[str, str]:
    """Return each copied folder's name in `code/`, and where it was."""
    file = run / FOLDER / LIST
    if not file.is_file():
        return {}
    with suppress(UserError):
        found = read_json(file)
        if all(isinstance(place, str) and re.fullmatch(r"[^/\\]*[^/\\.][^/\\]*", key) for key, place in found.items()):
            return found
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
