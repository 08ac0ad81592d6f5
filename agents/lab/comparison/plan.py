"""From what is asked of a comparison to its pairs of environment and algorithm, and to the runs that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gymnasium import spaces

from agents.lab.comparison.job import Job
from agents.lab.comparison.subjects import (
    Subject,
    label_of,
    model_subject,
    other_subject,
    our_subject,
    sb3_subject,
)
from agents.lab.sb3_configs import load_sb3_config, sb3_config
from agents.run.config import ALGORITHMS, FLAGS, Layer, resolve
from envs.errors import UserError, did_you_mean
from envs.make import has_native, make_single

EVALUATIONS, CHECKPOINTS = 20, 10  # of each training


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a comparison.

    Attributes:
        against: "sb3", files with other settings of ours, runs of ours, and models of SB3's (`.zip`).
        hyper: whether SB3 has its own tuned settings, or ours.
        seeds: how many, from 0 on.
        total_timesteps, eval_freq: environment steps; None to choose.
        trust: whether code that comes with SB3's models may be run.
        vec_normalize: statistics that go with them.
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
    trust: bool = False
    vec_normalize: Path | None = None


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
        raise UserError(f"nothing to compare: {'; '.join(impossible)}.")
    for name in request.against:
        path = Path(name)
        if name != "sb3" and all(subject.label != label_of(path) for pair in pairs for subject in pair.subjects):
            raise UserError(f"--against: {name} fits none of the pairs: it is of another environment or algorithm.")
    return pairs, impossible


def _pair(env: str, algo: str, request: Request) -> Pair:
    asked: dict[str, Any] = {"env": env, "algo": algo}
    if request.env_kwargs:
        asked["env_kwargs"] = request.env_kwargs
    packaged = resolve([Layer(FLAGS, asked)])
    budget, tuned = packaged.params.total_timesteps, sb3_config(algo, env)
    if tuned is not None and request.hyper == "tuned":
        _, budget = load_sb3_config(tuned, algo)
    budget = request.total_timesteps or budget
    if request.eval_freq is not None and request.eval_freq > budget:
        raise UserError(
            f"--eval-freq: {request.eval_freq:,} given, but {algo} trains on {env} for {budget:,} steps: at most that."
        )
    vec = "native" if has_native(env) else "sync"  # as SB3 steps them, and what goes on bit for bit
    protocol = {
        "eval_freq": request.eval_freq or max(budget // EVALUATIONS, 1),
        "eval_episodes": request.eval_episodes,
        "final_eval_episodes": request.final_eval_episodes,
    }
    over = asked | protocol | {"env_kwargs": packaged.env_kwargs, "vec": vec, "device": "cpu", "target_reward": None}
    over |= {"total_timesteps": budget, "save_freq": max(budget // CHECKPOINTS, 1)}
    subjects, left_out = _subjects(request, over)
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


def _subjects(request: Request, over: dict[str, Any]) -> tuple[list[Subject], list[str]]:
    """Return who takes part under the conditions `over`, and what SB3 goes without."""
    ours = resolve([Layer(FLAGS, over)])
    subjects, left_out = [our_subject(ours)], list[str]()
    for name in dict.fromkeys(request.against):
        if name == "sb3":
            subject, left_out = sb3_subject(ours, request.hyper)
        elif name.endswith((".yaml", ".yml")):
            subject = other_subject(Path(name), over)
        else:
            found = model_subject(
                Path(name), ours.env, ours.algo, trust=request.trust, vec_normalize=request.vec_normalize
            )
            if found is None:
                continue
            subject = found
        if subject.label in [other.label for other in subjects]:
            raise UserError(f"--against: {name} would be called {subject.label!r}, as another is; rename it.")
        subjects.append(subject)
    return subjects, left_out
