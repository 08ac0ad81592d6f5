"""Episodes of training, evaluations, the last evaluation and recordings: none is another's; backends agree."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.acting.evaluation import StatelessPolicy
from agents.run.evaluator import Evaluator
from agents.run.run import Run
from envs.adapters.sync import SyncVecEnv
from envs.native.vec_env import NativeVecEnv
from envs.seeding import derive_seed
from tests.run.running import train

WALK = f"{Path(__file__).with_name('carrying_envs.py')}:Walk"
SMALL = "-n 240 --eval-freq 60 --eval-episodes 3 --final-eval-episodes 5 --device cpu --target-reward -1000"
SMALL += " --eval-max-steps 15"
ALGOS = {
    "ppo": "--algo ppo --n-steps 10 --batch-size 10",
    "dqn": "--algo dqn --learning-starts 20 --buffer-size 100 --batch-size 8",
}


def test_streams_of_a_run_are_apart_over_many_seeds() -> None:
    """Base seeds, and those that each backend makes of them for its first episodes."""
    steps = range(0, 2_000, 50)
    for seed in (*range(60), 2**31, 2**40 + 7):
        bases = {
            "training": [derive_seed(seed, "training"), *(derive_seed(seed, "restart", step) for step in steps)],
            "evaluation": [derive_seed(seed, "evaluation", step) for step in steps],
            "confirmation": [derive_seed(seed, "confirmation", step) for step in steps],
            "final": [derive_seed(seed, "final")],
            "recording": [derive_seed(seed, "recording"), *(derive_seed(seed, "video", step) for step in steps)],
            "afterwards": [derive_seed(seed, "evaluate"), derive_seed(seed, "record")],
        }
        cuts = {
            name: [derive_seed(base, "after a cut", n) for base in found for n in (1, 2)]
            for name, found in bases.items()
        }
        every = [base for found in (*bases.values(), *cuts.values()) for base in found]
        assert len(set(every)) == len(every), seed
        if seed < 5:
            episodes = {
                name: {
                    derive_seed(base, "env", row, episode) for base in found for row in range(10) for episode in (0, 1)
                }
                for name, found in bases.items()
            }
            assert sum(map(len, episodes.values())) == len(set().union(*episodes.values())), seed


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("env", [f"{WALK} --vec sync", "CartPole-v1 --vec native"])
def test_what_a_run_plays_never_meets(
    algo: str, env: str, n_envs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All seeds that environments are really reset with, by what they were reset for."""
    seeds: dict[str, set[int]] = defaultdict(set)
    purpose = ["training"]
    evaluate = Run.evaluate
    reset_rows, native_reset = SyncVecEnv._reset_rows, NativeVecEnv.reset

    def evaluating(run: Run, episodes: int, *stream: str | int) -> Any:
        purpose.append({"evaluation": "choosing", "confirmation": "confirming", "final": "final"}[str(stream[0])])
        try:
            run.evaluator._tried = True  # what it tries beforehand is no evaluation
            return evaluate(run, episodes, *stream)
        finally:
            purpose.pop()

    def resetting(self: SyncVecEnv, rows: Any, chosen: Any) -> Any:
        seeds[purpose[-1]].update(chosen)
        return reset_rows(self, rows, chosen)

    def resetting_natively(self: NativeVecEnv, seed: int) -> Any:
        seeds[purpose[-1]].add(seed)
        return native_reset(self, seed)

    monkeypatch.setattr(Run, "evaluate", evaluating)
    monkeypatch.setattr(SyncVecEnv, "_reset_rows", resetting)
    monkeypatch.setattr(NativeVecEnv, "reset", resetting_natively)
    for seed in (0, 1):
        train(tmp_path / str(seed), f"--env {env} {ALGOS[algo]} {SMALL} --n-envs {n_envs} --seed {seed}")
    assert set(seeds) >= {"training", "choosing", "final"}
    every = [seed for found in seeds.values() for seed in found]
    assert len(set(every)) == len(every)


class Seen(StatelessPolicy):
    """Chooses by what is seen, so that returns tell episodes apart."""

    def choose(self, obs: Any, generator: Any) -> Any:
        return (np.asarray(obs)[:, 0] > 0).astype(np.int64)


def test_sync_and_async_evaluate_the_same_episodes() -> None:
    found = {}
    for vec in ("sync", "async"):
        evaluator = Evaluator(WALK, 3, vec=vec, most_episodes=23)
        try:
            found[vec] = [evaluator.evaluate(Seen(), episodes, "evaluation", 7) for episodes in (23, 4)]
        finally:
            evaluator.close()
    for one, other in zip(found["sync"], found["async"], strict=True):
        np.testing.assert_array_equal(one.returns, other.returns)
        np.testing.assert_array_equal(one.lengths, other.lengths)
    assert len(set(found["sync"][0].returns.tolist())) > 5


def test_runs_in_sync_and_async_are_measured_alike(tmp_path: Path) -> None:
    """Whatever their number of environments, which is that of other processes' too."""
    words = f"--env {WALK} {ALGOS['ppo']} -n 60 --eval-freq 0 --final-eval-episodes 25 --n-envs 3 --device cpu"
    one, other = (
        json.loads((train(tmp_path / vec, f"{words} --vec {vec}") / "final_episodes.json").read_text())
        for vec in ("sync", "async")
    )
    assert one == other
