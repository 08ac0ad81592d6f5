"""Comparison folders that nobody trained: curves from a formula, noise from a generator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.locate import env_label

ENVS = {  # mean return of random actions, registered threshold, highest return, budget
    "CartPole-v1": (22.0, 475.0, 500.0, 50_000),
    "Acrobot-v1": (-498.0, -100.0, -70.0, 100_000),
    "MountainCar-v0": (-200.0, -110.0, -95.0, 120_000),
    "LunarLander-v3": (-180.0, 200.0, 290.0, 1_000_000),
    "Pendulum-v1": (-1220.0, None, -130.0, 200_000),
    "BipedalWalker-v3": (-100.0, 300.0, 320.0, 5_000_000),
}
TWO_SIDES = {"ours": (0.97, 9_000.0), "sb3": (0.7, 3_000.0)}
CURVES = """\
env,algo,library,seed,step,return,time
CartPole-v1,PPO,rllib,0,10000,180.5,
CartPole-v1,PPO,rllib,0,20000,410,
CartPole-v1,PPO,rllib,1,10000,210,
CartPole-v1,PPO,rllib,1,20000,390.25,
"""


def result(env: str, algo: str, label: str, seed: int, **changed: Any) -> dict[str, Any]:
    """Return a `result.json` as it would be stored."""
    return {
        "env": env,
        "algo": algo,
        "label": label,
        "library": "sb3" if label == "sb3" else "ours",
        "seed": seed,
        "steps": 10_000,
        "train_seconds": 4.0,
        "steps_per_s": 2_500.0,
        "total_seconds": 9.0,
        "peak_mb": 350.0 if label == "sb3" else 250.0,
        "returns": [10.0, 20.0],
        "lengths": [10, 20],
        "command": f"python -m agents.train --env {env} --algo {algo} --seed {seed}",
        "versions": {},
        "at": "2026-11-22T09:00:00+00:00",
    } | changed


def write_run(out: Path, stored: Mapping[str, Any], curve: Sequence[tuple[float, float, float]] = ()) -> Path:
    """Write a finished run with (step, return, seconds) of its evaluations; return its folder."""
    name = f"{env_label(stored['env'])}__{stored['algo']}__s{stored['seed']}"
    folder = out / "runs" / stored["label"] / name
    folder.mkdir(parents=True)
    rows = ["step,eval/mean_reward,eval/std_reward,eval/mean_ep_length,time/time_elapsed"]
    rows += [f"{int(step)},{value!r},1.0,100.0,{seconds!r}" for step, value, seconds in curve]
    (folder / "evaluations.csv").write_text("\n".join(rows) + "\n")
    (folder / "result.json").write_text(json.dumps(stored))
    return folder


def learn(out: Path, env: str, algo: str, label: str, seed: int, skill: float, speed: float) -> None:
    """Write a run that ends about `skill` of the way from random play to the highest return."""
    zero, _, top, budget = ENVS.get(env, (0.0, 90.0, 100.0, 10_000))
    rng = np.random.default_rng([*f"{env} {algo} {label}".encode(), seed])
    reach, delay, rate = skill + 0.04 * rng.normal(), 0.35 + 0.08 * rng.normal(), speed * (1 + 0.05 * rng.normal())
    steps = np.arange(1, 21) * budget // 20
    part = reach / (1 + np.exp(-12 * (steps / budget - delay))) + 0.03 * rng.normal(size=20)
    returns = np.minimum(zero + (top - zero) * part, top)
    final = np.minimum(zero + (top - zero) * (reach + 0.05 * rng.normal(size=100)), top)
    costs = {"train_seconds": budget / rate, "steps_per_s": rate, "total_seconds": 1.2 * budget / rate + 3}
    stored = result(env, algo, label, seed, steps=budget, returns=final.tolist(), **costs)
    write_run(out, stored, list(zip(steps.tolist(), returns.tolist(), (steps / rate).tolist(), strict=True)))


def document(tasks: Sequence[tuple[str, str]], labels: Sequence[str], seeds: int, **changed: Any) -> dict[str, Any]:
    """Return a `comparison.json` that asks for `seeds` of each label on each task."""
    pairs = [
        {
            "env": env,
            "algo": algo,
            "hyper": "tuned",
            "labels": list(labels),
            "budget": ENVS.get(env, (0, 0, 0, 10_000))[3],
            "eval_freq": ENVS.get(env, (0, 0, 0, 10_000))[3] // 20,
            "eval_episodes": 20,
            "final_eval_episodes": 100,
            "seeds": list(range(seeds)),
            "left_out": ["shared_torso"] if algo == "ppo" else [],
            "settings": {label: {"learning_rate": "lin_3e-4", "n_envs": 8, "net_arch": [64, 64]} for label in labels},
        }
        for env, algo in tasks
    ]
    known = {env: ENVS.get(env, (0.0, 90.0))[:2] for env, _ in tasks}
    return {
        "format": "deep-rl-suite comparison",
        "version": 1,
        "pairs": pairs,
        "references": {env: {"random": random, "threshold": goal} for env, (random, goal) in known.items()},
        "failures": [],
        "commands": [f"python -m agents.compare --env {' '.join(known)} --seeds {seeds}"],
        "machine": {"cpu": "A processor", "cores": 2, "usable": 2, "memory_gb": 8.0, "load": 0.5},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "stable-baselines3": "2.9.2", "git": None},
    } | changed


def write_comparison(
    out: Path,
    tasks: Sequence[tuple[str, str]] = (("CartPole-v1", "ppo"),),
    labels: Mapping[str, tuple[float, float]] = TWO_SIDES,
    seeds: int = 5,
    **changed: Any,
) -> Path:
    """Write a comparison with all its runs: `labels` -> (skill, steps per second); `changed` in its document."""
    out.mkdir(parents=True, exist_ok=True)
    for env, algo in tasks:
        for label, (skill, speed) in labels.items():
            for seed in range(seeds):
                learn(out, env, algo, label, seed, skill, speed)
    (out / "comparison.json").write_text(json.dumps(document(tasks, list(labels), seeds, **changed)))
    return out
