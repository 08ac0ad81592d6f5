"""From what is asked of a comparison to its pairs of environment and algorithm, and to the runs that they need."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gymnasium import spaces

from agents.analysis.baselines import sb3_settings
from agents.analysis.comparison.job import Job, Kind
from agents.analysis.sb3_configs import load_sb3_config, sb3_config
from agents.experiment.config import ALGORITHMS, FLAGS, Layer, RunConfig, load_config_file, resolve
from envs.errors import UserError, did_you_mean
from envs.make import has_native, make_single

EVALUATIONS, CHECKPOINTS = 20, 10  # of each training


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a comparison.

    Attributes:
        against: "sb3" and files with other settings of ours.
        hyper: whether SB3 has its own tuned settings, or ours.
        seeds: how many, from 0 on.
        total_timesteps, eval_freq: environment steps; None to choose.
    """

    envs: Sequence[str]
    algos: Sequence[str]
    against: Sequence[str]
    hyper: Literal["tuned", "same"] = "tuned"
    seeds: int = 5
    total_timesteps: int | None = None
    eval_freq: int | None = None
    eval_episodes: int = 20
    final_eval_episodes: int = 100
    env_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """One side of a pair: what it is called, and what its runs do (see `Job`)."""

    label: str
    kind: Kind
    library: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """An environment and an algorithm, and all that is compared on them under the same conditions."""

    env: str
    env_kwargs: dict[str, Any]
    algo: str
    hyper: str
    vec: str
    budget: int
    eval_freq: int
    eval_episodes: int
    final_eval_episodes: int
    seeds: list[int]
    subjects: list[Subject]
    left_out: list[str]

    def jobs(self, seed: int) -> list[Job]:
        """Return the runs of a seed; who comes first changes from seed to seed."""
        turn = seed % len(self.subjects)
        return [
            Job(
                env=self.env,
                env_kwargs=self.env_kwargs,
                algo=self.algo,
                vec=self.vec,
                label=subject.label,
                kind=subject.kind,
                library=subject.library,
                seed=seed,
                settings=subject.settings,
                budget=self.budget,
                eval_freq=self.eval_freq,
                eval_episodes=self.eval_episodes,
                final_eval_episodes=self.final_eval_episodes,
            )
            for subject in (*self.subjects[turn:], *self.subjects[:turn])
        ]

    def document(self) -> dict[str, Any]:
        """Return what `comparison.json` says of it."""
        values = dataclasses.asdict(self)
        subjects = values.pop("subjects")
        return values | {
            "labels": [subject["label"] for subject in subjects],
            "settings": {subject["label"]: subject["settings"] for subject in subjects},
        }


def all_jobs(pairs: Sequence[Pair]) -> list[Job]:
    """Return every run: seed by seed, so that a comparison that is stopped has all of the first ones, side by side."""
    seeds = sorted({seed for pair in pairs for seed in pair.seeds})
    return [job for seed in seeds for pair in pairs if seed in pair.seeds for job in pair.jobs(seed)]


def make_pairs(request: Request) -> tuple[list[Pair], list[str]]:
    """Return the pairs, and a sentence for each that cannot be.

    Raises:
        UserError: an environment, an algorithm or a setting is not known, or nothing can be compared.
    """
    for algo in request.algos:
        if algo not in ALGORITHMS:
            raise UserError(
                f"--algos: {algo!r} given, {'|'.join(ALGORITHMS)} expected.{did_you_mean(algo, ALGORITHMS)}"
            )
    pairs, impossible = [], []
    for env in dict.fromkeys(request.envs):
        with closing(make_single(env, env_kwargs=request.env_kwargs)) as one:
            discrete = isinstance(one.action_space, spaces.Discrete)
        for algo in dict.fromkeys(request.algos):
            if algo == "dqn" and not discrete:
                impossible.append(f"DQN has no part in {env}, whose actions are not Discrete")
            else:
                pairs.append(_pair(env, algo, request))
    if not pairs:
        raise UserError(f"nothing to compare: {'; '.join(impossible) or 'name environments with --env'}.")
    return pairs, impossible


def _pair(env: str, algo: str, request: Request) -> Pair:
    asked: dict[str, Any] = {"env": env, "algo": algo}
    if request.env_kwargs:
        asked["env_kwargs"] = request.env_kwargs
    packaged = resolve([Layer(FLAGS, asked)])
    budget, tuned = packaged.params.total_timesteps, sb3_config(algo, env)
    if tuned is not None and request.hyper == "tuned":
        budget = load_sb3_config(tuned, algo)[1]
    budget = request.total_timesteps or budget
    vec = "native" if has_native(env) else "sync"
    protocol = {
        "eval_freq": request.eval_freq or max(budget // EVALUATIONS, 1),
        "eval_episodes": request.eval_episodes,
        "final_eval_episodes": request.final_eval_episodes,
    }
    over = asked | protocol | {"env_kwargs": packaged.env_kwargs, "vec": vec, "device": "cpu", "target_reward": None}
    over |= {"total_timesteps": budget, "save_freq": max(budget // CHECKPOINTS, 1)}
    ours = resolve([Layer(FLAGS, over)])
    subjects, left_out = [Subject("ours", "ours", "ours", _plain(ours))], []
    for name in dict.fromkeys(request.against):
        if name == "sb3":
            settings, missing = _sb3(ours, tuned, request.hyper)
            subjects.append(Subject("sb3", "sb3", "sb3", settings))
            left_out += missing
        else:
            subjects.append(_other(Path(name), over))
    labels = [subject.label for subject in subjects]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UserError(f"--against: two would be called {min(twice)!r}; rename one of the files.")
    return Pair(
        env=env,
        env_kwargs=packaged.env_kwargs,
        algo=algo,
        hyper=request.hyper,
        vec=vec,
        budget=budget,
        seeds=list(range(request.seeds)),
        subjects=subjects,
        left_out=left_out,
        **protocol,
    )


def _plain(config: RunConfig) -> dict[str, Any]:
    """Return all settings but the seed, as JSON has them."""
    return {name: value for name, value in config.model_dump(mode="json").items() if name != "seed"}


def _sb3(ours: RunConfig, tuned: Path | None, hyper: str) -> tuple[dict[str, Any], list[str]]:
    """Return SB3's settings, and what of ours, or of tuning, they lack."""
    if hyper == "same":
        settings, missing = sb3_settings(ours.params)
        return settings, missing
    if tuned is not None:
        return load_sb3_config(tuned, ours.algo)[0], []
    defaults: dict[str, Any] = {"algo": ours.algo, "n_envs": 1, "hyperparameters": {}, "normalize": None}
    return defaults, [f"tuned settings of stable-baselines3 for {ours.env}: it has its defaults"]


def _other(path: Path, over: dict[str, Any]) -> Subject:
    """Return another configuration of ours, of which everything counts but budget, protocol, environment and place."""
    if path.suffix not in (".yaml", ".yml"):
        near = did_you_mean(str(path), ["sb3"])
        raise UserError(f"--against: {str(path)!r} given, 'sb3' or a YAML file expected.{near}")
    values = load_config_file(path)
    for name in ("env", "algo"):
        if values.get(name, over[name]) != over[name]:
            raise UserError(f"{path}: {name} is {values[name]!r}, but it is to be compared on {over[name]!r}")
    config = resolve([Layer(str(path), values), Layer(FLAGS, over)])
    return Subject(re.sub(r"[^\w.-]+", "-", path.stem), "ours", "ours", _plain(config))
