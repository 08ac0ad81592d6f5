"""Runs and models that are there already, as the sides of a comparison: nothing is trained anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from agents.lab.comparison.curves import RunKey, RunResult, read_evaluations
from agents.lab.comparison.results import Reference, Results, StoredDocument, StoredTask
from agents.lab.sb3_policy import load_sb3
from agents.run.code import absolute
from agents.run.folder import RunFolder, versions
from agents.run.models import LoadedPolicy, load_policy
from agents.run.play import PARALLEL, frames_per_second, play, policy_env, stage
from agents.run.registry import label as algorithm_label
from agents.run.storage import read_json
from agents.run.terminal import typed
from agents.run.video import Frame, write_video
from envs.errors import UserError
from envs.make import make, reward_threshold
from envs.seeding import derive_seed

IGNORED = ("seed", "name", "device", "vec", "compile", "total_timesteps", "eval_freq", "save_freq", "target_reward")
LONGEST = 60  # characters of a side's label
MOST_SIDES = 4  # beside one another in a video
MOST_FRAMES = 1_000  # of that video


@dataclass(frozen=True, slots=True)
class Existing:
    """A run of ours or a model of SB3's.

    Attributes:
        path: as it was given.
        env, algo, seed: what was trained on what; SB3's have seed 0.
        settings: what tells sides apart.
        result: its curve and score; its key is not the side's yet.
        policy: what plays in the video.
    """

    path: Path
    env: str
    algo: str
    seed: int
    name: str | None
    settings: dict[str, Any]
    result: RunResult
    policy: Any


def read_run(path: Path) -> Existing:
    """Read a finished run of ours.

    Raises:
        UserError: it is no run, it has not come to its end, or a file of it is torn.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    if folder.concluded() is None:
        raise UserError(f"{path} has not come to its end: go on with python -m agents.train --resume {path}")
    reached, episodes = read_json(path / "summary.json"), read_json(path / "final_episodes.json")
    try:
        final = np.array(episodes["returns"], np.float64)
        figures = {"steps": float(reached["steps"]), "train_seconds": float(reached["train_s"])}
        figures["steps_per_s"] = figures["steps"] / max(figures["train_seconds"], 1e-9)
        if final.ndim != 1 or not final.size or not np.isfinite([*final, *figures.values()]).all():
            raise ValueError("numbers expected")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its summary or its final episodes are damaged ({error})") from error
    settings = {key: value for key, value in config.model_dump(mode="json").items() if key not in IGNORED}
    key = RunKey(config.env, config.algo, "", config.seed)
    result = RunResult(key, *read_evaluations(path / "evaluations.csv"), final, figures)
    loaded = load_policy(path)
    return Existing(path, config.env, config.algo, config.seed, config.name, settings, result, loaded)


def read_sb3(path: Path, env: str | None, episodes: int, *, trust: bool, vec_normalize: Path | None) -> Existing:
    """Load a model of SB3's, and play it in `env`: its file holds no scores.

    Raises:
        UserError: it is not trusted, there is no `env`, or it does not fit.
    """
    from agents.acting.evaluation import evaluate

    if env is None:
        raise UserError(f"{path} does not say which environment it learnt: add --env, or a run of ours beside it")
    policy = load_sb3(path, None, trust=trust, vec_normalize=vec_normalize)
    with closing(make(env, min(PARALLEL, episodes))) as made:
        policy.refuse_unfit(made, env)
        final = evaluate(made, policy, episodes, derive_seed(0, "evaluate"))
    nothing = np.empty(0)
    algo = policy.algo
    key = RunKey(env, algo, "", 0)
    result = RunResult(key, nothing, nothing, nothing, final.returns, {"steps": float(policy.step)})
    return Existing(path, env, algo, 0, None, {"model": path.name, "algo": f"sb3 {algo}"}, result, policy)


def read_all(
    paths: Sequence[Path], env: str | None, episodes: int, *, trust: bool, vec_normalize: Path | None
) -> list[Existing]:
    """Read run folders and `.zip` models; these play in `env`, or in the environment of the runs beside them.

    Raises:
        UserError: one of them cannot be compared; the message says which, and why.
    """
    runs = {path: read_run(path) for path in paths if path.suffix != ".zip"}
    envs = list(dict.fromkeys(run.env for run in runs.values()))
    env = absolute("env", env) or (envs[0] if len(envs) == 1 else None)
    found = [
        runs[path] if path in runs else read_sb3(path, env, episodes, trust=trust, vec_normalize=vec_normalize)
        for path in dict.fromkeys(paths)
    ]
    wanted = [run for run in found if env is None or run.env == env]
    if not wanted:
        raise UserError(f"none of these runs is on {env}; they are on {', '.join(envs)}")
    return wanted


def as_results(runs: Sequence[Existing], command: str) -> tuple[Results, dict[str, list[Existing]]]:
    """Put runs that differ in their seeds alone into one side each; return what a report reads, and the sides."""
    sides: dict[str, list[Existing]] = {}
    for run in runs:
        sides.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    groups = list(sides.values())
    differing = _differing([group[0].settings for group in groups])
    labels: dict[str, list[Existing]] = {}
    for group in groups:
        name = _label(group, differing)
        while name in labels:
            name += "'"
        labels[name] = group
    results, pairs = [], []
    for env in dict.fromkeys(run.env for run in runs):
        here = {name: group for name, group in labels.items() if group[0].env == env}
        algo = next(iter(here.values()))[0].algo  # the sides of one environment are one task, whoever trained
        settings = {
            name: {key: group[0].settings[key] for key in differing if key in group[0].settings}
            for name, group in here.items()
        }
        seeds = sorted({run.seed for group in here.values() for run in group})
        budget = max(int(run.result.figures["steps"]) for group in here.values() for run in group)
        task = StoredTask(
            env=env,
            algo=algo,
            hyper="as trained",
            labels=list(here),
            budget=budget,
            eval_freq=0,
            eval_episodes=0,
            final_eval_episodes=0,
            seeds=seeds,
            settings=settings,
        )
        pairs.append(task)
        for name, group in here.items():
            for run in group:
                old = run.result
                key = RunKey(env, algo, name, run.seed)
                results.append(
                    RunResult(key, old.steps, old.returns, old.seconds, old.final, old.figures, str(run.path))
                )
    document = StoredDocument(
        pairs=pairs,
        references={env: Reference(threshold=reward_threshold(env)) for env in {run.env for run in runs}},
        commands=[command],
        versions=versions(),
    )
    found = Results(Path(), document, results, unfinished=[], failures=[], imported=[], as_they_are=True)
    return found, labels


def _differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for one in settings for name in one))
    return [name for name in names if any(one.get(name) != settings[0].get(name) for one in settings[1:])]


def _label(group: Sequence[Existing], differing: Sequence[str]) -> str:
    """Name a side by the runs' own name, else by the few settings that tell it from others, else by its folder."""
    first = group[0]
    if first.path.suffix == ".zip":
        return f"SB3 {first.path.stem}"
    names = {run.name for run in group}
    if len(names) == 1 and first.name is not None:
        return first.name
    told = [name for name in differing if name in first.settings and name != "env"]
    text = ", ".join(
        algorithm_label(first.algo) if name == "algo" else f"{name} {_short(first.settings[name])}" for name in told
    )
    return text if told and len(text) <= LONGEST else first.path.name if differing else algorithm_label(first.algo)


def _short(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def side_by_side(sides: dict[str, list[Existing]], path: Path, seed: int = 0) -> Path | None:
    """Write a video of one episode of the best run of each side, all begun from the same seed, beside one another.

    Returns:
        The file; None where the environment cannot be drawn, or the sides are not on one environment.
    """
    chosen = [max(group, key=lambda run: run.result.score) for group in list(sides.values())[:MOST_SIDES]]
    if len({run.env for run in chosen}) > 1:
        return None
    with ExitStack() as stack:
        players = []
        for run in chosen:
            try:
                env = stack.enter_context(closing(_rendered(run)))
                policy = run.policy.policy if isinstance(run.policy, LoadedPolicy) else run.policy
                players.append(_frames(env, policy, derive_seed(seed, "recording")))
            except UserError:
                return None
        try:
            write_video(path, _beside(players), frames_per_second(chosen[0].env))
        except UserError:
            return None
    return path


def _rendered(run: Existing) -> Any:
    if isinstance(run.policy, LoadedPolicy):
        return policy_env(run.policy, render=True)
    return stage(run.env, vec="sync", render=True)


def _frames(env: Any, policy: Any, seed: int) -> Iterator[Frame]:
    for moment in play(env, policy, seed):
        if moment.step > MOST_FRAMES:
            return
        assert moment.frame is not None
        yield moment.frame


def _beside(players: Sequence[Iterator[Frame]]) -> Iterator[Frame]:
    """Put frames side by side; who has ended stands still on the last one."""
    last: list[Frame | None] = [None] * len(players)
    for frames in zip_longest(*players):
        last = [new if new is not None else old for new, old in zip(frames, last, strict=True)]
        shown = [frame for frame in last if frame is not None]
        height = max(frame.shape[0] for frame in shown)
        padded = [np.pad(frame, ((0, height - frame.shape[0]), (0, 4), (0, 0))) for frame in shown]
        yield np.concatenate(padded, axis=1)


def command_line(argv: Sequence[str]) -> str:
    """Return the command as it was typed."""
    return typed("python", "-m", "agents.compare", *argv)
