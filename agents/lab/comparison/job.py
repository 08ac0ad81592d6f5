"""One run of a comparison: what determines it, where it lies, and whether it is done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.lab.comparison.curves import RunResult
from agents.lab.comparison.results import read_run
from agents.run.config import FLAGS, Layer, resolve
from agents.run.storage import disk, read_json, write_text
from agents.run.yaml_files import load_config_file
from envs.errors import UserError
from envs.locate import env_label

JOB_FILE, RESULT_FILE, ERRORS_FILE = "job.json", "result.json", "errors.txt"


@dataclass(frozen=True)
class Task:
    """An environment and an algorithm, and the conditions under which all sides learn and are evaluated.

    Attributes:
        vec: the backend of the evaluation environments, and of ours in training: "native" or "sync".
        budget, eval_freq: environment steps.
        eval_episodes, final_eval_episodes: of the evaluations during the training, and of the one after it.
    """

    env: str
    env_kwargs: dict[str, Any]
    algo: str
    vec: str
    budget: int
    eval_freq: int
    eval_episodes: int
    final_eval_episodes: int


@dataclass(frozen=True)
class Side:
    """What is compared on a task: our training, SB3's, or the evaluation of a model that is there already.

    Attributes:
        label: "ours", "sb3", or the name of another configuration or model.
        library: whose algorithm it is: "ours" or "sb3".
        settings: of ours all but the seed; of SB3 the arguments of `baselines.make_sb3`; of a model its files.
    """

    label: str
    kind: Literal["ours", "sb3", "model"]
    library: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Job(Side, Task):
    """All that determines a run, and nothing else: not the threads, the versions or the place."""

    seed: int

    def folder(self, out: Path) -> Path:
        """Return where the run lies in the comparison `out`.

        Names of two tasks may be alike, as those of `a/env.py:Grid` and `b/env.py:Grid` are: whoever comes second has
        a folder with a digest of the task in its name.
        """
        name = f"{env_label(self.env)}__{env_label(self.algo)}__s{self.seed}"
        plain = out / "runs" / self.label / name
        own = plain.with_name(f"{name}__{digest(self.env, self.algo)}")
        if (own / JOB_FILE).exists():
            return own
        there = Job.load(plain) if (plain / JOB_FILE).exists() else self
        return plain if (there.env, there.algo) == (self.env, self.algo) else own

    def save(self, folder: Path) -> None:
        """Write `job.json` into `folder`, which is made if need be.

        Raises:
            UserError: it cannot be written.
        """
        with disk("create", folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / JOB_FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Read what `save` wrote.

        Raises:
            UserError: it is not there, or not as `save` wrote it.
        """
        try:
            return cls(**read_json(folder / JOB_FILE))
        except TypeError as error:
            raise UserError(f"{folder / JOB_FILE} is malformed: {error}") from error

    def is_done(self, folder: Path) -> bool:
        """Whether `folder` holds this run's result.

        Raises:
            UserError: the folder holds another run; the message names what differs.
        """
        if not (folder / JOB_FILE).exists():
            return False
        if found := list(differences(vars(Job.load(folder)), vars(self))):
            raise UserError(
                f"{folder} holds another run: {'; '.join(found[:4])}{'; ...' if len(found) > 4 else ''}. "
                "Choose another --out for this comparison, or delete that folder to train the run anew."
            )
        return finished_run(folder) is not None and self.trained_in(folder)

    def trained_in(self, folder: Path) -> bool:
        """Whether a training of ours that `folder` holds, if it holds one, is this one by its own settings."""
        file = folder / "config.yaml"
        if self.kind != "ours" or not file.exists():
            return True
        try:
            found = load_config_file(file)
        except UserError:
            return False
        own = {**self.settings, "seed": self.seed}
        return all(found.get(name) == own[name] for name in ("env", "env_kwargs", "algo", "seed"))


def digest(*names: str) -> str:
    """Return a few letters that tell these names from others."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]


def finished_run(folder: Path) -> RunResult | None:
    """Return the result of a finished run; None if it is not finished, or a file of it is torn."""
    try:
        return read_run(folder)
    except UserError:
        return None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield "name: old, now new" for each setting that differs; one that is new since then may have its default."""
    before, after = dict(_flat(old)), dict(_flat(new))
    added = {name for name in after.keys() - before.keys() if name.startswith("settings.")}
    if added and new["kind"] == "ours":
        defaults = resolve([Layer(FLAGS, {name: new[name] for name in ("env", "algo")})], packaged=False)
        known = dict(_flat(defaults.model_dump(mode="json"), "settings."))
        after = {name: value for name, value in after.items() if name not in added or known.get(name, ()) != value}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name} is {before.get(name)!r} there, {after.get(name)!r} here"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings under dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
