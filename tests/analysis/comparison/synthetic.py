"""Comparison folders that nobody trained: curves from a formula, scores from a generator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ENVS = {  # random play, threshold, highest return, budget
    "CartPole-v1": (22.0, 475.0, 500.0, 50_000),
    "Acrobot-v1": (-498.0, -100.0, -70.0, 100_000),
    "MountainCar-v0": (-200.0, -110.0, -95.0, 120_000),
    "LunarLander-v3": (-180.0, 200.0, 290.0, 1_000_000),
    "Pendulum-v1": (-1220.0, None, -130.0, 200_000),
    "BipedalWalker-v3": (-100.0, 300.0, 320.0, 5_000_000),
}


def write_run(
    folder: Path, env: str, algo: str, label: str, seed: int, *, skill: float, speed: float, budget: int | None = None
) -> None:
    """Write a finished run that ends at about `skill` of the way from random play to the highest return."""
    zero, _, top, usual = ENVS.get(env, (0.0, 90.0, 100.0, 10_000))
    budget = budget or usual
    rng = np.random.default_rng([*f"{env} {algo} {label}".encode(), seed])
    steps = np.arange(1, 21) * budget // 20
    reach = skill + 0.06 * rng.normal()
    part = reach / (1 + np.exp(-12 * (steps / budget - 0.35 - 0.08 * rng.normal())))
    returns = np.minimum(zero + (top - zero) * part + 0.03 * (top - zero) * rng.normal(size=20), top)
    final = np.minimum(zero + (top - zero) * reach + 0.05 * (top - zero) * rng.normal(size=100), top)
    rate = speed * (1 + 0.05 * rng.normal())
    name = f"{env.replace('/', '-')}__{algo}__s{seed}"
    place = folder / "runs" / label / name
    place.mkdir(parents=True)
    rows = ["step,eval/mean_reward,eval/std_reward,eval/mean_ep_length,time/time_elapsed"]
    rows += [
        f"{step},{value!r},1.0,100.0,{float(step / rate)!r}"
        for step, value in zip(steps, map(float, returns), strict=True)
    ]
    (place / "evaluations.csv").write_text("\n".join(rows) + "\n")
    result = {
        "env": env,
        "algo": algo,
        "label": label,
        "library": label if label in ("ours", "sb3") else "ours",
        "seed": seed,
        "steps": budget,
        "train_seconds": budget / rate,
        "steps_per_s": rate,
        "total_seconds": budget / rate * 1.2 + 3,
        "peak_mb": 250 + 100 * (label == "sb3") + 5 * rng.random(),
        "energy_j": None,
        "returns": [float(value) for value in final],
        "lengths": [100] * 100,
        "fingerprint": "0" * 64,
        "command": f"python -m agents.train --env {env} --algo {algo} --seed {seed}",
        "versions": {},
        "at": "2026-11-22T09:00:00+00:00",
    }
    (place / "result.json").write_text(json.dumps(result))


def write_comparison(
    folder: Path,
    tasks: Sequence[tuple[str, str]] = (("CartPole-v1", "ppo"),),
    labels: Mapping[str, tuple[float, float]] | None = None,
    seeds: int = 5,
    asked: int | None = None,
    failures: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a comparison: `labels` -> (skill, steps per second); `asked` seeds of which only `seeds` are finished."""
    labels = labels or {"ours": (0.97, 9_000.0), "sb3": (0.8, 3_000.0)}
    for env, algo in tasks:
        for label, (skill, speed) in labels.items():
            for seed in range(seeds):
                write_run(folder, env, algo, label, seed, skill=skill, speed=speed)
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
            "seeds": list(range(asked or seeds)),
            "left_out": ["norm_advantage_style"] if algo == "ppo" else [],
            "settings": {label: {"learning_rate": 3e-4, "n_envs": 8, "net_arch": [64, 64]} for label in labels},
        }
        for env, algo in tasks
    ]
    references = {
        env: dict(zip(("random", "threshold"), ENVS.get(env, (0.0, 90.0))[:2], strict=True)) for env, _ in tasks
    }
    document = {
        "format": "deep-rl-suite comparison",
        "version": 1,
        "pairs": pairs,
        "references": references,
        "failures": list(failures),
        "commands": ["python -m agents.compare --env CartPole-v1 --seeds 5 --out " + folder.name],
        "machine": {"cpu": "A processor", "cores": 2, "usable": 2, "memory_gb": 8.0, "load": 0.5},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "stable-baselines3": "2.9.2"},
    }
    (folder / "comparison.json").write_text(json.dumps(document))
    return folder
