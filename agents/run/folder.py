"""The folder of a run: what lies where, and who made it."""

from __future__ import annotations

import json
import platform
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from agents.run.config import RunConfig
from agents.run.registry import label
from agents.run.storage import disk, tidy, write_text
from envs.errors import UserError, did_you_mean
from envs.make import env_label

PACKAGES = (
    "deep-rl-suite",
    "torch",
    "numpy",
    "gymnasium",
    "stable-baselines3",
    "tensorboard",
    "pydantic",
    "safetensors",
)
STAMP = "%Y%m%d-%H%M%S"  # when a run was begun, at the end of its folder's name
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # Windows takes no file of these names


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths within one run."""

    path: Path

    @classmethod
    def create(
        cls,
        runs_dir: Path,
        config: RunConfig,
        *,
        name: str | None = None,
        prefix: str | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> RunFolder:
        """Make `<runs_dir>/<env>__<algo>__s<seed>__<time>/` and write what is known before training.

        Args:
            runs_dir: made if it is not there.
            config: written to `config.yaml`, all of it.
            name: of a folder in `runs_dir` to use instead, which may be there, without a run in it.
            prefix: what the folder's name begins with, as `check_name` allows it: `<prefix>__<env>__...`.
            device: the one in use, for `versions.json`.
            threads: PyTorch's thread count, for `versions.json`.

        Raises:
            UserError: nothing can be written there.
        """
        folder = cls(_new_folder(runs_dir, config, prefix) if name is None else runs_dir / name)
        with disk("create", folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        folder.append_command()
        folder._write_json("versions.json", versions() | {"device": device or config.device, "threads": threads})
        write_text(folder.config_file, config.to_yaml())
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run at `path`.

        Raises:
            UserError: there is none; the message says what a run has, and names runs nearby.
        """
        folder = cls(path)
        if folder.config_file.is_file():
            return folder
        what = "has no config.yaml" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        around = next((parent for parent in path.parents if (parent / "config.yaml").is_file()), None)
        inside, beside = ([run.name for run in runs_in(place)] for place in (path, path.parent))
        near = f" It lies in the run {around}." if around else f" It holds {', '.join(inside[-3:])}." if inside else ""
        if not near and beside:
            near = did_you_mean(path.name, beside) or f" Beside it: {', '.join(beside[-3:])}."
        raise UserError(f"{path} is no run folder: it {what}. A run holds config.yaml, checkpoints/ and a model.{near}")

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """Where the best model by evaluation lies."""
        return self.path / "best"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint at `step`; names sort as steps do."""
        return self.path / "checkpoints" / f"{step:012d}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Return `(step, folder)` of each checkpoint, oldest first."""
        found = (self.path / "checkpoints").glob("[0-9]*")
        return sorted((int(folder.name), folder) for folder in found if folder.name.isdecimal() and folder.is_dir())

    def config(self) -> RunConfig:
        """Read `config.yaml`.

        Raises:
            UserError: the file was spoilt.
        """
        return RunConfig.from_yaml(self.config_file)

    def tidy(self) -> None:
        """Clear away what a killed process left half written."""
        for folder in (self.path, self.path / "checkpoints"):
            tidy(folder)

    def resume(self, config: RunConfig) -> None:
        """Note that the run goes on as `config` says."""
        self.append_command()
        write_text(self.config_file, config.to_yaml())

    def append_command(self) -> None:
        """Add the running command line to `command.txt`."""
        file = self.path / "command.txt"
        with disk("write", file), file.open("a", encoding="utf-8") as stream:
            stream.write(shlex.join(sys.orig_argv) + "\n")

    def concluded(self) -> int | None:
        """Return the step at which the run was brought to its end; None if it was not, or was stopped before."""
        try:
            summary = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
            return None if summary["interrupted"] else int(summary["steps"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`."""
        self._write_json("summary.json", summary)

    def write_final_episodes(self, returns: list[float], lengths: list[int]) -> None:
        """Write `final_episodes.json`: the episodes that the summary's evaluation is made of."""
        self._write_json("final_episodes.json", {"returns": returns, "lengths": lengths})

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        write_text(self.path / name, json.dumps(content, indent=2) + "\n")


def check_name(name: str) -> None:
    """Raise UserError unless every file system takes `name` as the beginning of a folder's name."""
    plain = re.sub(r"[^A-Za-z0-9._+=-]+", "-", name).lstrip("-._+=")[:64]
    plain = f"run-{plain}" if DEVICES.match(plain) or not plain else plain
    if plain != name:
        raise UserError(
            f"--name: {name!r} given; 1 to 64 of the letters a to z, digits and . _ + = - expected, a letter or digit "
            f"first, and no device's name of Windows. For example: --name {plain}"
        )


def _stem(env: str, algo: str, seed: int) -> str:
    return f"{env_label(env)}__{label(algo)}__s{seed}"


def given_name(run: Path, env: str, algo: str, seed: int) -> str:
    """Return the name that a run of these was given, as its folder's name says; "" where it was given none."""
    head, stem = run.name.rpartition("__")[0], f"__{_stem(env, algo, seed)}"
    return head.removesuffix(stem) if head.endswith(stem) else ""


def begun(run: Path) -> datetime | None:
    """Return the local time at which a run was begun, by its folder's name; None where that says none."""
    try:
        return datetime.strptime(run.name.rpartition("__")[2][:15], STAMP)
    except ValueError:
        return None


def _new_folder(runs_dir: Path, config: RunConfig, prefix: str | None) -> Path:
    """Make a folder that was not there, named after a run and the time."""
    stem = f"{_stem(config.env, config.algo, config.seed)}__{time.strftime(STAMP)}"
    stem = stem if prefix is None else f"{prefix}__{stem}"
    for attempt in count(1):
        path = runs_dir / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            with disk("create", path):
                path.mkdir(parents=True)
            break
        except UserError as error:
            if not isinstance(error.__cause__, FileExistsError) or not path.is_dir():
                raise
    return path


def runs_in(runs_dir: Path) -> list[Path]:
    """Return the run folders in `runs_dir`, the one begun last at the end."""
    found = [file.parent for file in runs_dir.glob("*/config.yaml")]
    return sorted(found, key=lambda run: (run.name.rpartition("__")[2], run.name))


def find_latest_run(runs_dir: Path) -> Path:
    """Return the run that was begun last.

    Raises:
        UserError: there is none in `runs_dir`.
    """
    runs = runs_in(runs_dir)
    if not runs:
        raise UserError(f"{runs_dir} holds no run. Train one: python -m agents.train --env CartPole-v1")
    return runs[-1]


def versions() -> dict[str, Any]:
    """Return what the numbers of a run may depend on: package versions, git commit, Python, platform."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found | {"git": _git_commit()}


def _git_commit() -> str | None:
    """Return the commit of this source tree ("+" added if files were changed since), or None without git."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():  # an installed copy may lie within a repository of something else
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
