"""Run folders of ours and models that SB3 saved, read to be compared, and the sides that they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison.options import Options
from agents.lab.comparison.report import settings_table
from agents.lab.sb3_settings import SHARED
from agents.lab.stored import read_stored
from agents.lab.words import printable
from agents.run import code
from agents.run.config import RunConfig
from agents.run.flags import is_sb3, parse_env_kwargs, refuse_idle
from agents.run.registry import find, names, title_of
from envs.errors import UserError

NO_DIFFERENCE = (  # settings that tell no sides apart: they do not change what is learnt
    *("seed", "name", "device", "compile", "eval_freq", "eval_share", "eval_episodes", "final_eval_episodes"),
    *("save_freq", "video_freq", "record_every", "histogram_freq", "one_instance", "metrics", "action_names"),
    "observation_names",
)
ROUNDING = ("auto", "float32", "tf32")  # of `precision`, which is the device's choice but for bfloat16
SHORT = 60  # letters of a side's name, where there is a choice
NONE = np.empty(0)


@dataclass(frozen=True)
class Entry:
    """A run folder of ours, or a model of SB3's.

    Attributes:
        name: what it was called, or "".
        settings: what tells sides apart, as far as it is known without running code.
        curve: steps, mean returns and seconds of its evaluations; empty for a model of SB3's. Seconds are nan where
            they are not those of all its steps.
        first_step: the step that its folder began at.
        best: the highest of them.
        final: returns of its own final evaluation; empty where there is none.
        fresh: these were played for this comparison instead.
        figures: as `RunResult` has them.
    """

    path: Path
    env: str
    env_kwargs: dict[str, Any]
    algo: str
    seed: int
    name: str
    settings: dict[str, Any]
    curve: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] = (NONE, NONE, NONE)
    first_step: int = 0
    best: float = -np.inf
    final: NDArray[np.float64] = field(default_factory=lambda: NONE)
    fresh: bool = False
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def sb3(self) -> bool:
        return is_sb3(self.path)

    @property
    def place(self) -> str:
        """The environment with its arguments and its wrappers."""
        around = self.settings.get("wrappers") or ()
        given = ", ".join([*(f"{key}={value}" for key, value in sorted(self.env_kwargs.items())), *map(str, around)])
        return f"{self.env} ({given})" if given else self.env


def read_entries(options: Options) -> tuple[list[Entry], dict[Path, str]]:
    """Return what can be compared, each once, and why the rest cannot.

    Raises:
        UserError: a path does not exist, a model of SB3's is not trusted or lacks its environment, or a flag is for
            such models and there is none.
    """
    paths = {path.resolve(): path for given in options.runs for path in _expanded(given)}
    entries, left_out = dict[Path, Entry](), dict[Path, str]()
    for path in paths.values():
        if not path.exists():
            raise UserError(f"{path} does not exist. Run folders and models of stable-baselines3 (.zip) are compared.")
        if not is_sb3(path):
            try:
                entries[path] = _our_entry(path, options.trust)
            except UserError as error:
                left_out[path] = without_path(error, path)
    models = [path for path in paths.values() if is_sb3(path)]
    if not models:
        refuse_idle(options, "it goes with a MODEL.zip of stable-baselines3", "env", "env_kwargs", "vec_normalize")
    envs = {entry.place: (entry.env, entry.env_kwargs) for entry in entries.values()}
    entries |= {path: _sb3_entry(path, options, list(envs.values())) for path in models}
    return [entries[path] for path in paths.values() if path in entries], left_out


def without_path(error: UserError, path: Path) -> str:
    """Return what an error says of a path, in short."""
    said = str(error).partition(" A run holds")[0]
    return printable(said.removeprefix(str(path)).lstrip(" :/"))


def _expanded(path: Path) -> list[Path]:
    """Return what a pattern such as runs/* means where the shell has left it as it is."""
    if "*" not in path.name or path.exists():
        return [path]
    return sorted(path.parent.glob(path.name)) or [path]


def _our_entry(path: Path, trust: bool) -> Entry:
    run = read_stored(path)
    settings, _ = code.find(run.settings, path, str(path / "config.yaml"), trust)
    with suppress(UserError):  # with the defaults of settings that are newer than the run
        settings = RunConfig.from_dict(settings, str(path / "config.yaml")).model_dump(mode="json")
    figures = {"steps": float(run.steps)}
    if run.train_seconds > 0:
        figures["steps_per_s"] = (run.steps - run.first_step) / run.train_seconds
    if run.train_seconds > 0 and not run.first_step:
        figures["train_seconds"] = run.train_seconds
    steps, returns, seconds = run.curve
    best = -np.inf if run.best is None else run.best
    return Entry(
        path=path,
        env=settings["env"],
        env_kwargs=run.env_kwargs,
        algo=settings["algo"],
        seed=run.seed,
        name=run.name,
        settings={name: value for name, value in settings.items() if _tells(name, value)},
        curve=(steps, returns, seconds * np.nan if run.first_step else seconds),
        first_step=run.first_step,
        best=best,
        final=run.final_returns(),
        figures=figures,
    )


def _tells(name: str, value: Any) -> bool:
    """Whether a setting tells sides apart."""
    return name not in NO_DIFFERENCE and not (name == "precision" and value in ROUNDING)


def _sb3_entry(path: Path, options: Options, envs: Sequence[tuple[str, dict[str, Any]]]) -> Entry:
    """Describe a model that learnt in the environment that `options` says, or else in the one of the runs."""
    from agents.lab.sb3_policy import refuse_untrusted, sb3_algo, sb3_data

    refuse_untrusted(path, options.trust)
    if len(options.env or envs) != 1:
        raise UserError(f"{path} does not say which environment it learnt: add --env, as in --env CartPole-v1")
    env, kwargs = (options.env[0], {}) if options.env else envs[0]
    data, algo = sb3_data(path), sb3_algo(path)
    steps, seed = data.get("num_timesteps"), data.get("seed")
    alike = find(algo).config.flat_fields() if algo in names() else SHARED  # what it calls as we do
    settings = {"algo": algo, **{name: data[name] for name in alike if isinstance(data.get(name), int | float)}}
    kwargs = kwargs | parse_env_kwargs(options.env_kwargs)
    seed = seed if isinstance(seed, int) else 0
    figures = {"steps": float(steps)} if isinstance(steps, int) else {}
    name = f"{path.stem} (SB3 {title_of(algo)})"
    return Entry(path, env, kwargs, algo, seed, name, settings, figures=figures)


def sides_of(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return label -> its runs: those of the same settings, whose seeds differ.

    A seed that is there again is another side: the same training, done twice.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        settings = json.dumps(entry.settings, sort_keys=True, default=str)
        key: tuple[Any, ...] = (entry.path,) if entry.sb3 else (settings,)
        again = 0
        while any(other.seed == entry.seed for other in groups.get((*key, again), ())):
            again += 1
        groups.setdefault((*key, again), []).append(entry)
    return dict(zip(_labels(list(groups.values())), groups.values(), strict=True))


def _labels(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """Name sides by the first of these that tells them apart: given names or algorithms, settings, folders, paths."""
    differing = settings_table({str(i): group[0].settings for i, group in enumerate(groups)}, differing=True).rows
    named = [(group[0].name, title_of(group[0].algo), group) for group in groups]
    ways: list[list[str]] = [
        [(name if len({entry.name for entry in group}) == 1 else "") or algorithm for name, algorithm, group in named],
        [", ".join(f"{row[0]}={row[i + 1]}" for row in differing) for i in range(len(groups))],
        [group[0].path.name for group in groups],
    ]
    for way in ways:
        if all(way) and len(set(way)) == len(way) and max(map(len, way)) <= SHORT:
            return [printable(label) for label in way]
    return [printable(f"{i}: {group[0].path}")[:200] for i, group in enumerate(groups, 1)]
