"""The folder of a run: what lies where, and who made it."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from agents.core.config import AlgoConfig
from agents.run import code
from agents.run.config import RunConfig
from agents.run.registry import label
from agents.run.storage import disk, read_json, refuse_links, tidy, write_text
from agents.run.terminal import typed
from agents.run.yaml_files import load_config_file
from envs.errors import UserError, did_you_mean
from envs.locate import env_label

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
FOR_FILM = "for-film"  # in checkpoints that are there for the film alone
WATCHED = ".watched"  # touched by those who watch a run learn
ASKED = 10.0  # seconds for which that asks for models
STAMP = "%Y%m%d-%H%M%S"  # when a run was begun, at the end of its folder's name


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths within one run.

    Attributes:
        typed: how messages name it, where that is not `path`.
    """

    path: Path
    typed: Path | None = None

    @classmethod
    def create(
        cls,
        runs_dir: Path,
        config: RunConfig,
        *,
        folder_name: str | None = None,
        threads: int | None = None,
    ) -> RunFolder:
        """Make `<runs_dir>/<env>__<algo>__[<name>__]s<seed>__<time>/` and write what is known before training.

        Args:
            runs_dir: made if it is not there.
            config: written to `config.yaml`, all of it; its device goes to `versions.json` too.
            folder_name: of a folder in `runs_dir` to use instead, which may be there, without a run in it.
            threads: PyTorch's thread count, for `versions.json`.

        Raises:
            UserError: nothing can be written there, or a link lies there.
        """
        refuse_other_bytes(runs_dir)
        folder = cls(_new_folder(runs_dir, config) if folder_name is None else runs_dir / folder_name)
        with disk("create", folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        refuse_links(folder.path)
        folder.append_command()
        folder._write_json("versions.json", versions() | {"device": config.device, "threads": threads})
        write_text(folder.config_file, config.to_yaml())
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run at `path`.

        Raises:
            UserError: there is none, and the message says what a run has and names runs nearby; or what it holds leads
                elsewhere (`refuse_links`).
        """
        folder = cls(path)
        if folder.config_file.is_file():
            refuse_links(path)
            return folder
        what = "has no config.yaml" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        around = next((parent for parent in path.parents if (parent / "config.yaml").is_file()), None)
        inside, beside = ([run.name for run in runs_in(place)] for place in (path, path.parent))
        near = f" It lies in the run {around}." if around else f" It holds {', '.join(inside[-3:])}." if inside else ""
        if not near and beside:
            near = did_you_mean(path.name, beside) or f" Beside it: {', '.join(beside[-3:])}."
        near = hint_of_sb3(path) or near
        raise UserError(f"{path} is no run folder: it {what}. A run holds config.yaml, checkpoints/ and a model.{near}")

    def fixed(self) -> RunFolder:
        """Return the same folder by its whole path, which holds wherever an environment leads this process."""
        return RunFolder(self.path.absolute(), self.shown)

    @property
    def shown(self) -> Path:
        """How messages and commands to type name it."""
        return self.path if self.typed is None else self.typed

    @property
    def there(self) -> bool:
        """Whether the run is where it was: nobody has deleted or moved it."""
        return self.config_file.is_file()

    def refuse_gone(self) -> None:
        """Raise UserError if somebody has deleted or moved the run."""
        if not self.there:
            raise UserError(f"the run folder {self.shown} is gone: it was deleted or moved while it was trained in")

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """Where the best model by evaluation lies."""
        return self.path / "best"

    def video(self, step: int) -> Path:
        """Return where the video of the policy at `step` goes; names sort as steps do."""
        return self.path / "videos" / f"{step:012d}.mp4"

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint at `step`; names sort as steps do."""
        return self.path / "checkpoints" / f"{step:012d}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Return `(step, folder)` of each checkpoint, oldest first."""
        found = (self.path / "checkpoints").glob("[0-9]*")
        return sorted((int(folder.name), folder) for folder in found if folder.name.isdecimal() and folder.is_dir())

    def kept_for_film(self) -> list[tuple[int, Path]]:
        """Return `(step, folder)` of each checkpoint that is there for the film alone, oldest first."""
        return [one for one in self.checkpoints() if (one[1] / FOR_FILM).exists()]

    def states(self) -> list[tuple[int, Path]]:
        """Return `(step, folder)` of each checkpoint with a training state, oldest first."""
        return [one for one in self.checkpoints() if (one[1] / "state.json").exists()]

    def resumable(self) -> tuple[int, Path] | None:
        """Return `(step, folder)` of the newest checkpoint with a training state; None without any."""
        found = self.states()
        return found[-1] if found else None

    def config(self, trust: code.Trust = False) -> RunConfig:
        """Read `config.yaml`; `trust` as for `settings`.

        Raises:
            UserError: as `settings`.
        """
        return RunConfig.from_dict(self.settings(trust)[0], str(self.config_file))

    def settings(self, trust: code.Trust = False) -> tuple[dict[str, Any], list[str]]:
        """Return what `config.yaml` holds, with the code it names where that is now, and what is to be said of that.

        Args:
            trust: which code outside the package may be imported (`code.refuse`).

        Raises:
            UserError: the file was spoilt, or the user has not agreed to the code.
        """
        return code.find(load_config_file(self.config_file), self.path, str(self.config_file), trust)

    def budget(self, params: AlgoConfig) -> AlgoConfig:
        """Return `params` with the steps that the run and its schedules had, as `config.yaml` says."""
        found = load_config_file(self.config_file)
        return params.model_copy(
            update={name: found[name] for name in ("total_timesteps", "schedule_total") if name in found}
        )

    def tidy(self) -> None:
        """Clear away what a killed process left half written."""
        for folder in (self.path, self.path / "checkpoints"):
            tidy(folder)

    def resume(self, config: RunConfig) -> None:
        """Note that the run goes on as `config` says, and so has no summary."""
        with disk("write", self.path):
            (self.path / "summary.json").unlink(missing_ok=True)
        self.append_command()
        self.write_config(config)

    def write_config(self, config: RunConfig) -> None:
        """Write `config.yaml`."""
        write_text(self.config_file, config.to_yaml())

    def append_command(self) -> None:
        """Add the running command line to `command.txt`."""
        file = self.path / "command.txt"
        # paths may be any bytes
        how: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
        with disk("write", file), file.open("a", **how) as stream:
            stream.write(typed(*sys.orig_argv) + "\n")

    def concluded(self) -> int | None:
        """Return the step at which the run was brought to its end; None if it was not, or was stopped before."""
        try:
            summary = read_json(self.path / "summary.json")
            return None if summary["interrupted"] else int(summary["steps"])
        except (UserError, ValueError, TypeError, KeyError, OverflowError):
            return None

    @property
    def ended(self) -> bool:
        """Whether the run has come to its end, or was stopped."""
        return (self.path / "summary.json").exists()

    def ask_for_models(self) -> None:
        """Let who trains here know that somebody watches; where nothing can be written, there are fewer models."""
        with suppress(OSError):
            (self.path / WATCHED).touch()

    @property
    def asked(self) -> bool:
        """Whether somebody watches the run learn."""
        try:
            return time.time() - (self.path / WATCHED).lstat().st_mtime < ASKED
        except OSError:
            return False

    def write_origin(self, origin: dict[str, Any]) -> None:
        """Write `origin.json`: what the run began with, or was made of."""
        self._write_json("origin.json", origin)

    def made_by(self) -> str | None:
        """Return what made the run, where that was no training that goes on: "distillation" or "pruning".

        Raises:
            UserError: the file that says so was spoilt.
        """
        file = self.path / "origin.json"
        how = read_json(file).get("how") if file.exists() else None
        return how if how in ("distillation", "pruning") else None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`."""
        self._write_json("summary.json", summary)

    def write_final_episodes(self, returns: list[float], lengths: list[int]) -> None:
        """Write `final_episodes.json`: the episodes that the summary's evaluation is made of."""
        self._write_json("final_episodes.json", {"returns": returns, "lengths": lengths})

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        write_text(self.path / name, json.dumps(content, indent=2) + "\n")


def refuse_other_bytes(path: Path) -> None:
    """Raise UserError for a path whose bytes are no text in UTF-8: what reads models opens no such file."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: this path is not UTF-8, and no model could be read from there: rename it") from error


def begun(run: Path) -> datetime:
    """Return the local time at which a run was begun: as its folder's name says, or else when that was last changed.

    Raises:
        UserError: the name says none, and the folder cannot be looked at.
    """
    try:
        return datetime.strptime(run.name.rpartition("__")[2][:15], STAMP)
    except ValueError:
        with disk("read", run):
            changed = run.lstat().st_mtime
        try:
            return datetime.fromtimestamp(changed)
        except (ValueError, OverflowError, OSError):  # a year that no calendar of Python's has
            return datetime.fromtimestamp(0)


def _new_folder(runs_dir: Path, config: RunConfig) -> Path:
    """Make a folder that was not there, named after a run and the time."""
    named = re.sub(r"[^\w.=+-]+", "-", config.name or "").strip("-.")
    parts = [env_label(config.env), label(config.algo), *([named] if named else []), f"s{config.seed}"]
    stem = "__".join([*parts, time.strftime(STAMP)])
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


def hint_of_sb3(path: Path) -> str:
    """Say, with a leading space, what can be done with a model of stable-baselines3's at a path; "" without one."""
    if not path.exists():
        file = path.with_name(f"{path.name}.zip")
        return f" Did you mean {file}?" if file.is_file() else ""
    if path.suffix != ".zip" or not path.is_file():
        return ""
    play = typed("python", "-m", "agents.evaluate", path, "--env", "ID", "--trust")
    return f" Models of stable-baselines3 are read by evaluate, watch and compare alone: {play}"


def run_of(folder: Path) -> Path:
    """Return the run that a folder with a model is part of, or the folder itself where it is part of none."""
    path = folder.resolve()
    return next((run for run in (path, *path.parents[:2]) if (run / "config.yaml").exists()), path)


def runs_in(runs_dir: Path) -> list[Path]:
    """Return the run folders in `runs_dir`, the one begun last at the end."""
    found = [file.parent for file in runs_dir.glob("[!.]*/config.yaml")]  # what is hidden is half written
    return sorted(found, key=lambda run: (begun(run), run.name))


def find_latest_run(runs_dir: Path) -> Path:
    """Return the run that was begun last.

    Raises:
        UserError: there is none in `runs_dir`.
    """
    runs = runs_in(runs_dir)
    if not runs:
        raise UserError(f"{runs_dir} holds no run. Train one: python -m agents.train --env CartPole-v1")
    return runs[-1]


@cache  # what runs is what was there as the process began
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
