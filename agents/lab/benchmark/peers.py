"""Programs of others, which a small file describes, in the cases of the benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from agents.lab.benchmark.case import Case, Figures, Program
from agents.lab.benchmark.catalogue import CATALOGUE
from agents.lab.benchmark.rounds import is_number
from agents.run.yaml_files import load_config_file
from envs.errors import UserError, did_you_mean

KEYS = ("name", "task", "command")
FIGURES = ("steps", "seconds", "steps_per_s", "eval_mean", "bytes_per_transition", "threads")


def load_peer(file: Path) -> tuple[str, Program]:
    """Read a YAML or JSON file with `name`, `task` (a case) and `command` (a list of words); return task and program.

    Raises:
        UserError: the file is missing or malformed, or there is no such case.
    """
    values = load_config_file(file)  # JSON is YAML
    for key in (*values, *KEYS):
        if key not in KEYS:
            raise UserError(f"{file}: unknown key {key!r}.{did_you_mean(key, KEYS)} A peer has {', '.join(KEYS)}.")
        if key not in values:
            raise UserError(f"{file}: there is no {key!r}. A peer has {', '.join(KEYS)}.")
    name, task, command = (values[key] for key in KEYS)
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{file}: name: {name!r} given, TEXT expected.")
    if task not in list(CATALOGUE):
        near = did_you_mean(str(task), CATALOGUE)
        raise UserError(f"{file}: task: there is no case {task!r}.{near} There are {', '.join(CATALOGUE)}.")
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise UserError(f"{file}: command: {command!r} given, a list of words expected, such as [python, train.py].")
    return task, Program(name, tuple(command), read=read_figures)


def read_figures(printed: Figures) -> Figures:
    """Take from what a peer printed the numbers that are known here."""
    return {key: printed[key] for key in FIGURES if is_number(printed.get(key))}


def add_peers(cases: Sequence[Case], left_out: Sequence[str], files: Sequence[Path]) -> tuple[list[Case], list[str]]:
    """Return the cases with the programs of `files` in them, and what is left out, those without their case too.

    Raises:
        UserError: as `load_peer`, or two programs of a case have one name.
    """
    by_name, missing = {case.name: case for case in cases}, list(left_out)
    for file in files:
        task, peer = load_peer(file)
        if task not in by_name:
            missing.append(f"{peer.name} ({task} is not measured)")
            continue
        case = by_name[task]
        if peer.name in (program.name for program in case.programs):
            raise UserError(f"{file}: name: {task} has a program called {peer.name!r} already; choose another name.")
        by_name[task] = dataclasses.replace(case, programs=(*case.programs, peer))
    return list(by_name.values()), missing
