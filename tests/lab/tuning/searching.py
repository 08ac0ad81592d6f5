"""Searches that are small: settings of PPO on CartPole, a few hundred steps each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.lab.tuning.plan import Plan
from agents.lab.tuning.space import Range, Space
from agents.lab.tuning.study import Study
from agents.run.config import FLAGS, Layer, resolve

SMALL = {"env": "CartPole-v1", "algo": "ppo", "n_envs": 2, "n_steps": 32, "batch_size": 32, "device": "cpu"}
SPACE: Space = {"learning_rate": Range(1e-4, 1e-2, log=True), "n_epochs": Range(1, 4, whole=True)}


def base(**values: Any) -> dict[str, Any]:
    """Return settings that trials change, flat."""
    small = {name: value for name, value in SMALL.items() if values.get("algo", "ppo") == "ppo" or name != "n_steps"}
    given = {**small, "total_timesteps": 256, "eval_freq": 0, "target_reward": None, **values}
    config = resolve([Layer(FLAGS, given)], packaged=False)
    return {name: value for name, value in config.model_dump(mode="json").items() if name != "seed"}


def small_plan(**changed: Any) -> Plan:
    """Return a plan of trials that take a moment."""
    values: dict[str, Any] = {
        **{"base": base(), "space": SPACE, "objective": "return", "threshold": None, "seeds": 1, "evaluations": 2},
        **{"eval_episodes": 2, "sampling": "random", "pruning": "none"},
    }
    return Plan(**{**values, **changed})


def small_study(folder: Path, trials: int = 3, **changed: Any) -> Study:
    """Begin a study in a folder."""
    study = Study(folder, None, small_plan(**changed))
    study.want(trials)
    return study
