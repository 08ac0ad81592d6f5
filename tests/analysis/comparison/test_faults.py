"""Faults planted in an algorithm: trained by the machinery of comparisons, its statistics call them worse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.analysis.comparison.findings import Outcome, find
from agents.analysis.comparison.plan import all_jobs
from agents.analysis.comparison.record import Record
from agents.analysis.comparison.results import load_comparison
from envs.adapters.sync import SyncVecEnv
from tests.analysis.comparison.running import here, pairs_of

USER_ENVS = Path(__file__).with_name("user_envs.py")


def outcome(out: Path, settings: str, patch: Any = None, **asked: Any) -> Outcome:
    """Train ours beside ours with a fault; return what the statistics say of ours."""
    file = out / "faulty.yaml"
    file.write_text(settings)
    common = {"env_kwargs": {}, "seeds": 3, "eval_freq": asked["total_timesteps"], "final_eval_episodes": 20}
    pairs = pairs_of([str(file)], **(common | asked))
    record = Record(out)
    record.add(pairs)
    record.save()
    for job in all_jobs(pairs):
        with pytest.MonkeyPatch.context() as monkeypatch:
            if patch is not None and job.label == "faulty":
                monkeypatch.setattr(*patch)
            here(job, out)
    findings = find(load_comparison(out))
    (contest,) = findings.contests[pairs[0].env, pairs[0].algo]
    assert contest.against == "faulty"
    return contest.outcome


def test_a_cut_taken_for_an_end_is_worse(tmp_path):
    step = SyncVecEnv.step

    def merging(self, action):
        found = step(self, action)
        ended = found.terminated | found.truncated
        return dataclasses.replace(found, terminated=ended, truncated=np.zeros_like(ended))

    patch = (SyncVecEnv, "step", merging)
    asked = {"envs": [f"{USER_ENVS}:Shifts"], "total_timesteps": 20_000}
    assert outcome(tmp_path, "{}", patch, **asked) is Outcome.BETTER


def test_advantages_that_are_not_normalised_are_worse(tmp_path):
    asked = {"envs": [f"{USER_ENVS}:Match"], "total_timesteps": 16_000, "seeds": 4}
    assert outcome(tmp_path, "normalize_advantage: false", **asked) is Outcome.BETTER


def test_a_target_network_that_is_never_moved_is_worse(tmp_path, monkeypatch):
    healthy = tmp_path / "configs" / "dqn" / "CartPole-v1.yaml"  # settings of its own: the packaged ones may change
    healthy.parent.mkdir(parents=True)
    healthy.write_text(
        "n_envs: 8\nlearning_rate: lin_4e-3\nbatch_size: 256\nbuffer_size: 50000\nlearning_starts: 1000\n"
        "train_freq: 16\ngradient_steps: 2\ntarget_update_interval: 256\ngamma: 0.98\nn_step_returns: 3\n"
        "exploration_fraction: 0.16\nexploration_final_eps: 0.04\nnet_arch: [64, 64]\n"
    )
    monkeypatch.setattr("agents.experiment.config.CONFIGS", tmp_path / "configs")
    asked = {"algo": "dqn", "total_timesteps": 8_000, "seeds": 4}
    assert outcome(tmp_path, "target_update_interval: 1000000", **asked) is Outcome.BETTER
