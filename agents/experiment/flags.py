"""Flags of the commands, and the errors they may hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from agents.experiment.config import parse_value
from envs.errors import UserError, did_you_mean

Options = TypeVar("Options")


def parse_flags(options: type[Options], argv: list[str], *, command: str, about: str | None, examples: str) -> Options:
    """Parse a command's arguments into its dataclass of options.

    Args:
        command: as it is typed, such as "python -m agents.watch".
        about: what it does, for `--help`.
        examples: printed at the end of `--help`.

    Raises:
        UserError: an argument is unknown; the message names the nearest flag.
        SystemExit: after `--help` (0), or where a value is missing or of the wrong kind (2).
    """
    try:
        parsed, unknown = tyro.cli(options, prog=command, description=about, args=argv, return_unknown_args=True)
    except SystemExit as stop:
        if stop.code == 0:
            print(examples)
        raise
    if unknown:
        names = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(options)]  # type: ignore[arg-type]
        what = "unknown flag" if unknown[0].startswith("-") else "one argument too many"
        near = did_you_mean(unknown[0].partition("=")[0], names)
        raise UserError(f"{unknown[0]}: {what}.{near} '{command} --help' lists all.")
    return parsed


def parse_env_kwargs(words: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` words, the values as YAML would.

    Raises:
        UserError: a word is not of that form.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--env-kwargs: {word!r} given, KEY=VALUE expected, such as --env-kwargs gravity=9.8")
        found[key] = parse_value(value)
    return found
