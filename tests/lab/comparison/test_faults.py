"""Faults planted in an algorithm: the command trains it beside the healthy one, and says that it is worse."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import compare
from agents.lab.comparison import runner
from envs.adapters.sync import SyncVecEnv
from tests.lab.comparison.running import run_jobs_here
from tests.marks import long_test
from tests.printed import printed_json

USER_ENVS = Path(__file__).with_name("user_envs.py")


@pytest.fixture
def verdict(tmp_path, monkeypatch, capsys, sketched):
    """Return what `agents.compare` says of ours beside ours with a fault, every run in this process."""

    def judged(settings: str, patch: Any = None, *, seeds: int, **flags: Any) -> str:
        @contextmanager
        def planted(job):
            with pytest.MonkeyPatch.context() as patched:
                if patch is not None and job.label == "faulty":
                    patched.setattr(*patch)
                yield

        monkeypatch.setattr(runner, "run_jobs", partial(run_jobs_here, around=planted))
        (tmp_path / "faulty.yaml").write_text(settings)
        words = ["--against", str(tmp_path / "faulty.yaml"), "--out", str(tmp_path / "out"), "--seeds", str(seeds)]
        flags |= {"eval_freq": flags["total_timesteps"], "final_eval_episodes": 20}
        words += [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        assert compare.main([*words, "--json"]) == 0
        told = printed_json(capsys)
        assert (told["trained"], told["failed"]) == (2 * seeds, 0)
        (headline,) = told["headlines"]
        return headline

    return judged


def test_a_cut_taken_for_an_end_is_worse(verdict):
    step = SyncVecEnv.step

    def merging(self, action):
        found = step(self, action)
        ended = found.terminated | found.truncated
        return dataclasses.replace(found, terminated=ended, truncated=np.zeros_like(ended))

    env = f"{USER_ENVS}:Shifts"
    said = verdict("{}", (SyncVecEnv, "step", merging), env=env, seeds=3, total_timesteps=20_000)
    assert said == f"Ours is better than faulty on {env}, PPO."


@long_test
def test_advantages_that_are_not_normalised_are_worse(verdict):
    env = f"{USER_ENVS}:Match"
    said = verdict("normalize_advantage: false", env=env, seeds=4, total_timesteps=16_000)
    assert said == f"Ours is better than faulty on {env}, PPO."


@long_test
def test_a_target_network_that_is_never_moved_is_worse(verdict, tmp_path, monkeypatch):
    healthy = tmp_path / "configs" / "dqn" / "CartPole-v1.yaml"  # settings of its own: the packaged ones may change
    healthy.parent.mkdir(parents=True)
    healthy.write_text(
        "n_envs: 8\nlearning_rate: lin_4e-3\nbatch_size: 256\nbuffer_size: 50000\nlearning_starts: 1000\n"
        "train_freq: 16\ngradient_steps: 2\ntarget_update_interval: 256\ngamma: 0.98\nn_step_returns: 2\n"
        "exploration_fraction: 0.16\nexploration_final_eps: 0.04\nnet_arch: [64, 64]\n"
    )
    monkeypatch.setattr("agents.run.config.CONFIGS", tmp_path / "configs")
    never = "target_update_interval: 1000000"
    said = verdict(never, env="CartPole-v1", algos="dqn", seeds=4, total_timesteps=16_000)
    assert said == "Ours is better than faulty on CartPole-v1, DQN."
