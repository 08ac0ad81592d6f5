"""Flags of the commands, and the errors they may hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import tyro

from agents.run.spellings import suggestion
from agents.run.yaml_files import parse_value
from envs.errors import UserError

Options = TypeVar("Options")
_DETAIL: type[Any] = type(tyro.conf.arg())  # what annotations are made of
Flag = tyro.conf.FlagCreatePairsOff[bool]
Count = Annotated[int | None, tyro.conf.arg(metavar="INTEGER", help_behavior_hint="")]
EnvId = Annotated[
    str | None, tyro.conf.arg(metavar="ID", help_behavior_hint="", help="another environment than the training's")
]
EnvKwargs = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="KEY=VALUE ...",
        help_behavior_hint="",
        help="the environment's own arguments; of a run, over those of its training",
    ),
]
Run = Annotated[
    tyro.conf.Positional[Path | None],
    tyro.conf.arg(
        metavar="[RUN]",
        help_behavior_hint="",
        help="run folder, or folder with a model; without it, the run begun last",
    ),
]
RunOrZip = Annotated[
    tyro.conf.Positional[Path | None],
    tyro.conf.arg(
        metavar="[RUN]",
        help_behavior_hint="",
        help="run folder, folder with a model, or MODEL.zip of stable-baselines3; without it, the run begun last",
    ),
]
RunsDir = Annotated[Path, tyro.conf.arg(help="where runs are, if RUN is not given")]
Checkpoint = Annotated[str, tyro.conf.arg(metavar="best|latest|STEP", help="which of the run's policies")]
VecNormalizeFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help_behavior_hint="", help="VecNormalize's statistics for MODEL.zip"),
]
Settings = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="SETTING=VALUE ...", help_behavior_hint="", help="settings that differ from those of RUN"),
]
Trust = Annotated[
    Flag, tyro.conf.arg(help="run the code that a run, a model or a file of settings of somebody else brings or names")
]
Seed = Annotated[int, tyro.conf.arg(help="all randomness follows from it")]
OwnSeed = Annotated[
    Count, tyro.conf.arg(help="all randomness follows from it (default: 0)")
]  # over that of --set, which the default would hide
Quiet = Annotated[Flag, tyro.conf.arg(help="print nothing but errors")]
Json = Annotated[Flag, tyro.conf.arg(help="print the result as a last line")]
Debug = Annotated[Flag, tyro.conf.arg(help="show tracebacks")]
CurveFiles = Annotated[
    tuple[Path, ...],
    tyro.conf.arg(
        name="import",
        metavar="FILE ...",
        help_behavior_hint="",
        help="CSV files with results from elsewhere: env, algo, library, seed, step, return, time (may be empty)",
    ),
]


def parse_flags(options: type[Options], argv: list[str], *, command: str, about: str | None, examples: str) -> Options:
    """Parse a command's arguments into its dataclass of options.

    Args:
        command: as it is typed, such as "python -m agents.watch".
        about: what it does, for `--help`.
        examples: printed at the end of `--help`.

    Raises:
        UserError: an argument is unknown, or a flag of several values has none; the message names it.
        SystemExit: after `--help` (0), or where a value is missing or of the wrong kind (2).
    """
    takes = _names(options)
    known = ["-h", "--help", *takes]
    # before parsing, which takes a value that follows an unknown flag for something else
    for word, after in zip(argv, [*argv[1:], "-h"], strict=False):
        name = word.partition("=")[0].replace("_", "-")
        if re.match("-[-a-zA-Z]", name) and name not in known:  # a negative number is a value
            flags = {flag.strip("-").replace("-", "_"): flag for flag in known}
            near = suggestion(name.strip("-").replace("-", "_"), flags, flags.__getitem__)
            raise UserError(f"{word}: unknown flag.{near} '{command} --help' lists all.")
        if (several := takes.get(word.replace("_", "-"))) and after.partition("=")[0].replace("_", "-") in known:
            raise UserError(f"{word}: nothing given, {several} expected.")
    try:
        parsed, unknown = tyro.cli(options, prog=command, description=about, args=argv, return_unknown_args=True)
    except SystemExit as stop:
        if stop.code == 0:
            print(examples)
        raise
    if unknown:
        what = "unknown flag" if unknown[0].startswith("-") else "one argument too many"
        raise UserError(f"{unknown[0]}: {what}. '{command} --help' lists all.")
    return parsed


def _names(options: type[Any]) -> dict[str, str | None]:
    """Return the flags as they are typed, and what those of several values take.

    An argument may be called otherwise than its field, and have other names.
    """
    found, kinds = dict[str, str | None](), get_type_hints(options)
    for field, hint in get_type_hints(options, include_extras=True).items():
        details = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, _DETAIL)]
        named = [detail.name for detail in details if detail.name]
        aliases = [alias for detail in details for alias in detail.aliases or ()]
        several = get_origin(kinds[field]) is tuple
        takes = next((detail.metavar for detail in details if detail.metavar), "values") if several else None
        found |= dict.fromkeys([f"--{(named or [field])[-1].replace('_', '-')}", *aliases], takes)
    return found


def is_sb3(path: Path | None) -> bool:
    """Whether a model is a file of stable-baselines3; a folder is ours, whatever it is called."""
    return path is not None and path.suffix == ".zip" and not path.is_dir()


def refuse_outside(options: Any, **bounds: float | tuple[float, float]) -> None:
    """Refuse flags, by their fields' names, below the least or above the most they may be; None stands for no value.

    Raises:
        UserError: the message names the first.
    """
    for name, bound in bounds.items():
        value, (low, high) = getattr(options, name), bound if isinstance(bound, tuple) else (bound, math.inf)
        if value is not None and not low <= value <= high:
            allowed = f"at least {low}" if high == math.inf else f"{low:,} to {high:,}"
            raise UserError(f"--{name.replace('_', '-')}: {value} given, {allowed} expected.")


def refuse_idle(options: Any, why: str, *names: str) -> None:
    """Refuse flags, by their fields' names, that change nothing; one with its default's value is as not given.

    Raises:
        UserError: the message names the first, and says why.
    """
    usual = type(options)()
    for name in names:
        if getattr(options, name) != getattr(usual, name):
            raise UserError(f"--{name.replace('_', '-')} changes nothing here, as {why}: leave it out.")


def parse_env_kwargs(
    words: Sequence[str],
    flag: str = "--env-kwargs",
    example: str = "gravity=9.8",
    read: Callable[[str, str], Any] = lambda _, value: parse_value(value),
) -> dict[str, Any]:
    """Read `key=value` words of a flag, the values as YAML would or as `read` does, which takes the key too.

    Raises:
        UserError: a word is not of that form.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"{flag}: {word!r} given, KEY=VALUE expected, such as {flag} {example}")
        found[key] = read(key, value)
    return found


def without(argv: Sequence[str], *flags: str) -> list[str]:
    """Return words without some flags and their values."""
    kept: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        if before not in flags and word.partition("=")[0] not in flags:
            kept.append(word)
    return kept
